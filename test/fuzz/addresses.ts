import { isIP } from 'node:net'
import fc from 'fast-check'
import { addressConsumer, clientAddress } from '../../src/gateway/address.js'
import { parseProxyHeader } from '../../src/gateway/proxy-protocol.js'
import { proxyV1, proxyV2 } from '../support/proxy-header.js'
import { holds, must, mutated, type Target } from './target.js'

const v6 = (words: readonly number[]) => words.map((word) => word.toString(16)).join(':')
const address = fc.oneof(
  fc.ipV4(),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }).map(v6),
  fc.constantFrom('::1', '::ffff:192.0.2.1', 'fe80::1', '10.0.0.1', '10.0.0.2', '2001:db8::1'),
)
const TOKENS = [
  ...[
    ',',
    ', ',
    ' ',
    ':',
    '::',
    '.',
    '[',
    ']',
    '%',
    '%eth0',
    'unknown',
    '_hidden',
    '"',
    '0',
    '00',
    '999',
    ':80',
    '\t',
  ],
  ...[
    '::ffff:',
    '127.0.0.1',
    '0x7f.1',
    '1.2.3',
    '1.2.3.4.5',
    '/24',
    'for=',
    ';',
    '\r\n',
    '\0',
    'é',
    '10.0.0.1',
  ],
]
const forwardedFor = fc.option(
  mutated(
    fc.array(address, { maxLength: 6 }).map((all) => all.join(', ')),
    TOKENS,
  ),
  { nil: undefined },
)

/** In front stand those of 10.0.0.0/8. */
const isTrusted = (text: string) => /^10(?:\.\d{1,3}){3}$/.test(text)

export const forwarded: Target = {
  name: 'forwarded',
  what: 'the client’s address is one, and nothing left of what an untrusted one wrote changes it',
  short: 2000,
  open: () =>
    holds(
      fc.record({ peer: address, forwardedFor, before: fc.string() }),
      ({ peer, forwardedFor, before }) => {
        const found = clientAddress(peer, forwardedFor, isTrusted)
        must(isIP(found) !== 0, 'is no address')
        if (!isTrusted(peer))
          must(found === clientAddress(peer, undefined, isTrusted), 'is believed of anybody')
        else if (!isTrusted(found)) {
          must(
            clientAddress(peer, `${before},${forwardedFor}`, isTrusted) === found,
            'is changed by what is in front',
          )
        }
        must(addressConsumer(found).length <= 64, 'makes a long id')
      },
    ),
}

const TLVS = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))
const port = fc.integer({ min: 0, max: 65_535 })
const proxyHeader = mutated(
  fc
    .oneof(
      fc.tuple(fc.ipV4(), port).map(([ip, port]) => proxyV1(ip, port)),
      fc.tuple(fc.constantFrom('2001:db8::7', 'fe80::1:2'), port).map(([ip, port]) => proxyV1(ip, port)),
      fc
        .tuple(fc.constantFrom('192.0.2.1', '2001:db8::7'), port, TLVS, fc.constantFrom(0, 1, 2, 15))
        .map((parts) => proxyV2(...parts)),
      fc.constantFrom(
        Buffer.from('PROXY UNKNOWN\r\n'),
        Buffer.from('GET / HTTP/1.1\r\n\r\n'),
        Buffer.alloc(0),
      ),
    )
    .map((bytes) => `${bytes.toString('latin1')}GET / HTTP/1.1\r\nHost: a\r\n\r\n`),
  [
    'PROXY ',
    'TCP4',
    'TCP6',
    'UNKNOWN',
    ' ',
    '\r\n',
    '\r',
    '\n',
    '65536',
    '-1',
    '\0',
    '\x21',
    '\x11',
    '\xff\xff',
    '1.1.1.1',
  ],
)

export const proxyProtocol: Target = {
  name: 'proxy',
  what: 'a PROXY header is read the same whatever pieces it comes in, is bounded, and names an address',
  short: 1500,
  open: () =>
    holds(proxyHeader, (text) => {
      const bytes = Buffer.from(text, 'latin1')
      const whole = parseProxyHeader(bytes)
      if (typeof whole === 'object') {
        must(whole.length <= bytes.length && whole.length <= 16 + 4096, 'takes more than there is')
        if (whole.client !== undefined) {
          must(isIP(whole.client.address) !== 0, `names ${whole.client.address}`)
          must(whole.client.port >= 0 && whole.client.port <= 65_535, 'names a port that is none')
        }
      } else if (whole === undefined) must(bytes.length < 16 + 4096, 'waits for ever')
      for (let length = 0; length < Math.min(bytes.length, 150); length++) {
        const part = parseProxyHeader(bytes.subarray(0, length))
        if (part === undefined) continue
        must(JSON.stringify(part) === JSON.stringify(whole), `${length} bytes of it are read differently`)
        break
      }
    }),
}

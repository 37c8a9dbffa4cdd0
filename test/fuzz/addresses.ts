import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { blocksIn, readAddressFile } from '../../src/config/values/address-file.js'
import { clientAddress } from '../../src/gateway/exchange/address.js'
import { parseProxyHeader } from '../../src/gateway/listen/proxy-protocol.js'
import { addressKey } from '../../src/net/address-key.js'
import { type Block, createBlock, formatBlock, readAddress, readBlock } from '../../src/net/parse-cidr.js'
import { createPrefixTrie } from '../../src/net/prefix-trie.js'
import { proxyV1, proxyV2 } from '../support/http/proxy-header.js'
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

/** Addresses of proxies in front: 10.0.0.0/8. */
const isTrusted = (text: string) => /^10(?:\.\d{1,3}){3}$/.test(text)

export const forwarded: Target = {
  name: 'forwarded',
  what: 'the client has one address, and nothing that an untrusted sender adds in front changes it',
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
        must(addressKey(found).length <= 64, 'makes a long id')
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
  what: 'a PROXY header is read the same in any number of pieces, is bounded, and names an address',
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

const blocks = fc.array(
  fc.tuple(address, fc.option(fc.integer({ min: 0, max: 128 }), { nil: undefined })).map(([text, length]) => {
    const block = createBlock()
    // Mostly without bits set behind the prefix: a list with a mistake is refused, and shows nothing more.
    const whole = length === undefined ? text : `${text}/${text.includes(':') ? length : length % 33}`
    return readBlock(whole, block) === 'malformed' ? whole : formatBlock(block)
  }),
  { maxLength: 20 },
)
const list = mutated(
  blocks.map((all) => all.join('\n')),
  [
    '\n',
    '\r\n',
    '#',
    ' # ',
    '/',
    '/0',
    '/32',
    '/33',
    '/129',
    '/024',
    '::',
    ':',
    '.',
    '\t',
    '\0',
    '%',
    '\ufeff',
    ',',
    '-',
  ],
  2,
)

function holdsAddress({ family, words, length }: Block, of: number, address: Uint32Array): boolean {
  if (family !== of) return false
  for (let bit = 0; bit < length; bit++) {
    if ((((words[bit >> 5]! ^ address[bit >> 5]!) >>> (31 - (bit & 31))) & 1) === 1) return false
  }
  return true
}

export const lists: Target = {
  name: 'lists',
  what: 'a list of addresses is refused with its line, or matches what a comparison bit by bit does',
  short: 800,
  open(t) {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-fuzz-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'list.txt')
    return holds(
      fc.record({ list, asked: fc.array(address, { minLength: 1, maxLength: 8 }) }),
      ({ list, asked }) => {
        writeFileSync(file, list)
        const faults: string[] = []
        const read = readAddressFile(file, (wrong) => void faults.push(wrong))
        if (read === undefined) {
          must(
            faults.length === 1 &&
              /^has (no address block|bits set behind a prefix) on line \d+, "/.test(faults[0]!),
            `refused for ${faults}`,
          )
          must(!/[\0-\x1f]/.test(faults[0]!), 'the fault has what steers a terminal')
          return
        }
        const trie = createPrefixTrie()
        const known = [...blocksIn(read)].map((text) => {
          const block = createBlock()
          must(readBlock(text, block) === undefined, `${text} is taken, and is no block`)
          const again = createBlock()
          must(readBlock(formatBlock(block), again) === undefined, `${formatBlock(block)} is not read again`)
          must(formatBlock(again) === formatBlock(block), `${text} is written in two ways`)
          trie.set(block, Number.POSITIVE_INFINITY)
          return block
        })
        const words = new Uint32Array(4)
        for (const text of [...asked, ...known.map((block) => formatBlock(block).replace(/\/.*/, ''))]) {
          const family = readAddress(text, words)
          if (family === 0) continue
          const expected = known.some((block) => holdsAddress(block, family, words))
          must(
            (trie.match(family, words, 0) !== 0) === expected,
            `${text} is ${expected ? 'let in' : 'turned away'}`,
          )
        }
      },
    )
  },
}

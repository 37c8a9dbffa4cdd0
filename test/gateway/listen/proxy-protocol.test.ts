import fc from 'fast-check'
import t from 'tap'
import { parseProxyHeader } from '../../../src/gateway/listen/proxy-protocol.js'
import { proxyV1, proxyV2 } from '../../support/http/proxy-header.js'

const bytes = (text: string) => Buffer.from(text, 'latin1')
const behind = bytes('GET / HTTP/1.1\r\n\r\n')

const ipv4 = fc.ipV4()
const ipv6 = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 })
  .map((words) => words.map((word) => word.toString(16)).join(':'))
const port = fc.integer({ min: 0, max: 65_535 })
const shortest = (address: string) => new URL(`http://[${address}]`).hostname.slice(1, -1)
/** Sockets and URLs spell IPv4-mapped IPv6 in their own ways. */
const pure = ipv6.filter((address) => !/^(?:0:){5}/.test(address))

t.test(
  'versions 1 and 2 give back the client that was written, and take none of the bytes after',
  async (t) => {
    fc.assert(
      fc.property(fc.oneof(ipv4, pure), port, fc.uint8Array({ maxLength: 300 }), (address, from, tlvs) => {
        const expected = address.includes(':') ? shortest(address) : address
        for (const header of [proxyV1(address, from), proxyV2(address, from, Buffer.from(tlvs))]) {
          const read = parseProxyHeader(Buffer.concat([header, behind]))
          t.same(read, { length: header.length, client: { address: expected, port: from } })
        }
      }),
      { numRuns: 200 },
    )
  },
)

t.test('a header is not read before its last byte has come', async (t) => {
  for (const header of [
    proxyV1('192.0.2.1', 1),
    proxyV1('2001:db8::1', 65_535),
    bytes('PROXY UNKNOWN\r\n'),
    proxyV2('192.0.2.1', 1),
    proxyV2('2001:db8::1', 2, Buffer.alloc(100, 4)),
  ]) {
    for (let length = 0; length < header.length; length++) {
      t.equal(parseProxyHeader(header.subarray(0, length)), undefined, `${length} of ${header.length}`)
    }
    t.match(parseProxyHeader(header), { length: header.length })
  }
})

t.test('for any bytes the parser does not throw, read too far or wait forever', async (t) => {
  const start = fc.constantFrom(
    bytes(''),
    bytes('PROXY '),
    bytes('PROXY TCP4 '),
    bytes('PROXY TCP6 ::1 '),
    proxyV2('1.2.3.4', 1).subarray(0, 12),
    proxyV2('1.2.3.4', 1).subarray(0, 14),
  )
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 5_000 }), (begin, rest) => {
      const all = Buffer.concat([begin, Buffer.from(rest)])
      const read = parseProxyHeader(all)
      if (read === undefined) return all.length < 16 + 4096
      if (typeof read === 'string') return read.length > 0
      return read.length <= all.length && read.length > 0
    }),
    { numRuns: 2_000 },
  )
  t.match(parseProxyHeader(Buffer.concat([bytes('PROXY '), Buffer.alloc(101, 0x41)])), /without an end/)
})

t.test('LOCAL keeps the address of the connection, an unknown client has none', async (t) => {
  t.same(parseProxyHeader(proxyV2('192.0.2.1', 1, Buffer.alloc(0), 0)), { length: 28, client: undefined })
  const unknown = { address: '0.0.0.0', port: 0 }
  t.same(parseProxyHeader(bytes('PROXY UNKNOWN\r\n')), { length: 15, client: unknown })
  t.same(parseProxyHeader(bytes('PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n')), { length: 35, client: unknown })
  const unspecified = Buffer.concat([proxyV2('1.2.3.4', 1).subarray(0, 13), Buffer.from([0, 0, 0])])
  t.same(parseProxyHeader(unspecified), { length: 16, client: unknown })
})

t.test('a malformed header is reported as malformed', async (t) => {
  const v2 = (...changes: [at: number, value: number][]) => {
    const header = Buffer.from(proxyV2('192.0.2.1', 1))
    for (const [at, value] of changes) header[at] = value
    return header
  }
  for (const wrong of [
    'GET / HTTP/1.1\r\n',
    'proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n',
    'PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n',
    'PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n',
    'PROXY TCP4 ::1 ::1 1 2\r\n',
    'PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n',
    'PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n',
    'PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY TCP5 ::1 ::1 1 2\r\n',
    '\r\n\r\n\0\r\nQUIX',
    '\x16\x03\x01',
  ]) {
    t.type(parseProxyHeader(bytes(wrong)), 'string', JSON.stringify(wrong))
  }
  t.match(parseProxyHeader(v2([12, 0x11])), /unknown kind/, 'version 1 in a version 2 header')
  t.match(parseProxyHeader(v2([12, 0x22])), /unknown kind/, 'a command that there is not')
  t.match(parseProxyHeader(v2([14, 0xff])), /more than 4096 bytes/)
  t.match(parseProxyHeader(v2([15, 11])), /too short/)
  t.match(parseProxyHeader(v2([13, 0x21])), /too short/, 'IPv6 in the room of IPv4')
})

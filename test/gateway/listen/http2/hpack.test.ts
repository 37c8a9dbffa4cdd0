// Tests src/gateway/listen/http2/huffman.ts
import fc from 'fast-check'
import t from 'tap'
import { ConnectionError } from '../../../../src/gateway/listen/http2/frames.js'
import { encodeFields, encodeStatus, HpackDecoder } from '../../../../src/gateway/listen/http2/hpack.js'
import { headerBlock } from '../../../support/http/http2-frames.js'

const decoder = (most = 100, bytes = 16_384) => new HpackDecoder(most, bytes)
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

function read(one: HpackDecoder, block: Buffer): string[] {
  one.decode(block, 0, block.length)
  return one.fields
}

t.test('the requests of RFC 7541 C.3 and C.4, with and without Huffman code', async (t) => {
  const plain = [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ]
  const coded = [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ]
  const www = [':authority', 'www.example.com']
  const expected = [
    [':method', 'GET', ':scheme', 'http', ':path', '/', ...www],
    [':method', 'GET', ':scheme', 'http', ':path', '/', ...www, 'cache-control', 'no-cache'],
    [':method', 'GET', ':scheme', 'https', ':path', '/index.html', ...www, 'custom-key', 'custom-value'],
  ]
  for (const blocks of [plain, coded]) {
    const one = decoder()
    t.same(
      blocks.map((block) => read(one, hex(block))),
      expected,
    )
    t.equal(one.malformed, false)
  }
})

t.test('the responses of RFC 7541 C.6: Huffman code of every length', async (t) => {
  const one = decoder()
  const block = hex(
    '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
  )
  t.same(read(one, block), [
    ':status',
    '302',
    'cache-control',
    'private',
    'date',
    'Mon, 21 Oct 2013 20:13:21 GMT',
    'location',
    'https://www.example.com',
  ])
  t.same(read(one, hex('4883 640e ffc1 c0bf')), [
    ':status',
    '307',
    'cache-control',
    'private',
    'date',
    'Mon, 21 Oct 2013 20:13:21 GMT',
    'location',
    'https://www.example.com',
  ])
})

t.test('a table that is made smaller forgets, and remembers nothing that does not fit', async (t) => {
  const one = decoder()
  const keep = (name: string, value: string) =>
    Buffer.concat([Buffer.from([0x40]), headerBlock([[name, value]]).subarray(1)])
  read(one, Buffer.concat([keep('a', '1'), keep('b', '2')]))
  t.same(read(one, Buffer.from([0xbe, 0xbf])), ['b', '2', 'a', '1'])
  // 34 bytes: room for one.
  t.same(read(one, Buffer.from([0x3f, 0x03, 0xbe])), ['b', '2'])
  t.throws(() => read(one, Buffer.from([0xbf])), { code: 9 })
  read(one, keep('longer', 'than fits'))
  t.throws(() => read(one, Buffer.from([0xbe])), { code: 9 })
})

t.test('what RFC 9113 §8.2.1 forbids is noticed, also out of the table', async (t) => {
  for (const [name, value] of [
    ['x', 'a\0'],
    ['x', 'a\r'],
    ['x', '\n'],
    ['x', ' a'],
    ['x', 'a\t'],
    ['x', '\x7f'],
    ['X', 'a'],
    ['x y', 'a'],
    ['x:', 'a'],
    ['', 'a'],
    ['\xe4', 'a'],
  ] as const) {
    const one = decoder()
    const block = headerBlock([[name, value]])
    block[0] = 0x40
    read(one, block)
    t.equal(one.malformed, true, JSON.stringify([name, value]))
    read(one, Buffer.from([0xbe]))
    t.equal(one.malformed, true, 'by its index')
    read(one, Buffer.from([0x82]))
    t.equal(one.malformed, false, 'and no longer than its block')
  }
  const one = decoder()
  t.same(
    read(
      one,
      headerBlock([
        ['x', 'a b\t\xff'],
        ['y', ''],
      ]),
    ),
    ['x', 'a b\t\xff', 'y', ''],
  )
  t.equal(one.malformed, false)
})

t.test('more than is allowed is not kept, and the table goes on', async (t) => {
  const one = decoder(2, 1_000)
  read(
    one,
    headerBlock([
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ]),
  )
  t.same([one.tooLarge, one.fields], [true, []])
  read(one, headerBlock([['a', 'y'.repeat(1_000)]]))
  t.same([one.tooLarge, one.fields], [true, []])
  const keep = headerBlock([['k', 'v']])
  keep[0] = 0x40
  read(
    one,
    Buffer.concat([
      headerBlock([
        ['a', '1'],
        ['b', '2'],
        ['c', '3'],
      ]),
      keep,
    ]),
  )
  t.same([read(one, Buffer.from([0xbe])), one.tooLarge], [['k', 'v'], false])
})

t.test('what is encoded is decoded to the same, without what belongs to a connection', async () => {
  const name = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}$/).map((text) => `x-${text}`)
  const value = fc.stringMatching(/^([!-~\x80-\xff]([\t !-~\x80-\xff]{0,300}[!-~\x80-\xff])?)?$/)
  const known = fc.constantFrom('Set-Cookie', 'vary', 'Server', 'connection', 'Transfer-Encoding')
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.oneof(name, known), value), { maxLength: 20 }), (pairs) => {
      const sent = pairs
        .map(([key, text]) => [key.toLowerCase(), text] as const)
        .filter(([key]) => key !== 'connection' && key !== 'transfer-encoding')
      const got = read(decoder(), Buffer.from(encodeFields(pairs.flat()), 'latin1'))
      return JSON.stringify(got) === JSON.stringify(sent.flat())
    }),
    { numRuns: 300 },
  )
})

t.test('a field that cannot be sent is told, one that may come once comes once', async (t) => {
  for (const wrong of [
    ['a b', '1'],
    ['', '1'],
    ['x', 'a\nb'],
    ['x', '\u0100'],
    ['x:', '1'],
  ])
    t.throws(() => encodeFields(wrong), TypeError)
  const twice = encodeFields(['ETag', '1', 'X-A', '1', 'etag', '2', 'x-a', '2'])
  t.same(read(decoder(), Buffer.from(twice, 'latin1')), ['etag', '1', 'x-a', '1', 'x-a', '2'])
  for (const status of [200, 204, 404, 103, 599])
    t.same(read(decoder(), Buffer.from(encodeStatus(status), 'latin1')), [':status', String(status)])
})

t.test('whatever comes is decoded, or is an error of the connection', async () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 5 }), (blocks) => {
      const one = decoder()
      try {
        for (const block of blocks) one.decode(Buffer.from(block), 0, block.length)
      } catch (error) {
        return error instanceof ConnectionError
      }
      return true
    }),
    { numRuns: 5_000 },
  )
})

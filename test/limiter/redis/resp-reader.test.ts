import fc from 'fast-check'
import t from 'tap'
import {
  createRespReader,
  decodeReply,
  type RespReader,
  readReply,
} from '../../../src/limiter/redis/resp-reader.js'

const line = fc.string({ maxLength: 8, unit: 'binary-ascii' }).map((text) => text.replace(/[\r\n]/g, ' '))
const text = fc.string({ maxLength: 20, unit: 'binary' })
const bulk = (kind: string, text: string) => `${kind}${Buffer.byteLength(text)}\r\n${text}\r\n`

/** Every type of RESP2 and RESP3, nested. */
const { reply } = fc.letrec<{ reply: string; leaf: string }>((tie) => ({
  leaf: fc.oneof(
    fc.maxSafeInteger().map((n) => `:${n}\r\n`),
    fc.bigInt({ min: -(10n ** 60n), max: 10n ** 60n }).map((n) => `(${n}\r\n`),
    line.map((text) => `+${text}\r\n`),
    line.map((text) => `-${text}\r\n`),
    fc.double().map((n) => `,${n}\r\n`),
    text.map((text) => bulk('$', text)),
    text.map((text) => bulk('!', text)),
    text.map((text) => bulk('=', `txt:${text}`)),
    fc.constantFrom('_\r\n', '#t\r\n', '#f\r\n', '$-1\r\n', '*-1\r\n', '*0\r\n', '%0\r\n', ':+5\r\n'),
  ),
  reply: fc.oneof(
    { depthSize: 'small', maxDepth: 8 },
    tie('leaf'),
    fc.array(tie('reply'), { maxLength: 5 }).map((items) => `*${items.length}\r\n${items.join('')}`),
    fc.array(tie('reply'), { maxLength: 3 }).map((items) => `~${items.length}\r\n${items.join('')}`),
    fc
      .array(fc.tuple(tie('leaf'), tie('reply')), { maxLength: 3 })
      .map((pairs) => `%${pairs.length}\r\n${pairs.flat().join('')}`),
  ),
}))
const push = reply.map((reply) => `>2\r\n+message\r\n${reply}`)

/** Returns the offsets at which replies end. */
function endsOf(reader: RespReader, bytes: Buffer, cuts: readonly number[]): number[] {
  const ends: number[] = []
  const borders = [...new Set([0, ...cuts.filter((cut) => cut < bytes.length), bytes.length])]
  borders.sort((a, b) => a - b)
  for (let i = 0; i + 1 < borders.length; i++) {
    const chunk = bytes.subarray(borders[i], borders[i + 1])
    for (let at = 0; at < chunk.length; ) {
      at = readReply(reader, chunk, at)
      if (at < 0) break
      ends.push(borders[i]! + at)
    }
  }
  return ends
}

t.test('the ends of replies are found, however the bytes are cut', async () => {
  const cuts = fc.oneof(fc.array(fc.nat(200)), fc.constant(Array.from({ length: 2000 }, (_, i) => i)))
  fc.assert(
    fc.property(fc.array(fc.oneof(reply, push), { maxLength: 6 }), cuts, (replies, cuts) => {
      const bytes = replies.map((reply) => Buffer.from(reply))
      let end = 0
      const expected = bytes.map(({ length }) => (end += length))
      const reader = createRespReader(100_000)
      const ends = endsOf(reader, Buffer.concat(bytes), cuts)
      return JSON.stringify(ends) === JSON.stringify(expected) && reader.size === 0
    }),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 500) },
  )
})

t.test('any bytes get the same verdict, however they are cut', async () => {
  const tokens = [
    ':',
    '$',
    '*',
    '%',
    '~',
    '>',
    '_',
    '#',
    '(',
    '=',
    '!',
    '+',
    '-',
    '1',
    '2',
    '0',
    '\r\n',
    '\r',
    'x',
  ]
  const bytes = fc.array(fc.oneof(fc.constantFrom(...tokens), reply), { maxLength: 12 })
  const outcome = (bytes: Buffer, cuts: readonly number[]) => {
    try {
      return endsOf(createRespReader(1000), bytes, cuts).join()
    } catch (error) {
      return (error as Error).constructor.name
    }
  }
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(60)), (parts, cuts) => {
      const all = Buffer.from(parts.join(''))
      const whole = outcome(all, [])
      return outcome(all, cuts) === whole && !/^(Type|Range)Error/.test(whole)
    }),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 500) },
  )
})

t.test('malformed bytes are refused where they begin', async (t) => {
  const wrong = [
    ['HTTP/1.1 200 OK\r\n\r\n', /no reply begins with the byte 72/],
    ['|1\r\n', /no reply begins/],
    [':\r\n', /not a digit/],
    [':1x\r\n', /not a digit/],
    [':--1\r\n', /not a digit/],
    [':1\n', /not a digit/],
    [':1\rx', /does not end/],
    ['+a\rb\r\n', /does not end/],
    ['$-2\r\n', /negative/],
    ['$-01\r\n', /negative/],
    ['%-1\r\n', /not a digit/],
    ['>-1\r\n', /not a digit/],
    ['$?\r\n', /not a digit/],
    ['$1\r\nab\r\n', /a string does not end/],
    ['$0\r\nab', /a string does not end/],
    ['=3\r\ntxt\r\n', /too short/],
    ['#x\r\n', /boolean/],
    ['_x\r\n', /does not end/],
    ['*1\r\n>1\r\n:1\r\n', /a message inside/],
    [`:${'1'.repeat(65)}\r\n`, /too many digits/],
    ['*1\r\n'.repeat(17), /more than 16 deep/],
    ['$1001\r\n', /longer than 1000 bytes/],
    ['*400\r\n', /longer than 1000 bytes/],
    ['%200\r\n', /longer than 1000 bytes/],
    ['*99999999999\r\n', /longer than 1000 bytes/],
    [`*2\r\n$500\r\n${'x'.repeat(500)}\r\n$500\r\n`, /longer than 1000 bytes/],
    [`+${'x'.repeat(1000)}`, /longer than 1000 bytes/],
  ] as const
  for (const [bytes, message] of wrong) {
    t.throws(
      () => readReply(createRespReader(1000), Buffer.from(bytes), 0),
      { message },
      JSON.stringify(bytes),
    )
    const reader = createRespReader(1000)
    t.throws(() => [...Buffer.from(bytes)].map((byte) => readReply(reader, Buffer.of(byte), 0)), { message })
  }
})

t.test('a reply that was found complete can be decoded', async (t) => {
  const decoded = (text: string) => decodeReply(Buffer.from(text))
  t.same(decoded('*4\r\n:-1\r\n$2\r\né\r\n$-1\r\n*1\r\n+OK\r\n'), [-1, 'é', null, ['OK']])
  t.same(decoded('>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n'), ['message', 'c', ''])
  t.same(decoded('*6\r\n%1\r\n:1\r\n:2\r\n~1\r\n:1\r\n,1.5\r\n#t\r\n=5\r\ntxt:x\r\n_\r\n'), [
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
    null,
  ])
  fc.assert(
    fc.property(reply, (reply) => {
      decodeReply(Buffer.from(reply))
    }),
  )
})

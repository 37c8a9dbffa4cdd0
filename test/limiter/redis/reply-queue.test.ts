// Tests src/limiter/redis/{reply-queue,resp-reader}.ts
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import t from 'tap'
import { createReplyQueue } from '../../../src/limiter/redis/reply-queue.js'
import { type Integers, readIntegers } from '../../../src/limiter/redis/resp-reader.js'
import { asTheFullReader, cuts, input } from '../../fuzz/replies.js'

const numRuns = Number(process.env.CONTRACT_RUNS ?? 10_000)

t.test(
  'whatever comes, each command gets what the full reader reads, however the bytes are cut',
  async () => {
    fc.assert(
      fc.property(input, cuts, (one, cuts) => asTheFullReader(one, cuts)),
      { numRuns },
    )
  },
)

t.test('integers are read as the full reader reads them, or not at all', async (t) => {
  const integer = fc.oneof(
    fc.maxSafeInteger(),
    fc.integer(),
    fc.constantFrom(0, -1, 2 ** 53 - 1, 1 - 2 ** 53),
  )
  let read = 0
  fc.assert(
    fc.property(fc.array(integer, { maxLength: 40 }), fc.nat(9), (values, from) => {
      const text = `*${values.length}\r\n${values.map((value) => `:${value}\r\n`).join('')}`
      const bytes = Buffer.from('x'.repeat(from) + text)
      const into: Integers = { values: [], end: 0 }
      if (!readIntegers(bytes, from, into)) return false
      read++
      return into.end === bytes.length && into.values.join() === values.join()
    }),
    { numRuns: 500 },
  )
  t.ok(read >= 500)
  for (const text of ['*1\r\n:9007199254740993\r\n', '*1\r\n:-9999999999999999\r\n']) {
    const into: Integers = { values: [], end: 0 }
    t.ok(readIntegers(Buffer.from(text), 0, into))
    t.notOk(Number.isSafeInteger(into.values[0]), 'one that is too large stays too large')
  }
})

t.test('a reply for which nobody waits ends the connection, and so does a message', async (t) => {
  const replies = createReplyQueue()
  t.throws(() => replies.read(Buffer.from('*1\r\n:1\r\n')), /without a command/)
  t.throws(() => createReplyQueue().read(Buffer.from('+')), /without a command/)
  t.throws(() => createReplyQueue().read(Buffer.from('>1\r\n:1\r\n')), /without a subscription/)
})

t.test('a reply longer than the longest one is refused when it is announced', async (t) => {
  for (const bytes of ['$262144\r\n', '*100000\r\n', '*1000000000\r\n', `+${'x'.repeat(262_144)}`]) {
    const replies = createReplyQueue()
    replies.expect(() => t.fail('it is no reply'))
    t.throws(() => replies.read(Buffer.from(bytes)), /longer than/, bytes.slice(0, 20))
  }
})

t.test('replies go to their commands in order, also to thousands at once', async (t) => {
  const replies = createReplyQueue()
  const seen: unknown[] = []
  let sent = 0
  const send = (count: number) => {
    for (let i = 0; i < count; i++) {
      const number = sent++
      replies.expect((_error, reply) => seen.push([number, reply]))
    }
  }
  let answered = 0
  const answer = (count: number) => {
    const all = Array.from({ length: count }, () => `*1\r\n:${answered++}\r\n`)
    replies.read(Buffer.from(all.join('')))
  }
  send(50)
  answer(30)
  send(5000)
  answer(5020)
  t.same(
    seen,
    Array.from({ length: 5050 }, (_, i) => [i, [i]]),
  )
})

t.test('an error of the server, and the end of the connection, reach those who wait', async (t) => {
  const replies = createReplyQueue()
  const seen: string[] = []
  for (let i = 0; i < 3; i++) replies.expect((error) => seen.push(String(error?.message)))
  replies.read(Buffer.from('-NOSCRIPT No matching'))
  replies.read(Buffer.from(' script.\r\n'))
  t.same(seen, ['NOSCRIPT No matching script.'])
  replies.fail(new Error('gone'))
  t.same(seen.slice(1), ['gone', 'gone'])
  replies.read(Buffer.from('*1\r\n:1\r\n'))
  t.equal(seen.length, 3, 'nothing is read after that')
})

t.test('a command that has its reply is forgotten', async (t) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const replies = createReplyQueue()
  const forgotten = Array.from({ length: 10 }, () => {
    const onReply = () => {}
    replies.expect(onReply)
    return new WeakRef(onReply)
  })
  replies.read(Buffer.from('*0\r\n'.repeat(10)))
  // The WeakRefs hold until the end of this turn.
  await new Promise((resolve) => setImmediate(resolve))
  gc()
  t.same(
    forgotten.filter((ref) => ref.deref() !== undefined),
    [],
  )
  replies.fail(new Error('keeps the queue until here'))
})

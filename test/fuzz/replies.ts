import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { createReplyQueue } from '../../src/limiter/redis/reply-queue.js'
import {
  createRespReader,
  decodeReply,
  PUSH,
  type RespValue,
  readReply,
} from '../../src/limiter/redis/resp-reader.js'
import { decided, numbers, reply } from './redis.js'
import { holds, must, mutated, type Target } from './target.js'

const TOKENS = [
  ...[
    '*',
    ':',
    '-',
    '+',
    '$',
    '>',
    '\r\n',
    '\r',
    '\n',
    '0',
    '-1',
    '*1\r\n:1\r\n',
    '*0\r\n',
    '9007199254740993',
  ],
  ...[
    '00',
    '*-1\r\n',
    ':+5\r\n',
    '-NOSCRIPT x\r\n',
    '-0',
    '99999999999999999',
    '*3\r\n',
    '*2\r\n*1\r\n:1\r\n',
  ],
]

/** What a server sends, and how many commands wait for it. */
export const input = fc.record({
  bytes: mutated(
    fc
      .array(
        fc.oneof({ weight: 4, arbitrary: fc.oneof(decided, numbers) }, { weight: 1, arbitrary: reply }),
        {
          maxLength: 6,
        },
      )
      .map((replies) => replies.join('')),
    TOKENS,
  ).map((text) => Buffer.from(text, 'latin1')),
  waiting: fc.nat(8),
})

/** Offsets at which what is sent is cut into reads. */
export const cuts = fc.oneof(
  fc.constant<number[]>([]),
  fc.array(fc.nat(300), { maxLength: 12 }),
  fc.constant(Array.from({ length: 6000 }, (_, i) => i)),
)

const LONGEST = 256 * 1024

/** What those who wait get, in order, and what ends the connection. */
interface Outcome {
  readonly got: unknown[]
  wrong: string | undefined
}

/** Reads all bytes at once with the reader of the guard alone. */
function fromFullReader(bytes: Buffer, waiting: number): Outcome {
  const reader = createRespReader(LONGEST)
  const outcome: Outcome = { got: [], wrong: undefined }
  try {
    for (let at = 0; at < bytes.length; ) {
      if (bytes[at] === PUSH) throw new Error('push')
      const end = readReply(reader, bytes, at)
      if (outcome.got.length === waiting) throw new Error('unasked')
      if (end < 0) break
      const one = bytes.subarray(at, end)
      outcome.got.push(one[0] === 0x2d ? String(one.subarray(1, -2)) : decodeReply(one))
      at = end
    }
  } catch (error) {
    outcome.wrong = (error as Error).message
  }
  return outcome
}

/** Replaces bytes in a reply by text. */
function texts(reply: RespValue<Buffer>): unknown {
  if (Buffer.isBuffer(reply)) return reply.toString()
  return Array.isArray(reply) ? reply.map(texts) : reply
}

/** Reads the bytes in pieces. Every other command wants its reply as bytes. */
function fromQueue(bytes: Buffer, waiting: number, cuts: readonly number[]): Outcome {
  const replies = createReplyQueue()
  const outcome: Outcome = { got: [], wrong: undefined }
  const late: (() => void)[] = []
  for (let i = 0; i < waiting; i++) {
    if (i % 2 === 0) {
      replies.expect((error, reply) => outcome.got.push(error === undefined ? reply : error.message))
      continue
    }
    replies.expectBytes((error, reply) => {
      const at = outcome.got.push(error?.message) - 1
      // Bytes are kept for as long as somebody wants them.
      if (error === undefined) {
        late.push(() => {
          outcome.got[at] = texts(reply)
        })
      }
    })
  }
  // One buffer for all reads, as that of a socket: nothing may keep what was in it.
  const buffer = Buffer.alloc(Math.max(1, bytes.length))
  const borders = [...new Set([0, ...cuts.filter((cut) => cut < bytes.length), bytes.length])]
  borders.sort((a, b) => a - b)
  try {
    for (let i = 0; i + 1 < borders.length; i++) {
      const size = bytes.copy(buffer, 0, borders[i], borders[i + 1])
      replies.read(buffer.subarray(0, size))
      buffer.fill(0x21)
    }
  } catch (error) {
    outcome.wrong = (error as Error).message
  }
  for (const read of late) read()
  return outcome
}

/** Returns true if those who wait get what the full reader reads, and the same bytes end the connection. */
export function asTheFullReader(
  { bytes, waiting }: { bytes: Buffer; waiting: number },
  cuts: readonly number[],
) {
  const expected = fromFullReader(bytes, waiting)
  const { got, wrong } = fromQueue(bytes, waiting, cuts)
  return isDeepStrictEqual(got, expected.got) && (wrong === undefined) === (expected.wrong === undefined)
}

export const replies: Target = {
  name: 'take-replies',
  what: "each decision gets what the guard's reader reads, however the bytes are cut, and nothing else ends the connection",
  short: 500,
  open: () =>
    holds(fc.array(fc.tuple(input, cuts), { minLength: 1, maxLength: 50, size: 'max' }), (all) => {
      for (const [one, cuts] of all) must(asTheFullReader(one, cuts), 'the two readers agree')
    }),
}

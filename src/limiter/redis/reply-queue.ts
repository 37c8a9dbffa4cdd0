import {
  createRespReader,
  decodeBytes,
  decodeReply,
  ERROR,
  type Integers,
  PUSH,
  RespError,
  type RespValue,
  readIntegers,
  readReply,
} from './resp-reader.js'

/** Called once for each command: with its reply, or with the server's error, or why there is no reply. */
export type OnReply = (error: Error | undefined, reply: RespValue) => void

/** Like `OnReply`, with strings as bytes. */
export type OnBytes = (error: Error | undefined, reply: RespValue<Buffer>) => void

/** Commands of a connection that wait for their replies, which come in the same order. */
export type ReplyQueue = ReturnType<typeof createReplyQueue>

/**
 * Longest reply to a script call, in bytes: five times that of 64 denials, each by 8 limits, with the largest numbers that
 * there are.
 */
const LONGEST_SCRIPT_REPLY = 256 * 1024
/** Pieces of a reply that are kept before they are joined. */
const MOST_PIECES = 256

/**
 * Creates an empty queue.
 *
 * @param most longest reply that is read, in bytes. Default: that of a script call.
 */
export function createReplyQueue(most = LONGEST_SCRIPT_REPLY) {
  const reader = createRespReader(most)
  const integers: Integers = { values: [], end: 0 }
  /** Ring of those that wait; its length is a power of two. */
  let ring: (OnReply | undefined)[] = new Array(64).fill(undefined)
  let first = 0
  let count = 0
  let failed = false
  /** Those that want bytes. */
  const wantBytes = new WeakSet<OnReply | OnBytes>()
  /** Copies of the pieces of a reply that is not complete. */
  let held: Buffer[] = []

  function next(): OnReply {
    const onReply = ring[first]!
    // A ring that lives for long would keep every batch that it has ever held alive.
    ring[first] = undefined
    first = (first + 1) & (ring.length - 1)
    count--
    return onReply
  }

  function grow(): void {
    const all = [...ring.slice(first), ...ring.slice(0, first)]
    ring = [...all, ...new Array(all.length).fill(undefined)]
    first = 0
  }

  function deliver(reply: Buffer): void {
    const onReply = next()
    if (readIntegers(reply, 0, integers)) onReply(undefined, integers.values)
    else if (reader.type === ERROR) onReply(new Error(reply.toString('utf8', 1, reply.length - 2)), undefined)
    else if (wantBytes.has(onReply)) (onReply as OnBytes)(undefined, decodeBytes(Buffer.from(reply)))
    else onReply(undefined, decodeReply(reply))
  }

  function expect(onReply: OnReply): void {
    if (count === ring.length) grow()
    ring[(first + count++) & (ring.length - 1)] = onReply
  }

  return {
    /** Adds a command, before it is written. */
    expect,
    /** Adds a command whose reply may be anything. */
    expectBytes(onReply: OnBytes): void {
      wantBytes.add(onReply)
      expect(onReply as OnReply)
    },
    /**
     * Reads what the server sent and calls those whose replies are complete.
     *
     * @param chunk keeps its bytes until the call returns
     * @throws RespError if the bytes are not a reply, or one that nobody waits for. The queue is unusable then.
     */
    read(chunk: Buffer): void {
      let at = 0
      while (at < chunk.length && !failed) {
        if (reader.size === 0) {
          if (count > 0 && readIntegers(chunk, at, integers)) {
            at = integers.end
            next()(undefined, integers.values)
            continue
          }
          if (chunk[at] === PUSH) throw new RespError('a message came without a subscription')
        }
        const end = readReply(reader, chunk, at)
        if (count === 0) throw new RespError('a reply came without a command')
        if (end < 0) {
          held.push(Buffer.from(chunk.subarray(at)))
          if (held.length > MOST_PIECES) held = [Buffer.concat(held)]
          return
        }
        const reply = chunk.subarray(at, end)
        at = end
        if (held.length === 0) deliver(reply)
        else {
          const whole = Buffer.concat([...held, reply])
          held = []
          deliver(whole)
        }
      }
    },
    /** Calls all that wait. Nothing is read after that. */
    fail(error: Error): void {
      failed = true
      while (count > 0) next()(error, undefined)
    },
  }
}

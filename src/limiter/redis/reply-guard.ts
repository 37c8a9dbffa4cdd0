import type { Socket } from 'node:net'
import { guardPush } from '../../net/guard-push.js'
import {
  ARRAY,
  createRespReader,
  decodeReply,
  ERROR,
  PUSH,
  RespError,
  type RespValue,
  readReply,
} from './resp-reader.js'

/** Guard between a socket and ioredis. */
export type ReplyGuard = ReturnType<typeof guardReplies>

/**
 * Longest reply, in bytes. The longest ones that Tidegate requests are pages of 1,000 API keys with 8 KiB each, and the
 * keys of 10,000 changes with 1.4 KiB each.
 */
export const LONGEST_REPLY = 32 * 1024 * 1024
/**
 * Longest message, in bytes. An answer of another gateway has at most 256 KiB, and a message is held here until it is
 * complete.
 */
const LONGEST_MESSAGE = 1024 * 1024
/** Pieces of a reply that are kept before they are joined. */
const MOST_PIECES = 256

/** SUBSCRIBE that is not confirmed yet. ioredis parses its reply without checking it. */
interface Subscription {
  /** Number of the command on its connection, from 1. */
  readonly number: number
  /** Confirmations still to come: one for each channel. */
  left: number
}

/**
 * Reads what a Redis server sends before ioredis does. ioredis rethrows from a timer, where no stack belongs to a
 * connection any more. Bytes pass unchanged and uncopied. The connection is destroyed, and its commands fail, on what
 * ioredis could not handle: bytes that are not a reply, a reply longer than `LONGEST_REPLY`, more replies than
 * commands, messages without a subscription, and a wrong shape of a confirmation or a message.
 *
 * Every write is one command: Tidegate does not use pipelines, or MULTI, which ioredis sends as one.
 *
 * @param socket new: nothing has been read or written
 * @param onBroken called once with what was wrong
 */
export function guardReplies(socket: Socket, onBroken: (what: string) => void) {
  const reader = createRespReader(LONGEST_REPLY)
  const write = socket.write as (...args: unknown[]) => boolean
  const subscriptions: Subscription[] = []
  let sent = 0
  let answered = 0
  let subscribes = false
  let delivering = false
  /** Pieces of a reply that is checked before ioredis gets it; undefined if ioredis gets the pieces as they come. */
  let held: Buffer[] | undefined

  function deliver(chunk: Buffer): boolean {
    delivering = true
    try {
      return push(chunk)
    } finally {
      delivering = false
    }
  }

  /** Returns true if the reply that begins must be checked as a whole. */
  function mustBeHeld(type: number): boolean {
    if (type === PUSH && !subscribes) throw new RespError('a message came without a subscription')
    // Messages are arrays in RESP2.
    if (subscribes && (type === PUSH || type === ARRAY)) return true
    if (subscriptions[0]?.number === answered + 1 && type !== ERROR) {
      throw new RespError('a subscription is not confirmed')
    }
    return false
  }

  function countReply(): void {
    if (++answered > sent) throw new RespError('a reply came without a command')
    if (subscriptions[0]?.number === answered) subscriptions.shift()
  }

  function checkHeld(reply: Buffer): void {
    const value = decodeReply(reply)
    const parts: readonly RespValue[] = Array.isArray(value) ? value : []
    const [kind, channel, last] = parts
    const isMessage = kind === 'message' && typeof last === 'string'
    const confirms = kind === 'subscribe' && typeof last === 'number'
    if (parts.length !== 3 || typeof channel !== 'string' || (!isMessage && !confirms)) {
      throw new RespError('a message has an unknown form')
    }
    if (isMessage) return
    const first = subscriptions[0]
    if (first?.number !== answered + 1) {
      throw new RespError('a subscription was confirmed without a command')
    }
    if (--first.left === 0) countReply()
  }

  /** Reads a chunk. Returns the result of `Readable.push`. */
  function read(chunk: Buffer): boolean {
    let goesOn = true
    let passed = 0
    let at = 0
    while (at < chunk.length) {
      if (reader.size === 0 && mustBeHeld(chunk[at]!)) {
        if (at > passed) goesOn = deliver(chunk.subarray(passed, at))
        passed = at
        held = []
      }
      const end = readReply(reader, chunk, at)
      if (end < 0) break
      at = end
      if (held === undefined) {
        countReply()
        continue
      }
      const reply = Buffer.concat([...held, chunk.subarray(passed, at)])
      held = undefined
      passed = at
      checkHeld(reply)
      goesOn = deliver(reply)
    }
    if (held !== undefined) {
      if (subscribes && reader.size > LONGEST_MESSAGE) throw new RespError('a message is too long')
      held.push(chunk.subarray(passed))
      if (held.length > MOST_PIECES) held = [Buffer.concat(held)]
    } else if (passed < chunk.length) goesOn = deliver(passed === 0 ? chunk : chunk.subarray(passed))
    return goesOn
  }

  const push = guardPush(socket, read, onBroken)
  socket.write = (...args: unknown[]) => {
    sent++
    const channels = channelsOf(args[0] as string | Buffer)
    if (channels > 0) {
      subscriptions.push({ number: sent, left: channels })
      subscribes = true
    }
    return write.apply(socket, args)
  }
  return {
    /** Returns true while bytes are passed to ioredis. */
    delivers: (): boolean => delivering,
  }
}

/** Matches `*2\r\n$9\r\nsubscribe\r\n…`. */
const SUBSCRIBE = /^\*(\d+)\r\n\$9\r\nsubscribe\r\n/i

/** Returns the number of channels of a SUBSCRIBE; 0 for another command. */
function channelsOf(command: string | Buffer): number {
  // Nearly all commands are EVALSHA and EVAL.
  const length = typeof command === 'string' ? command.indexOf('$') : command.indexOf(0x24)
  const name = typeof command === 'string' ? command.charCodeAt(length + 4) : command[length + 4]
  if (name === 0x65) return 0
  const found = SUBSCRIBE.exec(typeof command === 'string' ? command : command.toString('latin1', 0, 60))
  return found === null ? 0 : Number(found[1]) - 1
}

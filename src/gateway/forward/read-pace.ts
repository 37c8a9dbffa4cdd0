import type { Service } from '../../config/snapshot/snapshot.js'
import { give, type Share, type Shares, take } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { callerOf } from '../identify/caller.js'
import { connectionsOf } from './upload-pace.js'

/** Bytes held for one response that its client is slow to take. */
const RESPONSE_BYTES = 262_144
/** Bytes held for all such responses together. */
export const ALL_BYTES = 33_554_432
/**
 * Longest time that one piece may last, as a multiple of `min_rate_grace`. The system takes bytes in pieces, as a slow
 * client makes room for them.
 */
const PIECES = 6
/** Ms without a byte after which a client counts as slow. */
const SLOW_MS = 250

/** Tracks responses that clients are slow to take while an upstream connection waits for them. */
export type SlowReaders = ReturnType<typeof createSlowReaders>

export function createSlowReaders(shares: Shares) {
  const buffers = shares.open('response_buffers', ALL_BYTES)
  const readers = new Set<Share>()
  const ofService = (service: Service): Share => {
    const share = shares.open('slow_readers', connectionsOf(service), undefined, service.name)
    readers.add(share)
    return share
  }
  return {
    /** @param connection the client's, which may carry other responses, too */
    pace: (x: Exchange, connection: object): ReadPace =>
      new ReadPace(x, connection, callerOf(x, shares), buffers, ofService(x.route!.service)),
    /**
     * Returns whether the caller already keeps its full share of the service's connections waiting: then it gets no further
     * one.
     */
    refuses(x: Exchange): boolean {
      if (readers.size === 0) return false
      for (const { held, service, holders, most } of readers) {
        if (held < most || service !== x.route!.service.name) continue
        const caller = callerOf(x, shares)
        if (caller !== undefined && (holders.get(caller) ?? 0) >= most) return true
      }
      return false
    },
  }
}

/** How many responses of a client connection keep an upstream waiting. */
const waitingOn = new WeakMap<object, number>()

/**
 * Prevents a client that reads slowly from holding an HTTP/1.1 connection to an upstream. The gateway buffers what the
 * client does not take, up to a limit, so that the upstream can finish. Past the limit the upstream waits, and the client
 * has to take `server.min_rate`.
 * One caller's slow responses get a quarter of the connections. Further ones are cut when others wait.
 */
export class ReadPace {
  readonly caller: string | undefined
  #held = 0
  #isSlow = false
  /** It is slow, and its caller already has its share of slow responses. */
  #isOver = false
  /** The upstream waits. */
  #waits = false
  /** Time of the latest look that saw progress; 0: there was no look since the upstream waits. */
  #movedAt = 0
  #lookedAt = 0
  #taken = 0
  #sent = 0
  /** When the response is cut for too little progress. */
  #cutAt = 0

  constructor(
    private readonly x: Exchange,
    private readonly connection: object,
    caller: string | undefined,
    private readonly buffers: Share,
    private readonly readers: Share,
  ) {
    this.caller = caller
  }

  /**
   * Buffers a piece that the client has not taken at once.
   *
   * @returns whether the upstream may go on
   */
  hold(bytes: number): boolean {
    if (this.#held + bytes <= RESPONSE_BYTES && take(this.buffers, this.caller, bytes) === undefined) {
      this.#held += bytes
      return true
    }
    if (this.#waits) return false
    this.#waits = true
    this.#movedAt = 0
    waitingOn.set(this.connection, (waitingOn.get(this.connection) ?? 0) + 1)
    return false
  }

  /** Frees the buffer: the client has taken everything. */
  drained(): void {
    if (this.#held > 0) give(this.buffers, this.caller, this.#held)
    this.#held = 0
    this.upstreamDone()
  }

  /** Ends the pacing: no upstream connection waits any more. */
  upstreamDone(): void {
    if (this.#waits) waitingOn.set(this.connection, waitingOn.get(this.connection)! - 1)
    this.#waits = false
    if (!this.#isSlow) return
    this.#isSlow = false
    give(this.readers, this.caller)
  }

  /**
   * Checks the client's progress. Called now and then.
   *
   * @param taken bytes that the client has taken, as far as can be told
   * @param sent bytes that have gone out on its connection, of this response and others
   * @param wanted other requests wait for a connection
   * @returns false: the client is too slow to keep an upstream waiting
   */
  look(now: number, taken: number, sent: number, wanted: boolean): boolean {
    if (!this.#waits) return true
    const { min_rate, min_rate_grace } = this.x.snapshot.config.server
    if (this.#movedAt === 0) {
      this.#movedAt = now
      this.#cutAt = now + min_rate_grace
    } else {
      // Over HTTP/2 a piece may take long, and a pipelined response has to wait for its turn. So its part of the bytes that
      // go out on the connection counts, too.
      const part = (sent - this.#sent) / waitingOn.get(this.connection)!
      const moved = Math.max(taken - this.#taken, part)
      if (moved * 1000 >= min_rate * (now - this.#lookedAt)) this.#movedAt = now
      // Progress comes in pieces: a piece counts for as long as it lasts at that rate, within a limit.
      if (moved > 0)
        this.#cutAt = Math.min(this.#cutAt + (moved * 1000) / min_rate, now + PIECES * min_rate_grace)
    }
    this.#lookedAt = now
    this.#taken = taken
    this.#sent = sent
    if (!this.#isSlow && now - this.#movedAt > SLOW_MS && (wanted || !this.#isOver)) {
      this.#isOver = take(this.readers, this.caller) !== undefined
      if (this.#isOver && wanted) return false
      this.#isSlow = !this.#isOver
    }
    return now <= this.#cutAt
  }
}

interface Handle {
  readonly bytesWritten?: number
  readonly writeQueueSize?: number
  readonly _parent?: Handle
}

/** Returns how many bytes the system has taken on a connection. A socket's `bytesWritten` includes those that still wait. */
export function sentOn(socket: object | null): number {
  let handle = (socket as { _handle?: Handle | null } | null)?._handle
  // For TLS, the connection below it.
  while (handle?._parent !== undefined) handle = handle._parent
  return (handle?.bytesWritten ?? 0) - (handle?.writeQueueSize ?? 0)
}

import type { Service } from '../../config/snapshot/snapshot.js'
import { give, type Share, type Shares, take } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { callerOf } from '../identify/caller.js'

/** Bytes kept of one body that is gathered before it takes a connection. */
const BODY_BYTES = 65_536
/** Bytes kept of all such bodies together. */
export const ALL_BYTES = 16_777_216
/** Overhead per piece, in bytes: many small pieces would cost more than their bytes. */
export const PIECE_BYTES = 128

/**
 * Prevents a client that sends slowly from holding an HTTP/1.1 connection to an upstream. A body that has not arrived whole
 * takes a connection only when all of it is here, or `BODY_BYTES` of it, or when it flows at `server.min_rate`. From then
 * on it has to keep that rate. One caller's uploads of this kind get a quarter of the connections.
 */
export class UploadPace {
  /** No connection has been taken yet. */
  gathering = true
  readonly #go: () => void
  readonly #caller: string | undefined
  readonly #buffers: Share
  readonly #uploads: Share
  #kept = 0
  #isFull = false
  #holdsConnection = false
  /** Ms for which bytes were awaited, and `bytesIn` when that time began. */
  #awaited = 0
  #bytesBefore = 0
  #lookedAt: number

  /**
   * @param now time of the watchdog, as for `look`
   * @param go called when the request may go to an upstream
   */
  constructor(
    private readonly x: Exchange,
    shares: Shares,
    now: number,
    go: () => void,
  ) {
    this.#go = go
    this.#lookedAt = now
    this.#caller = callerOf(x, shares)
    const { service } = x.route!
    this.#buffers = shares.open('upload_buffers', ALL_BYTES)
    this.#uploads = shares.open('uploads', connectionsOf(service), undefined, service.name)
  }

  /** Returns whether the buffer is full and the body waits for its caller's share of uploads. */
  get waitsForShare(): boolean {
    return this.gathering && this.#isFull
  }

  /**
   * Keeps a piece.
   *
   * @returns false: no more should be read until the body is passed on
   */
  kept(bytes: number): boolean {
    const more = bytes + PIECE_BYTES
    if (this.#kept + more <= BODY_BYTES && take(this.#buffers, this.#caller, more) === undefined) {
      this.#kept += more
      return true
    }
    this.#isFull = true
    this.#takeConnection()
    return false
  }

  /** Marks the body as complete. */
  complete(): void {
    this.#leaveConnection()
    if (!this.gathering) return
    this.gathering = false
    this.#go()
  }

  /** Frees the buffer: the kept pieces have been passed on. */
  emptied(): void {
    if (this.#kept > 0) give(this.#buffers, this.#caller, this.#kept)
    this.#kept = 0
  }

  /**
   * Checks the client's progress. Called now and then.
   *
   * @param awaited the upstream wants more of the body than has arrived
   * @returns false: the client sends too slowly to keep the connection
   */
  look(now: number, awaited: boolean): boolean {
    if (awaited) this.#awaited += now - this.#lookedAt
    this.#lookedAt = now
    if (this.waitsForShare) this.#takeConnection()
    const { min_rate, min_rate_grace } = this.x.snapshot.config.server
    if (this.#awaited < min_rate_grace) return true
    const flows = (this.x.bytesIn - this.#bytesBefore) * 1000 >= min_rate * this.#awaited
    this.#awaited = 0
    this.#bytesBefore = this.x.bytesIn
    if (!this.gathering) return flows
    if (flows) this.#takeConnection()
    return true
  }

  /** Gives back everything that it holds. */
  release(): void {
    this.emptied()
    this.#leaveConnection()
    this.gathering = false
  }

  #takeConnection(): void {
    if (!this.gathering || take(this.#uploads, this.#caller) !== undefined) return
    this.#holdsConnection = true
    this.gathering = false
    this.#go()
  }

  #leaveConnection(): void {
    if (!this.#holdsConnection) return
    this.#holdsConnection = false
    give(this.#uploads, this.#caller)
  }
}

/**
 * Returns whether uploads to a service are paced. HTTP/2 has enough streams, and gRPC sends both ways for as long as it
 * likes.
 */
export function isPaced({ upstreams }: Service, minRate: number): boolean {
  return minRate > 0 && upstreams.some(isHttp1)
}

/** Returns how many connections to HTTP/1.1 upstreams a service has. Each carries one request at a time. */
export function connectionsOf({ maxConnections, upstreams }: Service): number {
  return maxConnections * upstreams.filter(isHttp1).length
}

function isHttp1({ protocol }: Service['upstreams'][number]): boolean {
  return protocol !== 'http2'
}

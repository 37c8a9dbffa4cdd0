import type { Service } from '../../config/snapshot/snapshot.js'
import { give, type Share, type Shares, take } from '../../shares.js'
import type { Exchange } from '../exchange/exchange.js'
import { callerOf } from '../identify/caller.js'

/** Of one body that is gathered before it takes a connection. */
const BODY_BYTES = 65_536
/** Of all of them together. */
const ALL_BYTES = 16_777_216
/** What a piece costs besides its bytes: many small ones would be more than they look. */
const PIECE_BYTES = 128

/**
 * Sees to it that no connection to an upstream over HTTP/1.1 is held by a client that is slow to send. A body that has not come
 * whole takes one only when all of it is here, or `BODY_BYTES` of it, or when it flows at `server.min_rate`; and has to flow
 * from then on. Of such uploads one caller has a quarter of the connections.
 */
export class UploadPace {
  /** No connection has been taken yet. */
  gathering = true
  readonly #x: Exchange
  readonly #go: () => void
  readonly #caller: string | undefined
  readonly #buffers: Share
  readonly #uploads: Share
  #kept = 0
  #isFull = false
  #holdsConnection = false
  /** Ms in which bytes were awaited, and `bytesIn` at their beginning. */
  #awaited = 0
  #bytesBefore = 0
  #lookedAt: number

  /**
   * @param now of the watchdog, as for `look`
   * @param go the request goes to an upstream now
   */
  constructor(x: Exchange, shares: Shares, now: number, go: () => void) {
    this.#x = x
    this.#go = go
    this.#lookedAt = now
    this.#caller = callerOf(x, shares)
    const { service } = x.route!
    this.#buffers = shares.open('upload_buffers', ALL_BYTES)
    this.#uploads = shares.open('uploads', connectionsOf(service), undefined, service.name)
  }

  /** It has all that is kept of it, and waits for its turn among the uploads of its caller. */
  get waitsForShare(): boolean {
    return this.gathering && this.#isFull
  }

  /** A piece has come. @returns false: no more is to be read before the body goes on */
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

  /** All of the body is here. */
  complete(): void {
    this.#leaveConnection()
    if (!this.gathering) return
    this.gathering = false
    this.#go()
  }

  /** What was kept has been given on. */
  emptied(): void {
    if (this.#kept > 0) give(this.#buffers, this.#caller, this.#kept)
    this.#kept = 0
  }

  /**
   * Now and then.
   *
   * @param awaited more of the body is wanted than there is
   * @returns false: the client sends too slowly to keep the connection
   */
  look(now: number, awaited: boolean): boolean {
    if (awaited) this.#awaited += now - this.#lookedAt
    this.#lookedAt = now
    if (this.waitsForShare) this.#takeConnection()
    const { min_rate, min_rate_grace } = this.#x.snapshot.config.server
    if (this.#awaited < min_rate_grace) return true
    const flows = (this.#x.bytesIn - this.#bytesBefore) * 1000 >= min_rate * this.#awaited
    this.#awaited = 0
    this.#bytesBefore = this.#x.bytesIn
    if (!this.gathering) return flows
    if (flows) this.#takeConnection()
    return true
  }

  /** Gives back all that it holds. */
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

/** Whether uploads to a service are paced: HTTP/2 has streams enough, and gRPC sends both ways for as long as it likes. */
export function isPaced({ upstreams }: Service, minRate: number): boolean {
  return minRate > 0 && upstreams.some(isHttp1)
}

/** Those to upstreams over HTTP/1.1, each of which carries one request at a time. */
export function connectionsOf({ maxConnections, upstreams }: Service): number {
  return maxConnections * upstreams.filter(isHttp1).length
}

function isHttp1({ protocol }: Service['upstreams'][number]): boolean {
  return protocol !== 'http2'
}

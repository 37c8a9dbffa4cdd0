import type { Socket } from 'node:net'
import type { ErrorCode } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import type { Breakable } from '../exchange/faults.js'
import type { Watchdog, Watched } from '../exchange/watchdog.js'
import { closeFrame, FrameBoundary } from './frames.js'

/**
 * Time limits at the end of a tunnel, in ms: how long nothing may move after one side has ended before both are cut, and
 * how long a Close may go unanswered.
 */
const ENDING_MS = 2_000

/** Close codes (RFC 6455 §7.4.1): the endpoint is going away, or it no longer accepts the other one. */
const GOING_AWAY = 1001
const POLICY = 1008

/** Receives the end of a tunnel. */
interface TunnelOwner extends Breakable {
  /** Both sockets are closed. Called once. */
  ended(): void
  /** Called when `askAgainAt` has come: sets the next time, or ends the tunnel. */
  mayStay(): void
}

/**
 * Watches two sockets that http-proxy has piped into each other, from the 101 until both are closed. Bytes pass unchanged,
 * including Close frames with their codes. This class does what pipes do not: it makes sure that the tunnel ends.
 */
export class Tunnel implements Watched {
  watchSlot = -1
  #over = false
  /** Frames that the upstream sent, as far as they were passed on. */
  readonly #frames = new FrameBoundary()
  /** Bytes that were written to the client before the tunnel. */
  readonly #writtenBefore: number
  #moved = 0
  #queued = 0
  #progress: number
  /** One side has ended: the other has to follow. */
  #ending = false
  #farewell: 'none' | 'wanted' | 'said' = 'none'
  /** Watchdog time. */
  #cutAt = Number.POSITIVE_INFINITY
  #open = 2
  #reason = ''
  /** Unix ms from which `check` calls `mayStay`, to ask whether the client may still stay. */
  askAgainAt = Number.POSITIVE_INFINITY

  /**
   * @param readBefore bytes of `client.bytesRead` that are not part of the tunnel; no byte written so far is part of it
   * @param unixTime the clock of `askAgainAt`
   */
  constructor(
    private readonly x: Exchange,
    private readonly client: Socket,
    private readonly upstream: Socket,
    private readonly watchdog: Watchdog,
    private readonly readBefore: number,
    private readonly owner: TunnelOwner,
    private readonly unixTime: () => number,
  ) {
    this.#writtenBefore = client.bytesWritten
    this.#progress = watchdog.now()
    upstream.on('data', this.#fromUpstream)
    this.#guard(client, upstream, 'client_closed')
    this.#guard(upstream, client, 'upstream_failed')
    watchdog.add(this)
  }

  #guard(side: Socket, other: Socket, broken: ErrorCode): void {
    const on = (event: string, heard: (error: Error) => void): void => {
      side.on(event, (error: Error) => {
        try {
          heard(error)
        } catch (thrown) {
          this.broken(thrown)
        }
      })
    }
    on('end', () => {
      this.#end()
      // The pipe does this, unless it was removed for the farewell.
      other.end()
    })
    on('error', (error) => {
      // After a Close or a FIN, a reset is only a hasty goodbye.
      if (!this.#ending && !this.#frames.closed) this.#fault(broken, error.message)
    })
    on('close', () => {
      this.#end()
      if (--this.#open === 0) this.#close()
      else {
        other.end()
        // The pipe ended with this side. A socket that nobody reads would never report its end.
        other.resume()
      }
    })
  }

  broken(error: unknown): void {
    this.owner.broken(error)
  }

  /** Ends the tunnel at once. */
  cut(): void {
    this.client.destroy()
    this.upstream.destroy()
    this.#close()
  }

  #end(): void {
    if (this.#ending) return
    this.#ending = true
    this.#progress = this.watchdog.now()
  }

  #fault(error: ErrorCode, cause: string): void {
    if (this.x.error !== undefined) return
    this.x.error = error
    this.x.cause = cause
  }

  #fromUpstream = (chunk: Buffer): void => {
    try {
      this.#pass(chunk)
    } catch (error) {
      this.broken(error)
    }
  }

  #pass(chunk: Buffer): void {
    if (this.#farewell === 'none') {
      this.#frames.read(chunk)
    } else if (this.#farewell === 'wanted') {
      const whole = this.#frames.read(chunk, true)
      if (!this.client.write(chunk.subarray(0, whole))) this.#pauseUpstream()
      if (this.#frames.clean) this.#sayFarewell()
    }
  }

  #pauseUpstream(): void {
    this.upstream.pause()
    this.client.once('drain', () => this.upstream.resume())
  }

  /**
   * Ends the tunnel from the gateway's side. Sends the client a Close 1001 (1008 if it is forbidden) as soon as that cuts
   * no frame. The client's reply goes on to the upstream, so both sides part with a normal close handshake.
   *
   * @param graceMs time for a frame that is under way
   * @param reason text in the Close, for the client: at most 123 bytes
   */
  leave(error: ErrorCode, cause: string, graceMs: number, reason = ''): void {
    if (this.#farewell !== 'none') return
    this.#reason = reason
    if (!this.#ending) this.#fault(error, cause)
    this.#cutAt = this.watchdog.now() + Math.max(graceMs, ENDING_MS)
    if (this.#frames.closed) this.#end()
    if (this.#ending) {
      this.#farewell = 'said'
      return
    }
    this.#farewell = 'wanted'
    this.upstream.unpipe(this.client)
    if (this.client.writableNeedDrain) this.#pauseUpstream()
    else this.upstream.resume()
    if (this.#frames.clean) this.#sayFarewell()
  }

  #sayFarewell(): void {
    this.#farewell = 'said'
    const code = this.x.error === 'forbidden' ? POLICY : GOING_AWAY
    // A slow client cannot reply before it has taken the end of its message: the Close waits behind that.
    if (this.client.writable) this.client.write(closeFrame(code, this.#reason), this.#expectAnswer)
    else this.#expectAnswer()
  }

  #expectAnswer = (): void => {
    this.#cutAt = Math.min(this.#cutAt, this.watchdog.now() + ENDING_MS)
  }

  check(now: number): void {
    const moved = this.client.bytesRead + this.upstream.bytesRead
    const queued = this.client.writableLength + this.upstream.writableLength
    if (moved !== this.#moved || queued !== this.#queued) {
      this.#moved = moved
      this.#queued = queued
      this.#progress = now
    }
    if (this.#farewell === 'none' && this.askAgainAt <= this.unixTime()) this.owner.mayStay()
    const still = now - this.#progress
    const { idle } = this.x.route!.websocket
    if (now > this.#cutAt || (this.#ending && still > ENDING_MS)) {
      this.client.destroy()
      this.upstream.destroy()
    } else if (!this.#ending && still > idle) {
      this.leave('request_timeout', `no byte in either direction for ${idle} ms`, 0)
    }
  }

  #close(): void {
    if (this.#over) return
    this.#over = true
    this.watchdog.delete(this)
    this.x.bytesIn = this.client.bytesRead - this.readBefore
    this.x.bytesOut = this.client.bytesWritten - this.#writtenBefore
    this.owner.ended()
  }
}

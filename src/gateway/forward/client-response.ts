import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Exchange } from '../exchange/exchange.js'
import type { Breakable } from '../exchange/faults.js'
import { connectionOf } from '../listen/http2/stream.js'
import { breakOff, endConnection } from '../respond/client-error.js'
import { endLingering, endWhole, flushHead, hasUnreadBody } from '../respond/send-error.js'
import { sentOn } from './read-pace.js'
import { linksOf, trailersOf } from './upstream-response.js'

/** Early hints that are passed on per response. Nothing slows down an upstream that sends them without end. */
const MAX_HINTS = 8

export interface ClientEvents extends Breakable {
  /** The client has taken what was written; more may come. */
  drained(): void
  /** Node does not send this header. Nothing has gone out, so the gateway can send another response. */
  unsendable(error: Error): void
}

/**
 * Sends a forwarded response to the client: header, body and end, in as few writes as possible and no faster than the
 * client takes them.
 */
export class ClientResponse {
  #head: string[] | undefined
  #reason: string | undefined
  #headWritten = false
  /** First piece of the body, held so that header and body leave in one write. */
  #first: Buffer | string | undefined
  #full = false
  #hints = 0
  /** A 1xx has been written. */
  #interim = false
  #waiting = 0
  #waitingSince = 0

  constructor(
    private readonly x: Exchange,
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
    private readonly draining: () => boolean,
    private readonly events: ClientEvents,
  ) {}

  /** Returns whether there is a header for the client, sent or held. */
  get begun(): boolean {
    return this.#head !== undefined
  }

  /** Returns whether the header has gone out: no other response is possible. */
  get committed(): boolean {
    return this.#headWritten
  }

  /** Returns whether the client takes nothing at the moment. */
  get full(): boolean {
    return this.#full
  }

  /** Returns whether this response waits for an earlier one on the connection, which then has to watch the time. */
  get behind(): boolean {
    return this.res.socket === null
  }

  /** Returns whether the client is still sending its body. */
  get uploading(): boolean {
    return hasUnreadBody(this.x, this.req)
  }

  /** Sends 100 Continue if the client can still use it. */
  proceed(): void {
    // HTTP/1.0 has no 1xx (RFC 9110 §15.2).
    if (this.req.httpVersionMinor === 0 || this.begun) return
    this.res.writeContinue()
    this.#interim = true
  }

  hint(raw: readonly string[]): void {
    if (this.req.httpVersionMinor === 0 || this.#hints++ >= MAX_HINTS) return
    const link = linksOf(raw)
    if (link.length === 0) return
    try {
      this.res.writeEarlyHints({ link })
      this.#interim = true
    } catch {
      // Node refuses links that it finds malformed. A hint is no reason to fail.
    }
  }

  /** @param head name, value, … for the exchange's status */
  begin(head: string[], reason: string | undefined): void {
    const { method, status } = this.x
    this.#head = head
    this.#reason = reason
    // Without a body the header waits for the end: only then is it known whether the response was well-formed. With a body
    // it waits for the rest of the same packet, so that both leave in one write.
    if (status !== 204 && status !== 304 && method !== 'HEAD') queueMicrotask(this.#flush)
  }

  /**
   * Writes a piece of the body.
   *
   * @param chunk a string is Latin-1, and for a `PlainResponse` only
   * @returns false when the next piece should wait for `drained`
   */
  write(chunk: Buffer | string): boolean {
    if (!this.#headWritten) {
      if (this.#first === undefined) {
        this.#first = chunk
        return true
      }
      this.#flushNow()
      if (!this.#headWritten) return true
    }
    return this.#send(chunk)
  }

  /** Sends the upstream's trailers where the client can take them: over HTTP/2. Call it before `end`. */
  trail(raw: readonly string[]): void {
    if (this.req.httpVersionMajor === 2) this.res.addTrailers(trailersOf(raw))
  }

  /** Ends the response, which is complete. */
  end(): void {
    const unread = this.uploading
    if (!this.#headWritten && !this.#writeHead(unread)) return
    if (unread) endLingering(this.req, this.res, this.#first)
    else if (this.#first === undefined) this.res.end()
    else endWhole(this.res, this.#first)
    this.#first = undefined
  }

  /** Discards what was held: there will be another response, or nobody to read this one. */
  drop(): void {
    this.#head = undefined
    this.#first = undefined
  }

  /** Cuts a response that has begun and cannot be completed. The client must never see a clean end. */
  cut(): void {
    const { socket } = this.res
    // If only the end of the connection ends the body, a FIN would look like success. `resetAndDestroy` sends a FIN first.
    if (socket !== null && !socket.writableEnded && this.req.httpVersionMinor === 0) {
      ;(socket as { resetAndClosing?: boolean }).resetAndClosing = true
    }
    breakOff(this.res)
  }

  /** Returns how many bytes the client has taken of an HTTP/2 stream. Otherwise 0: `sent` tells the progress. */
  get taken(): number {
    if (this.req.httpVersionMajor !== 2) return 0
    return this.x.bytesOut - (this.res.socket?.writableLength ?? 0)
  }

  /** Returns how many bytes have gone out on the connection, including other responses: pipelined ones, or HTTP/2 streams. */
  get sent(): number {
    return sentOn(this.connection)
  }

  get connection(): object {
    const { socket } = this.req
    return connectionOf(socket) ?? socket
  }

  /**
   * Returns for how many ms the client has taken nothing while bytes are waiting. It compares occasional samples, so the
   * time is approximate.
   */
  stuckFor(now: number): number {
    const waiting = this.res.socket?.writableLength ?? 0
    if (waiting === 0 || waiting !== this.#waiting) {
      this.#waiting = waiting
      this.#waitingSince = now
    }
    return now - this.#waitingSince
  }

  #flush = (): void => {
    try {
      this.#flushNow()
    } catch (error) {
      this.events.broken(error)
    }
  }

  #flushNow(): void {
    if (this.#headWritten || this.#head === undefined) return
    // A connection whose upload may never end is not used again.
    if (!this.#writeHead(this.uploading)) return
    const first = this.#first
    this.#first = undefined
    if (first === undefined) flushHead(this.res)
    else this.#send(first)
  }

  /**
   * Writes the header.
   *
   * @returns false when another response replaces this one
   */
  #writeHead(close: boolean): boolean {
    const head = this.#head!
    if (close || this.draining()) endConnection(this.req, this.res, head)
    try {
      if (this.#reason === undefined) this.res.writeHead(this.x.status, head)
      else this.res.writeHead(this.x.status, this.#reason, head)
    } catch (error) {
      // Both sides should agree on what a field may hold. If they ever do not, it costs this one response.
      this.events.unsendable(error as Error)
      return false
    }
    this.#headWritten = true
    // If a response waits behind another one, Node sends a header that leaves with bytes ahead of all that waits, and one
    // that leaves with text behind it. The client would then read a 1xx as a part of the body, and its end as the next
    // response.
    if (this.#interim && this.res.socket === null) this.res.write('', 'latin1')
    return true
  }

  #send(chunk: Buffer | string): boolean {
    if (this.res.write(chunk)) return !this.#full
    if (!this.#full) {
      this.#full = true
      this.res.once('drain', () => {
        this.#full = false
        try {
          this.events.drained()
        } catch (error) {
          this.events.broken(error)
        }
      })
    }
    return false
  }
}

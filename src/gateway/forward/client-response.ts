import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Exchange } from '../exchange/exchange.js'
import type { Breakable } from '../exchange/faults.js'
import { connectionOf } from '../listen/http2-stream.js'
import { breakOff, endGently } from '../respond/client-error.js'
import { endLingering, endWhole, flushHead, hasUnreadBody } from '../respond/send-error.js'
import { sentOn } from './read-pace.js'
import { linksOf, trailersOf } from './upstream-response.js'

/** Early hints that are passed on. Nothing slows down an upstream that sends them without end. */
const MAX_HINTS = 8

export interface ClientEvents extends Breakable {
  /** The client has taken what was written; more may come. */
  drained(): void
  /** Node does not send this header. Nothing has gone out, so there can be another answer. */
  unsendable(error: Error): void
}

/**
 * A forwarded response on the client's side: header, body and end, in as few writes as can be and no faster than the
 * client takes them.
 */
export class ClientResponse {
  readonly #x: Exchange
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #draining: () => boolean
  readonly #events: ClientEvents
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
    x: Exchange,
    req: IncomingMessage,
    res: ServerResponse,
    draining: () => boolean,
    events: ClientEvents,
  ) {
    this.#x = x
    this.#req = req
    this.#res = res
    this.#draining = draining
    this.#events = events
  }

  /** There is a header for the client, on its way or held. */
  get begun(): boolean {
    return this.#head !== undefined
  }

  /** The header has gone out: no other answer is possible. */
  get committed(): boolean {
    return this.#headWritten
  }

  /** The client takes nothing at the moment. */
  get full(): boolean {
    return this.#full
  }

  /** It waits for the response before it on the connection: that one has to watch the time. */
  get behind(): boolean {
    return this.#res.socket === null
  }

  /** Whether the client is still sending its body. */
  get uploading(): boolean {
    return hasUnreadBody(this.#x, this.#req)
  }

  /** Says 100 Continue, while that means something. */
  proceed(): void {
    // HTTP/1.0 knows no 1xx (RFC 9110 §15.2).
    if (this.#req.httpVersionMinor === 0 || this.begun) return
    this.#res.writeContinue()
    this.#interim = true
  }

  hint(raw: readonly string[]): void {
    if (this.#req.httpVersionMinor === 0 || this.#hints++ >= MAX_HINTS) return
    const link = linksOf(raw)
    if (link.length === 0) return
    try {
      this.#res.writeEarlyHints({ link })
      this.#interim = true
    } catch {
      // Node refuses links that it finds malformed; a hint is nothing to fail for.
    }
  }

  /** @param head name, value, … for the exchange's status */
  begin(head: string[], reason: string | undefined): void {
    const { method, status } = this.#x
    this.#head = head
    this.#reason = reason
    // Without a body the header waits for the end: only then is it known whether the response was well-formed.
    // With one it waits for the rest of what came in the same packet, so that both leave in one write.
    if (status !== 204 && status !== 304 && method !== 'HEAD') queueMicrotask(this.#flush)
  }

  /**
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

  /** What came behind the body goes there, too, where the client can take it: over HTTP/2. Before `end`. */
  trail(raw: readonly string[]): void {
    if (this.#req.httpVersionMajor === 2) this.#res.addTrailers(trailersOf(raw))
  }

  /** The whole response is here. */
  end(): void {
    const unread = this.uploading
    if (!this.#headWritten && !this.#writeHead(unread)) return
    if (unread) endLingering(this.#req, this.#res, this.#first)
    else if (this.#first === undefined) this.#res.end()
    else endWhole(this.#res, this.#first)
    this.#first = undefined
  }

  /** What was held does not go out any more: there will be another answer, or there is nobody to read it. */
  drop(): void {
    this.#head = undefined
    this.#first = undefined
  }

  /** The response has begun and cannot be completed: the client must see that, never a clean end. */
  cut(): void {
    const { socket } = this.#res
    // Where only the end of the connection ends the body, a FIN would look like success. `resetAndDestroy` sends one first.
    if (socket !== null && !socket.writableEnded && this.#req.httpVersionMinor === 0) {
      ;(socket as { resetAndClosing?: boolean }).resetAndClosing = true
    }
    breakOff(this.#res)
  }

  /** Bytes that the client has taken of a stream of HTTP/2. Else 0: what goes out on the connection tells of it. */
  get taken(): number {
    if (this.#req.httpVersionMajor !== 2) return 0
    return this.#x.bytesOut - (this.#res.socket?.writableLength ?? 0)
  }

  /** Bytes that have gone out on its connection, of other responses, too: pipelined ones, or streams of HTTP/2. */
  get sent(): number {
    return sentOn(this.connection)
  }

  get connection(): object {
    const { socket } = this.#req
    return connectionOf(socket) ?? socket
  }

  /** Ms since the client took the last byte of what has been written, as far as a look now and then can tell. */
  stuckFor(now: number): number {
    const waiting = this.#res.socket?.writableLength ?? 0
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
      this.#events.broken(error)
    }
  }

  #flushNow(): void {
    if (this.#headWritten || this.#head === undefined) return
    // A connection whose upload may never end is not used again.
    if (!this.#writeHead(this.uploading)) return
    const first = this.#first
    this.#first = undefined
    if (first === undefined) flushHead(this.#res)
    else this.#send(first)
  }

  /** @returns false when there is another answer now */
  #writeHead(close: boolean): boolean {
    const head = this.#head!
    if (close || this.#draining()) {
      head.push('Connection', 'close')
      this.#res.shouldKeepAlive = false
      endGently(this.#req.socket)
    }
    try {
      if (this.#reason === undefined) this.#res.writeHead(this.#x.status, head)
      else this.#res.writeHead(this.#x.status, this.#reason, head)
    } catch (error) {
      // Both sides should agree on what a field may hold; if ever they do not, it costs this one response.
      this.#events.unsendable(error as Error)
      return false
    }
    this.#headWritten = true
    // Of a response that waits behind another one, Node puts a header that leaves with bytes in front of all that waits,
    // of one that leaves with text behind it. A 1xx would be read as a part of the body, and its end as the next response.
    if (this.#interim && this.#res.socket === null) this.#res.write('', 'latin1')
    return true
  }

  #send(chunk: Buffer | string): boolean {
    if (this.#res.write(chunk)) return !this.#full
    if (!this.#full) {
      this.#full = true
      this.#res.once('drain', () => {
        this.#full = false
        try {
          this.#events.drained()
        } catch (error) {
          this.#events.broken(error)
        }
      })
    }
    return false
  }
}

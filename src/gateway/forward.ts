import type { IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Dispatcher } from 'undici'
import type { ErrorCode, Refusal } from '../errors.js'
import type { Target, Upstreams } from '../upstream/pool.js'
import type { Exchange } from './exchange.js'
import { claimsQuota, pushQuotaHeaders } from './quota-headers.js'
import { endLingering, hasUnreadBody, sendRefusal } from './reply.js'
import { RequestBody } from './request-body.js'
import { errorText, isConnectError, upstreamErrorCode } from './upstream-error.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'
import { MAX_RESPONSE_FIELDS, reasonPhrase, responseHeaders } from './upstream-response.js'
import type { Watchdog, Watched } from './watchdog.js'

export interface ForwardDeps {
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly draining: () => boolean
}

/** A request that was sent once may be sent again only if these say the same twice (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** A forwarded exchange, as the one who accepted it sees it. */
export interface UnderWay {
  /** The response is closed: completely sent, or the client has gone. */
  closed(): void
}

/** Last stage: the request goes to an upstream of its service, and the response comes back. */
export function forward(deps: ForwardDeps) {
  return function forward(x: Exchange, req: IncomingMessage, res: ServerResponse): UnderWay {
    const forwarding = new Forwarding(deps, x, req, res)
    forwarding.start()
    return forwarding
  }
}

/**
 * One request on its way to an upstream and its response on the way back. A class, as undici's parser calls these
 * methods several times a request and one shape keeps those calls cheap.
 */
class Forwarding implements Dispatcher.DispatchHandler, Watched {
  readonly #deps: ForwardDeps
  readonly #x: Exchange
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  #target: Target | undefined
  #body: RequestBody | null = null
  /** `performance.now()` at the first hand-over to an upstream. */
  #began = 0
  /** Watchdog time of the last byte in either direction. */
  #progress = 0
  #attempts = 0
  /** Aborts what undici is doing for us; set once the request has a connection. */
  #abort: ((error?: Error) => void) | undefined
  #resume: (() => void) | undefined
  /** Response header for the client, until it is written. */
  #head: string[] | undefined
  #reason: string | undefined
  /** First piece of the body, held so that header and body leave in one write. */
  #first: Buffer | undefined
  #headWritten = false
  #clientFull = false
  #unsent = 0
  /** The outcome is fixed: whatever undici still says is not news. */
  #over = false

  constructor(deps: ForwardDeps, x: Exchange, req: IncomingMessage, res: ServerResponse) {
    this.#deps = deps
    this.#x = x
    this.#req = req
    this.#res = res
  }

  start(): void {
    const { headers, route } = this.#x
    if (headers.contentLength > route!.bodyLimit) {
      this.#refuse({ code: 'payload_too_large', detail: this.#limitText() })
      return
    }
    if (headers.contentLength > 0 || headers.chunked) this.#body = new RequestBody(this.#req, this)
    this.#began = performance.now()
    this.#progress = this.#deps.watchdog.now()
    this.#deps.watchdog.add(this)
    this.#dispatch(undefined)
  }

  #dispatch(except: Target | undefined): void {
    const x = this.#x
    const target = this.#deps.upstreams.pick(x.route!.service, except)
    if (target === undefined) {
      this.#refuse({ code: 'overloaded', headers: ['Retry-After', '1'] })
      return
    }
    this.#target = target
    target.inFlight++
    this.#attempts++
    x.upstream = target.upstream
    const fields = upstreamHeaders(x, target.upstream, this.#req)
    if (this.#body !== null && x.headers.contentLength > 0) {
      fields.push('Content-Length', String(x.headers.contentLength))
    }
    target.pool.dispatch(
      {
        path: upstreamPath(x, target.upstream),
        method: x.method as Dispatcher.HttpMethod,
        headers: fields,
        body: this.#body,
      },
      this,
    )
  }

  // The request's body on its way

  begin(): void {
    // HTTP/1.0 knows no 1xx (RFC 9110 §10.1.1).
    if (this.#x.headers.expectContinue && this.#req.httpVersionMinor > 0) this.#res.writeContinue()
  }

  received(bytes: number): boolean {
    this.#x.bytesIn += bytes
    this.#progress = this.#deps.watchdog.now()
    if (this.#x.bytesIn <= this.#x.route!.bodyLimit) return true
    this.#fail({ code: 'payload_too_large', detail: this.#limitText() })
    return false
  }

  #limitText(): string {
    return `The body is larger than the ${this.#x.route!.bodyLimit} bytes that this route accepts.`
  }

  // What undici says

  onConnect(abort: (error?: Error) => void): void {
    if (this.#over) abort()
    else this.#abort = abort
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, statusText: string): boolean {
    if (this.#over) return true
    const x = this.#x
    this.#progress = this.#deps.watchdog.now()
    if (status < 200) {
      if (status === 103) this.#earlyHints(raw)
      return true
    }
    this.#deps.upstreams.answered(this.#target!)
    if (raw.length > MAX_RESPONSE_FIELDS * 2) {
      this.#fail({ code: 'upstream_bad_response', cause: `more than ${MAX_RESPONSE_FIELDS} response fields` })
      return true
    }
    this.#resume = resume
    const quota = claimsQuota(x.decision)
    const head = responseHeaders(raw, x.requestId, quota, status === 204)
    if (quota) pushQuotaHeaders(head, x.route!.service.policies[x.tier]!, x.decision!)
    x.status = status
    this.#head = head
    this.#reason = reasonPhrase(statusText)
    // Without a body the header waits for the end: only then is it known whether the response was well-formed.
    // With one it waits for the rest of what came in the same packet, so that both leave in one write.
    if (status !== 204 && status !== 304 && x.method !== 'HEAD') queueMicrotask(this.#flush)
    return true
  }

  onData(chunk: Buffer): boolean {
    if (this.#over) return true
    this.#progress = this.#deps.watchdog.now()
    this.#x.bytesOut += chunk.length
    if (!this.#headWritten) {
      if (this.#first === undefined) {
        this.#first = chunk
        return true
      }
      this.#flush()
    }
    return this.#write(chunk)
  }

  onComplete(): void {
    this.#settle()
    if (this.#over) return
    this.#over = true
    this.#progress = this.#deps.watchdog.now()
    const res = this.#res
    // An answer before the end of the upload: nothing more of it is wanted.
    const unread = this.#body !== null && hasUnreadBody(this.#x, this.#req)
    if (!this.#headWritten) this.#writeHead(unread)
    if (unread) {
      this.#body!.destroy()
      endLingering(this.#req, res, this.#first)
    } else res.end(this.#first)
    this.#first = undefined
  }

  onError(error: Error): void {
    this.#settle()
    if (this.#over) return
    const code = upstreamErrorCode(error)
    const cause = errorText(error)
    if (this.#head !== undefined) {
      this.#cut(this.#x.status === 204 || this.#x.method === 'HEAD' ? 'upstream_bad_response' : code, cause)
      return
    }
    if (isConnectError(code)) {
      this.#deps.upstreams.failed(this.#target!)
      // Nothing was sent, so any request may go to another address, each address once.
      if (this.#attempts < this.#x.route!.service.upstreams.length) {
        this.#dispatch(this.#target)
        return
      }
    } else if (
      code === 'upstream_failed' &&
      this.#attempts === 1 &&
      this.#body === null &&
      IDEMPOTENT.has(this.#x.method)
    ) {
      // Most likely a connection that the upstream closed while it was idle.
      this.#abort = undefined
      this.#dispatch(undefined)
      return
    }
    this.#refuse({ code, cause })
  }

  /** undici is through with this attempt. */
  #settle(): void {
    this.#target!.inFlight--
    this.#x.upstreamMs = performance.now() - this.#began
  }

  // Towards the client

  #earlyHints(raw: readonly Buffer[]): void {
    const links: string[] = []
    for (let i = 0; i < raw.length; i += 2) {
      if (raw[i]!.toString('latin1').toLowerCase() === 'link') links.push(raw[i + 1]!.toString('latin1'))
    }
    if (links.length === 0 || this.#req.httpVersionMinor === 0) return
    try {
      this.#res.writeEarlyHints({ link: links })
    } catch {
      // Node refuses links that it finds malformed; a hint is nothing to fail for.
    }
  }

  #writeHead(close: boolean): void {
    const head = this.#head!
    if (close || this.#deps.draining()) {
      head.push('Connection', 'close')
      this.#res.shouldKeepAlive = false
    }
    this.#headWritten = true
    if (this.#reason === undefined) this.#res.writeHead(this.#x.status, head)
    else this.#res.writeHead(this.#x.status, this.#reason, head)
  }

  #flush = (): void => {
    if (this.#headWritten || this.#over) return
    this.#writeHead(false)
    const first = this.#first
    this.#first = undefined
    if (first === undefined) this.#res.flushHeaders()
    else this.#write(first)
  }

  #write(chunk: Buffer): boolean {
    if (this.#res.write(chunk)) return !this.#clientFull
    if (!this.#clientFull) {
      this.#clientFull = true
      this.#res.once('drain', () => {
        this.#clientFull = false
        this.#progress = this.#deps.watchdog.now()
        this.#resume!()
      })
    }
    return false
  }

  // Ends that are not the usual one

  check(now: number): void {
    const { total, headers, idle } = this.#x.route!.timeouts
    if (this.#over) {
      this.#checkEnding(now, idle)
      return
    }
    const still = now - this.#progress
    if (total > 0 && now - this.#x.started > total) this.#expire(`the whole took more than ${total} ms`)
    else if (this.#head !== undefined) {
      if (idle > 0 && still > idle) this.#expire(`no byte of the response for ${idle} ms`)
    } else if (this.#body !== null && !this.#body.readableEnded) {
      if (idle > 0 && still > idle) this.#expire(`no byte of the request for ${idle} ms`)
    } else if (headers > 0 && still > headers) this.#expire(`no response header within ${headers} ms`)
  }

  /** All is written, but the client has not taken it yet. */
  #checkEnding(now: number, idle: number): void {
    const waiting = this.#res.socket?.writableLength ?? 0
    if (waiting !== this.#unsent) {
      this.#unsent = waiting
      this.#progress = now
    } else if (idle > 0 && now - this.#progress > idle) {
      this.#x.error = 'client_closed'
      this.#x.cause = `the client took no byte of the response for ${idle} ms`
      this.#res.destroy()
    }
  }

  #expire(cause: string): void {
    if (this.#head !== undefined) {
      this.#cut(this.#clientFull ? 'client_closed' : 'upstream_timeout', cause)
    } else if (this.#body?.waitingForClient === true && !this.#req.complete) {
      this.#fail({ code: 'request_timeout', cause })
    } else {
      this.#fail({ code: 'upstream_timeout', cause })
    }
  }

  closed(): void {
    this.#deps.watchdog.delete(this)
    if (this.#over) return
    this.#x.error = 'client_closed'
    if (this.#x.status === 0) this.#x.status = 499
    this.#end()
  }

  /** The response has begun and cannot be completed: the client must see that, never a clean end. */
  #cut(error: ErrorCode, cause: string): void {
    if (!this.#headWritten) {
      this.#fail({ code: error, cause })
      return
    }
    this.#x.error = error
    this.#x.cause = cause
    this.#end()
    const { socket } = this.#res
    // Where only the end of the connection ends the body, a FIN would look like success.
    if (socket !== null && this.#req.httpVersionMinor === 0) socket.resetAndDestroy()
    this.#res.destroy()
  }

  /** Refuses, and stops what the upstream is doing for this request. */
  #fail(refusal: Refusal): void {
    this.#end()
    this.#refuse(refusal)
  }

  #refuse(refusal: Refusal): void {
    this.#over = true
    this.#progress = this.#deps.watchdog.now()
    // What was written before the error must not be read as a header of the refusal.
    this.#head = undefined
    sendRefusal(this.#x, this.#req, this.#res, refusal, this.#deps.draining())
  }

  #end(): void {
    this.#over = true
    if (this.#began > 0) this.#x.upstreamMs = performance.now() - this.#began
    this.#body?.destroy()
    this.#abort?.()
  }
}

import type { IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import { Readable } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { Coding } from '../config/compress.js'
import type { Service } from '../config/snapshot.js'
import { ERRORS, type ErrorCode, type Refusal } from '../errors.js'
import { outcomeOf } from '../upstream/outliers.js'
import type { Outcome, Target, Upstreams } from '../upstream/pool.js'
import { Attempt } from './attempt.js'
import { type ClientEvents, ClientResponse } from './client-response.js'
import { chooseCoding } from './coding.js'
import { availableCodings, CompressedBody } from './compressed-body.js'
import { toldCost } from './cost.js'
import type { Exchange } from './exchange.js'
import { hashKeyOf } from './hash-key.js'
import type { Mirror, MirrorCopy } from './mirror.js'
import { claimsQuota, pushQuotaHeaders } from './quota-headers.js'
import { createReplayMemory, type Replay, type ReplayMemory } from './replay.js'
import { sendRefusal } from './reply.js'
import { type BodyEvents, RequestBody } from './request-body.js'
import { shapeResponse } from './shape.js'
import { errorText, isBodilessLength, isConnectError, upstreamErrorCode } from './upstream-error.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'
import { MAX_RESPONSE_FIELDS, reasonPhrase, responseHeaders } from './upstream-response.js'
import type { Watchdog, Watched } from './watchdog.js'

export interface ForwardDeps {
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly mirror: Mirror
  /** For bodies that may have to be sent again; by default of the usual size. */
  readonly replays?: ReplayMemory
  readonly draining: () => boolean
}

/** A request that was sent once may be sent again only if these say the same twice (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
/** A gateway that has no room says when to come back, in seconds. */
const RETRY_SOON = ['Retry-After', '1']

/** A forwarded exchange, as the one who accepted it sees it. */
export interface UnderWay {
  /** Called once, and before all else. */
  start(): void
  /** The response is closed: completely sent, or the client has gone. */
  closed(): void
}

/** Last stage: the request goes to an upstream of its service, and the response comes back. */
export function forward(deps: ForwardDeps) {
  const replays = deps.replays ?? createReplayMemory()
  return function forward(x: Exchange, req: IncomingMessage, res: ServerResponse): UnderWay {
    return new Forwarding(deps, replays, x, req, res)
  }
}

/**
 * One request on its way to an upstream and its response on the way back. A class, as undici's parser calls these
 * methods several times a request and one shape keeps those calls cheap.
 */
class Forwarding implements Dispatcher.DispatchHandler, BodyEvents, ClientEvents, Watched {
  watchSlot = -1
  readonly #deps: ForwardDeps
  readonly #replays: ReplayMemory
  readonly #x: Exchange
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #client: ClientResponse
  #target: Target | undefined
  /** Upstreams that it has been to already. */
  #tried: Target[] | undefined
  /** Of those, the ones that no connection could be made to. */
  #unreachable: Target[] | undefined
  /** Takes the request out of those that wait for an upstream; set while it is one of them. */
  #leaveQueue: (() => void) | undefined
  /** How it went with the upstream, as far as that is not what undici says. */
  #outcome: Outcome = 'unknown'
  #why = ''
  #body: RequestBody | null = null
  /** Where the whole of it had come before it was sent. */
  #whole: Buffer | undefined
  /** The response is compressed on its way. */
  #encoder: CompressedBody | undefined
  /** What has come of the body, where it may be sent again; and the whole of it, when it is. */
  #replay: Replay | undefined
  #again: Readable | undefined
  /** What a second service gets of it. */
  #copy: MirrorCopy | undefined
  /** `performance.now()` at the first hand-over to an upstream. */
  #began = 0
  /** Watchdog time of the last byte in either direction. */
  #progress = 0
  /** `performance.now()` at the latest hand-over. */
  #dispatched = 0
  /** `performance.now()` from which the upstream has had the whole request to answer; 0: no upstream has it. */
  #waitingSince = 0
  /** The request has been handed to a connection: from here on the upstream may have seen it. */
  #sent = false
  /** How often it has been sent again. */
  #resends = 0
  /** It is under way for another time, and has not been answered since. */
  #retrying = false
  /** The first attempt, when it was abandoned; and the latest one after that. */
  #abandoned: Target | undefined
  #attempt: Attempt | undefined
  /** A first byte of a response, or of a 1xx, has come. */
  #answering = false
  /** Aborts what undici is doing for us; set once the request has a connection. */
  #abort: ((error?: Error) => void) | undefined
  #resume: (() => void) | undefined
  /** The outcome is fixed: whatever undici still says is not news. */
  #over = false

  constructor(
    deps: ForwardDeps,
    replays: ReplayMemory,
    x: Exchange,
    req: IncomingMessage,
    res: ServerResponse,
  ) {
    this.#deps = deps
    this.#replays = replays
    this.#x = x
    this.#req = req
    this.#res = res
    this.#client = new ClientResponse(x, req, res, deps.draining, this)
  }

  start(): void {
    const { headers, route } = this.#x
    this.#deps.watchdog.add(this)
    if (headers.contentLength > route!.bodyLimit) {
      this.#refuse({ code: 'payload_too_large', detail: this.#limitText() })
      return
    }
    if (headers.contentLength > 0 || headers.chunked) {
      if (IDEMPOTENT.has(this.#x.method) && route!.service.retries.attempts > 0)
        this.#replay = this.#replays.keep()
      this.#body = new RequestBody(this.#req, this, this.#replay)
    }
    this.#progress = this.#deps.watchdog.now()
    this.#x.guard!.budget.request(this.#progress)
    if (route!.mirror !== undefined) this.#copy = this.#deps.mirror.copy(this.#x, this.#req)
    this.#dispatch(undefined)
    if (this.#body === null) this.#copy?.send()
  }

  /** @param failure why the request is not with another upstream already, for when there is no further one */
  #dispatch(failure: Refusal | undefined): void {
    const x = this.#x
    const { service } = x.route!
    const key = hashKeyOf(x, service)
    let target = this.#deps.upstreams.pick(service, key, this.#tried)
    // Another one first: what broke once may break again. What could not be reached is not tried twice.
    if (target === 'tried' && this.#resends > 0)
      target = this.#deps.upstreams.pick(service, key, this.#unreachable)
    if (typeof target !== 'string') this.#send(target)
    else if (target === 'busy') this.#wait(service, key)
    else this.#refuse(failure ?? { code: 'no_upstream' })
  }

  #wait(service: Service, key: string | undefined): void {
    this.#waitingSince = 0
    this.#leaveQueue = this.#deps.upstreams.wait({
      service,
      key,
      tried: this.#resends > 0 ? this.#unreachable : this.#tried,
      proceed: (target) => {
        this.#leaveQueue = undefined
        this.#send(target)
      },
      waitedTooLong: () => {
        this.#leaveQueue = undefined
        this.#refuse({ code: 'overloaded', cause: `no upstream was free within ${service.maxWait} ms` })
      },
    })
    if (this.#leaveQueue === undefined)
      this.#refuse({ code: 'overloaded', cause: `${service.maxWaiting} requests wait for an upstream` })
  }

  #send(target: Target): void {
    const x = this.#x
    const fields = upstreamHeaders(x, target.upstream, this.#req)
    const path = upstreamPath(x, target.upstream)
    this.#target = target
    this.#sent = false
    this.#abort = undefined
    this.#outcome = 'unknown'
    x.upstream = target.upstream
    this.#dispatched = performance.now()
    this.#waitingSince = this.#dispatched
    if (this.#began === 0) this.#began = this.#dispatched
    if (this.#abandoned !== undefined) this.#attempt = new Attempt(this)
    this.#progress = this.#deps.watchdog.now()
    if (this.#body !== null && x.headers.contentLength > 0) {
      fields.push('Content-Length', String(x.headers.contentLength))
      // What is copied is read along, and HTTP/2 asks for a stream.
      if (this.#copy === undefined && target.upstream.protocol === 'http1')
        this.#whole ??= this.#body.takeWhole(x.headers.contentLength)
    }
    this.#deps.upstreams.begun(target).dispatch(
      {
        path,
        method: x.method as Dispatcher.HttpMethod,
        headers: fields,
        body: this.#again ?? this.#whole ?? this.#body,
      },
      this.#attempt ?? this,
    )
  }

  // The request's body on its way

  begin(): void {
    this.#copy?.read()
    if (this.#x.headers.expectContinue) this.#client.proceed()
  }

  received(bytes: number): boolean {
    this.#x.bytesIn += bytes
    this.#progress = this.#deps.watchdog.now()
    if (this.#x.bytesIn <= this.#x.route!.bodyLimit) return true
    this.#fail({ code: 'payload_too_large', detail: this.#limitText() })
    return false
  }

  ended(): void {
    if (this.#x.pass !== undefined) this.#waitingSince = performance.now()
  }

  #limitText(): string {
    return `The body is larger than the ${this.#x.route!.bodyLimit} bytes that this route accepts.`
  }

  // What undici says

  onConnect(abort: (error?: Error) => void): void {
    if (this.#abandoned !== undefined) throw new Error('abandoned before it had a connection')
    this.connected(abort)
  }

  connected(abort: (error?: Error) => void): void {
    // Thrown, as undici's abort would take the connection along, and nothing has been sent on it.
    if (this.#over) throw new Error('the request was over before it had a connection')
    this.#abort = abort
    this.#sent = true
  }

  onResponseStarted(): void {
    this.#answering = true
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, statusText: string): boolean {
    if (this.#over) return true
    const x = this.#x
    if (status < 200) {
      if (status === 103) this.#client.hint(raw)
      return true
    }
    this.#progress = this.#deps.watchdog.now()
    this.#deps.upstreams.answered(this.#target!)
    this.#answered(status)
    if (raw.length > MAX_RESPONSE_FIELDS * 2) {
      this.#fail({ code: 'upstream_bad_response', cause: `more than ${MAX_RESPONSE_FIELDS} response fields` })
      return true
    }
    this.#resume = resume
    const quota = claimsQuota(x.decision)
    const { costHeader } = x.route!
    if (costHeader !== undefined) x.toldCost = toldCost(raw, costHeader)
    const fields = responseHeaders(raw, x.requestId, quota, costHeader, status === 204)
    if (fields === undefined) {
      this.#fail({ code: 'upstream_bad_response', cause: 'a transfer coding that nobody asked for' })
      return true
    }
    const { shape } = x.route!
    const head = shape === undefined ? fields : shapeResponse(fields, shape, x)
    if (quota) pushQuotaHeaders(head, x.route!.quotaOf.policies[x.tier]!, x.decision!)
    x.status = status
    const reason = reasonPhrase(statusText)
    const coding =
      shape?.compress === undefined
        ? undefined
        : chooseCoding(shape.compress, x, status, head, availableCodings())
    if (coding === undefined) this.#client.begin(head, reason)
    else this.#compress(coding, head, reason)
    return true
  }

  #compress(coding: Coding, head: string[], reason: string | undefined): void {
    this.#encoder = new CompressedBody(coding, {
      begin: () => this.#client.begin(head, reason),
      compressed: (chunk) => {
        this.#x.bytesOut += chunk.length
        return this.#client.write(chunk)
      },
      room: () => this.#resume!(),
      failed: (error) => this.#cut('internal', errorText(error)),
    })
  }

  #answered(status: number): void {
    this.#replay?.forget()
    if (this.#retrying) {
      this.#retrying = false
      this.#x.guard!.succeeded++
    }
    const { pass } = this.#x
    if (pass === undefined) return
    const now = performance.now()
    pass.answered(status, this.#waited(now), now)
  }

  /** Ms that the upstream has had the whole request; undefined while there is more to come, or no upstream has it. */
  #waited(now: number): number | undefined {
    const all = this.#body === null || this.#req.complete
    return all && this.#waitingSince > 0 ? now - this.#waitingSince : undefined
  }

  onData(chunk: Buffer): boolean {
    if (this.#over) return true
    this.#progress = this.#deps.watchdog.now()
    if (this.#encoder !== undefined) return this.#encoder.write(chunk)
    this.#x.bytesOut += chunk.length
    return this.#client.write(chunk)
  }

  onComplete(trailers: readonly (Buffer | string)[] | null): void {
    if (this.#over) this.#settle(this.#outcome, this.#why)
    else if (outcomeOf(this.#x.status) === 'well') this.#settle('well')
    else this.#settle('failed', `status ${this.#x.status}`)
    if (this.#over) return
    if (this.#encoder === undefined) this.#complete(trailers)
    else this.#encoder.end(() => this.#complete(trailers))
  }

  #complete(trailers?: readonly (Buffer | string)[] | null): void {
    this.#over = true
    // An answer before the end of the upload: nothing more of that is wanted.
    if (!this.#req.complete) this.#body?.destroy()
    if (trailers && trailers.length > 0) this.#client.trail(trailers)
    this.#client.end()
  }

  onError(error: Error): void {
    if (this.#abandoned === undefined) this.attemptFailed(error)
    else this.attemptGone(this.#abandoned)
  }

  attemptGone(target: Target): void {
    this.#deps.upstreams.ended(target, 'unknown')
  }

  attemptFailed(error: Error): void {
    if (this.#over) {
      this.#settle(this.#outcome, this.#why)
      return
    }
    const code = upstreamErrorCode(error)
    const cause = errorText(error)
    const ours = code === 'overloaded' || code === 'internal'
    if (this.#client.begun && isBodilessLength(this.#x.status, error)) {
      this.#settle('well')
      this.#complete()
    } else if (this.#client.begun) {
      this.#settle('failed', cause)
      this.#cut(code, cause)
    } else if (!this.#sent && !ours) {
      this.#settle('unreachable', cause)
      this.#elsewhere({ code, cause })
    } else if (code === 'upstream_failed' && this.#mayResend()) {
      this.#resend({ code, cause })
    } else {
      this.#settle(ours ? 'unknown' : 'failed', cause)
      this.#refuse({ code: isConnectError(code) ? 'upstream_failed' : code, cause })
    }
  }

  /** Nothing was sent, so any request may go to another upstream, to each of them once. */
  #elsewhere(failure: Refusal): void {
    this.#unreachable ??= []
    this.#unreachable.push(this.#target!)
    const left = (this.#tried?.length ?? 0) + 1 < this.#x.route!.service.upstreams.length
    this.#retry(failure, left && this.#withinBudget())
  }

  /** What may be sent twice is. */
  #resend(failure: Refusal): void {
    this.#resends++
    const again = this.#withinBudget()
    // Most likely a connection that the upstream closed while it was idle, which says nothing about it. But who breaks
    // so many that the budget is spent is not well.
    this.#settle(again ? 'unknown' : 'failed', failure.cause)
    this.#retry(failure, again)
  }

  #withinBudget(): boolean {
    const { guard, route } = this.#x
    return guard!.mayRetry(route!.service, this.#deps.watchdog.now())
  }

  #retry(failure: Refusal, again: boolean): void {
    this.#tried ??= []
    this.#tried.push(this.#target!)
    if (again) {
      this.#retrying = true
      this.#dispatch(failure)
    } else this.#refuse(failure)
  }

  #mayResend(): boolean {
    if (this.#answering || !IDEMPOTENT.has(this.#x.method)) return false
    if (this.#resends >= this.#x.route!.service.retries.attempts) return false
    if (this.#body === null) return true
    const whole = this.#replay?.whole()
    if (whole === undefined) return false
    this.#again = Readable.from([whole], { objectMode: false })
    // What becomes of it is told by the handler.
    this.#again.on('error', () => {})
    return true
  }

  /** There was no connection in time. undici finds out that nobody waits for it any more when it has one, or none. */
  #abandon(connect: number): void {
    const cause = `no connection within ${connect} ms`
    this.#x.upstreamMs = performance.now() - this.#began
    this.#deps.upstreams.unreachable(this.#target!, cause)
    if (this.#attempt === undefined) this.#abandoned = this.#target
    else this.#attempt.abandon(this.#target!)
    this.#elsewhere({ code: 'upstream_connect_timeout', cause })
  }

  /** undici is through with this attempt. */
  #settle(outcome: Outcome, why = ''): void {
    this.#x.upstreamMs = performance.now() - this.#began
    this.#deps.upstreams.ended(this.#target!, outcome, why)
  }

  // What the client's side says

  drained(): void {
    this.#progress = this.#deps.watchdog.now()
    if (this.#encoder === undefined) this.#resume!()
    else this.#encoder.drained()
  }

  unsendable(error: Error): void {
    this.#fail({ code: 'upstream_bad_response', cause: errorText(error) })
  }

  // Ends that are not the usual one

  check(now: number): void {
    const { total, request, headers, idle, connect } = this.#x.route!.timeouts
    if (this.#over) {
      if (idle > 0 && this.#client.stuckFor(now) > idle) this.#letGo(idle)
      return
    }
    const still = now - this.#progress
    if (total > 0 && now - this.#x.started > total) this.#expire(`the whole took more than ${total} ms`)
    // The queue has a limit of its own.
    else if (this.#leaveQueue !== undefined) return
    else if (request > 0 && this.#uploading && now - this.#x.started > request) {
      const cause = `the request has not come to its end within ${request} ms`
      if (this.#client.begun) this.#cut('request_timeout', cause)
      else this.#expire(cause)
    } else if (this.#client.begun) {
      if (idle > 0 && still > idle && !this.#client.behind)
        this.#expire(`no byte of the response for ${idle} ms`)
    } else if (
      !this.#sent &&
      now - this.#dispatched > connect &&
      this.#deps.upstreams.connecting(this.#target!)
    ) {
      this.#abandon(connect)
    } else if (this.#body !== null && this.#again === undefined && !this.#body.ended) {
      if (idle > 0 && still > idle) this.#expire(`no byte of the request for ${idle} ms`)
    } else if (headers > 0 && still > headers) this.#expire(`no response header within ${headers} ms`)
  }

  get #uploading(): boolean {
    return this.#body !== null && !this.#req.complete
  }

  /** All is written, but the client does not take it. */
  #letGo(idle: number): void {
    this.#x.error ??= 'client_closed'
    this.#x.cause ??= `the client took no byte of the response for ${idle} ms`
    this.#res.destroy()
  }

  #expire(cause: string): void {
    if (this.#client.begun) {
      this.#cut(this.#client.full ? 'client_closed' : 'upstream_timeout', cause)
    } else if (this.#uploading && this.#body!.waitingForClient) {
      this.#fail({ code: 'request_timeout', cause })
    } else {
      this.#fail({ code: 'upstream_timeout', cause })
    }
  }

  closed(): void {
    this.#deps.watchdog.delete(this)
    const x = this.#x
    if (this.#over && this.#res.writableFinished) return
    x.error ??= 'client_closed'
    if (x.status === 0) x.status = 499
    if (!this.#over) {
      this.#tell('client_closed')
      this.#end()
    }
  }

  /** Says what has become of the request to what guards its service. */
  #tell(code: ErrorCode): void {
    this.#replay?.forget()
    const { pass } = this.#x
    if (pass === undefined) return
    const now = performance.now()
    const waited = this.#waited(now) ?? 0
    if (ERRORS[code].source !== 'upstream') pass.left(waited, now)
    else pass.failed(code === 'upstream_timeout' || code === 'upstream_connect_timeout', waited, now)
  }

  #cut(error: ErrorCode, cause: string): void {
    if (!this.#client.committed) {
      this.#fail({ code: error, cause })
      return
    }
    this.#x.error = error
    this.#x.cause = cause
    this.#blame(error, cause)
    this.#tell(error)
    this.#end()
    this.#client.cut()
  }

  /** Remembers for the balancer when it is the upstream that has failed. */
  #blame(code: ErrorCode, cause = ''): void {
    if (ERRORS[code].source !== 'upstream') return
    this.#outcome = 'failed'
    this.#why = cause
  }

  /** Refuses, and stops what the upstream is doing for this request. */
  #fail(refusal: Refusal): void {
    this.#blame(refusal.code, refusal.cause)
    this.#end()
    this.#refuse(refusal)
  }

  #refuse(refusal: Refusal): void {
    this.#over = true
    this.#encoder?.destroy()
    this.#tell(refusal.code)
    if (this.#retrying) {
      this.#retrying = false
      this.#x.guard!.failed++
    }
    this.#client.drop()
    // Lets go of the request, which is read to a decent end now.
    this.#body?.destroy()
    if (refusal.code === 'overloaded') refusal = { ...refusal, headers: RETRY_SOON }
    sendRefusal(this.#x, this.#req, this.#res, refusal, this.#deps.draining())
  }

  #end(): void {
    this.#over = true
    this.#leaveQueue?.()
    this.#encoder?.destroy()
    this.#client.drop()
    if (this.#began > 0) this.#x.upstreamMs = performance.now() - this.#began
    this.#body?.destroy()
    this.#abort?.()
  }
}

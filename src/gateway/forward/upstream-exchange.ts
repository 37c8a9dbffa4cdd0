import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Service } from '../../config/snapshot/snapshot.js'
import { createBodyDigest } from '../../credentials/body-digest.js'
import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import { give, type Holding, type Shares } from '../../shares.js'
import type { Asking, Target } from '../../upstream/pool/choose.js'
import { outcomeOf } from '../../upstream/pool/outliers.js'
import type { AttemptOutcome, Upstreams } from '../../upstream/pool/pool.js'
import type { ResponseHandler, Sender, Sent } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import type { Breakable } from '../exchange/faults.js'
import { answerCall, beginCall, endCall, failCall, readGrpcStatus } from '../exchange/trace.js'
import type { Watchdog } from '../exchange/watchdog.js'
import { callerOf } from '../identify/caller.js'
import { Attempt, type Trailers } from './attempt.js'
import type { Replay, ReplayMemory } from './body-buffer.js'
import { hashKeyOf } from './hash-key.js'
import type { Mirror, MirrorCopy } from './mirror.js'
import { type BodyEvents, RequestBody } from './request-body.js'
import { isPaced, UploadPace } from './upload-pace.js'
import { errorText, isConnectError, upstreamErrorCode, wasRefusedForGood } from './upstream-error.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'

export interface SendingDeps {
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly mirror: Mirror
  readonly shares: Shares
}

/** Who waits for the response. Told nothing more once `cut`, `refuse` or `end` was called, or it has given up itself. */
export interface Receiver extends Breakable {
  /** The upstream asks for the request's body. */
  bodyWanted(): void
  bodyTooLarge(): void
  /** Fields of a 103. */
  hint(fields: readonly string[]): void
  header(status: number, fields: readonly string[], reason: string): void
  /** @returns false when the next piece should wait for `resume` */
  /** A string is Latin-1; none comes unless `takesText`. */
  data(chunk: Buffer | string): boolean
  readonly takesText: boolean
  end(trailers: Trailers): void
  /** There will be no response. */
  refuse(refusal: Refusal): void
  /** The response has broken off. */
  cut(code: ErrorCode, cause: string): void
}

/** A request that was sent once may be sent again only if these say the same twice (RFC 9110 §9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/**
 * One request on its way to an upstream: which one, waiting for its turn there, and another try where the first came to
 * nothing.
 */
export class Sending implements ResponseHandler, BodyEvents, Asking {
  /** Watchdog time of the last byte in either direction. */
  progress = 0
  place: Holding | undefined
  readonly #deps: SendingDeps
  readonly #replays: ReplayMemory
  readonly #x: Exchange
  readonly #req: IncomingMessage
  readonly #receiver: Receiver
  #target: Target | undefined
  /** That has been given it last. */
  #sender: Sender | undefined
  /** Upstreams that it has been to already. */
  #tried: Target[] | undefined
  /** Of those, the ones that no connection could be made to. */
  #unreachable: Target[] | undefined
  /** Takes the request out of those that wait for an upstream; set while it is one of them. */
  #leaveQueue: (() => void) | undefined
  /** How it went with the upstream, as far as that is not what the connection says. */
  #outcome: AttemptOutcome = 'unknown'
  /** An upstream is busy with it. */
  #busy = false
  #why = ''
  #body: RequestBody | null = null
  /** Of a body that has not come whole. */
  #pace: UploadPace | undefined
  /** Where the whole of it had come before it was sent. */
  #whole: Buffer | undefined
  /** What has come of the body, where it may be sent again; and the whole of it, when it is. */
  #replay: Replay | undefined
  #again: Buffer | undefined
  /** What a second service gets of it. */
  #copy: MirrorCopy | undefined
  /** `performance.now()` at the first hand-over to an upstream, and at the latest. */
  #began = 0
  #dispatched = 0
  /** `performance.now()` from which the upstream has had the whole request to answer; 0: no upstream has it. */
  #waitingSince = 0
  /** How often it has been sent again. */
  #resends = 0
  /** It is under way for another time, and has not been answered since. */
  #retrying = false
  /** The first attempt, when it was abandoned; and the latest one after that. */
  #abandoned: Target | undefined
  #attempt: Attempt | undefined
  /** A first byte of a response, or of a 1xx, has come; and the header of the response itself. */
  #answering = false
  #answered = false
  /** Set once the request has a connection. */
  #sent: Sent | undefined
  /** The receiver has all that it will get: whatever is still said is not news. */
  #over = false

  constructor(
    deps: SendingDeps,
    replays: ReplayMemory,
    x: Exchange,
    req: IncomingMessage,
    receiver: Receiver,
  ) {
    this.#deps = deps
    this.#replays = replays
    this.#x = x
    this.#req = req
    this.#receiver = receiver
  }

  start(): void {
    const { headers, method, route, guard, bodyDigest } = this.#x
    if (headers.contentLength > 0 || headers.chunked) {
      if (IDEMPOTENT.has(method) && route!.service.retries.attempts > 0)
        this.#replay = this.#replays.keep(this)
      const digest = bodyDigest === undefined ? undefined : createBodyDigest(bodyDigest)
      this.#body = new RequestBody(this.#req, this, this.#replay, digest)
    }
    this.progress = this.#deps.watchdog.now()
    guard!.budget.request(this.progress)
    if (route!.mirror !== undefined) this.#copy = this.#deps.mirror.copy(this.#x, this.#req)
    const body = this.#body
    if (body !== null && !body.isHere && isPaced(route!.service, this.#x.snapshot.config.server.min_rate)) {
      this.#pace = new UploadPace(this.#x, this.#deps.shares, this.progress, () => this.#dispatch(undefined))
      body.gather()
      return
    }
    this.#dispatch(undefined)
    if (body === null) this.#copy?.send()
  }

  // To which upstream

  /** Who its share of the connections is counted for. */
  get caller(): string | undefined {
    return callerOf(this.#x, this.#deps.shares)
  }

  /** @param failure why the request is not with another upstream already, for when there is no further one */
  #dispatch(failure: Refusal | undefined): void {
    const x = this.#x
    const { service } = x.route!
    const key = hashKeyOf(x, service)
    let target = this.#deps.upstreams.pick(service, key, this.#tried, this)
    // Another one first: what broke once may break again. What could not be reached is not tried twice.
    if (target === 'tried' && this.#resends > 0)
      target = this.#deps.upstreams.pick(service, key, this.#unreachable, this)
    if (typeof target !== 'string') this.#send(target)
    else if (target === 'busy') this.#wait(service, key)
    else this.#receiver.refuse(failure ?? { code: 'no_upstream' })
  }

  #wait(service: Service, key: string | undefined): void {
    this.#waitingSince = 0
    this.#leaveQueue = this.#deps.upstreams.wait({
      service,
      key,
      tried: this.#resends > 0 ? this.#unreachable : this.#tried,
      asking: this,
      proceed: (target) => {
        this.#leaveQueue = undefined
        this.#try(() => this.#send(target))
      },
      waitedTooLong: () => {
        this.#leaveQueue = undefined
        this.#try(() => this.#noRoom(`no upstream was free within ${service.maxWait} ms`))
      },
    })
    if (this.#leaveQueue === undefined) this.#noRoom(`${service.maxWaiting} requests wait for an upstream`)
  }

  #noRoom(cause: string): void {
    this.#receiver.refuse({ code: 'overloaded', cause })
  }

  #send(target: Target): void {
    const x = this.#x
    // What is copied is read along.
    if (this.#body !== null && this.#copy === undefined)
      this.#whole ??= this.#body.takeWhole(x.headers.contentLength)
    if (this.#over) {
      // It was another body than was signed. What was free for it is free for the next one.
      this.#deps.upstreams.begun(target)
      this.#deps.upstreams.ended(target, 'unknown')
      return
    }
    const fields = upstreamHeaders(x, x.route!.service, target.upstream, this.#req)
    const path = upstreamPath(x, target.upstream)
    beginCall(x, target.upstream, path, fields)
    this.#target = target
    this.#sent = undefined
    this.#outcome = 'unknown'
    x.upstream = target.upstream
    this.#dispatched = performance.now()
    this.#waitingSince = this.#dispatched
    if (this.#began === 0) this.#began = this.#dispatched
    if (this.#abandoned !== undefined) this.#attempt = new Attempt(this)
    this.progress = this.#deps.watchdog.now()
    this.#sender = this.#deps.upstreams.begun(target, this)
    this.#busy = true
    try {
      this.#sender.dispatch(
        {
          method: x.method,
          path,
          fields,
          body: this.#again ?? this.#whole ?? this.#body,
          length: x.headers.contentLength,
          fresh: this.#resends > 0,
        },
        this.#attempt ?? this,
      )
    } catch (error) {
      this.#release()
      throw error
    }
  }

  // The request's body on its way

  begin(): void {
    this.#copy?.read()
    this.#receiver.bodyWanted()
  }

  received(bytes: number): boolean {
    this.#x.bytesIn += bytes
    this.progress = this.#deps.watchdog.now()
    if (this.#x.bytesIn <= this.#x.route!.bodyLimit) return true
    this.#receiver.bodyTooLarge()
    return false
  }

  kept(bytes: number): boolean {
    return this.#pace!.kept(bytes)
  }

  emptied(): void {
    this.#pace!.emptied()
  }

  ended(): void {
    this.#pace?.complete()
    if (this.#x.pass !== undefined) this.#waitingSince = performance.now()
  }

  forged(): void {
    this.#receiver.cut('digest_mismatch', 'the body has another digest than was signed')
  }

  // What becomes of it

  onConnect(sent: Sent): void {
    if (this.#abandoned !== undefined) throw new Error('abandoned before it had a connection')
    this.connected(sent)
  }

  /** The upstream may see it from here on. */
  connected(sent: Sent): void {
    if (this.#over) throw new Error('the request was over before it had a connection')
    this.#sent = sent
  }

  onResponseStarted(): void {
    this.#answering = true
  }

  onHeaders(status: number, fields: string[], reason: string): void {
    try {
      this.#header(status, fields, reason)
    } catch (error) {
      this.broken(error)
    }
  }

  #header(status: number, fields: string[], reason: string): void {
    if (this.#over) return
    if (status < 200) {
      if (status === 103) this.#receiver.hint(fields)
      return
    }
    this.progress = this.#deps.watchdog.now()
    this.#answered = true
    answerCall(this.#x, status, fields)
    this.#deps.upstreams.answered(this.#target!)
    this.#replay?.forget()
    if (this.#retrying) {
      this.#retrying = false
      this.#x.guard!.succeeded++
    }
    const { pass } = this.#x
    if (pass !== undefined) {
      const now = performance.now()
      pass.answered(status, this.#waited(now), now)
    }
    this.#receiver.header(status, fields, reason)
  }

  get takesText(): boolean {
    return this.#receiver.takesText
  }

  onData(chunk: Buffer | string): boolean {
    if (this.#over) return true
    try {
      this.progress = this.#deps.watchdog.now()
      return this.#receiver.data(chunk)
    } catch (error) {
      this.broken(error)
      return true
    }
  }

  onComplete(trailers: Trailers): void {
    try {
      this.#complete(trailers)
    } catch (error) {
      this.#brokenAtEnd(error)
    }
  }

  #complete(trailers: Trailers): void {
    if (this.#over) {
      this.#settle(this.#outcome, this.#why)
      return
    }
    readGrpcStatus(this.#x, trailers)
    const { status } = this.#x
    if (outcomeOf(status) === 'well') this.#settle('well')
    else this.#settle('failed', `status ${status}`)
    this.#end(trailers)
  }

  #end(trailers: Trailers): void {
    this.#over = true
    // An answer before the end of the upload: nothing more of that is wanted.
    if (this.uploading) this.#body!.destroy()
    this.#pace?.release()
    this.#receiver.end(trailers)
  }

  onError(error: Error): void {
    if (this.#abandoned === undefined) this.attemptFailed(error)
    else this.attemptGone(this.#abandoned)
  }

  attemptGone(target: Target): void {
    this.#try(() => this.#deps.upstreams.ended(target, 'unknown'))
  }

  attemptFailed(error: Error): void {
    const target = this.#target
    try {
      this.#failed(error)
    } catch (thrown) {
      if (this.#target === target) this.#brokenAtEnd(thrown)
      else this.broken(thrown)
    }
  }

  #failed(error: Error): void {
    if (this.#over) {
      this.#settle(this.#outcome, this.#why)
      return
    }
    const code = upstreamErrorCode(error)
    const cause = errorText(error)
    const ours = code === 'overloaded' || code === 'internal'
    // Of a connection that was made, it means that it broke.
    const broken = isConnectError(code) ? 'upstream_failed' : code
    failCall(this.#x, this.#answered ? 'upstream_cut' : this.#sent === undefined ? code : broken, cause)
    if (this.#answered) {
      this.#settle('failed', cause)
      this.#receiver.cut(broken, cause)
    } else if (this.#sent === undefined && !ours) {
      this.#settle('unreachable', cause)
      this.#elsewhere({ code, cause })
    } else if (code === 'upstream_failed' && !wasRefusedForGood(error) && this.#mayResend()) {
      this.#resend({ code, cause })
    } else {
      this.#settle(ours ? 'unknown' : 'failed', cause)
      this.#receiver.refuse({ code: broken, cause })
    }
  }

  /** This attempt has come to its end. */
  #settle(outcome: AttemptOutcome, why = ''): void {
    this.#x.upstreamMs = performance.now() - this.#began
    endCall(this.#x)
    this.#release(outcome, why)
  }

  /** No upstream is busy with it any more. */
  #release(outcome: AttemptOutcome = 'unknown', why = ''): void {
    if (!this.#busy) return
    this.#leave()
    this.#deps.upstreams.ended(this.#target!, outcome, why)
  }

  #leave(): void {
    this.#busy = false
    const { place } = this
    if (place === undefined) return
    this.place = undefined
    give(place.share, place.caller)
  }

  /** Something of it threw. */
  broken(error: unknown): void {
    this.#receiver.broken(error)
  }

  /** It threw as the upstream was through with it, which it may not have been told. */
  #brokenAtEnd(error: unknown): void {
    this.broken(error)
    this.#try(() => this.#release())
  }

  /** What is called from elsewhere ends no more than this exchange when it throws. */
  #try(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.broken(error)
    }
  }

  // Another try

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
    } else this.#receiver.refuse(failure)
  }

  #mayResend(): boolean {
    if (this.#answering || !IDEMPOTENT.has(this.#x.method)) return false
    if (this.#resends >= this.#x.route!.service.retries.attempts) return false
    if (this.#body === null) return true
    this.#again = this.#replay?.whole()
    return this.#again !== undefined
  }

  /** More is wanted after `data` gave false. */
  resume(): void {
    this.#sent?.resume()
  }

  // How it stands, for who watches the time

  /** It waits for its turn at an upstream. */
  get queued(): boolean {
    return this.#leaveQueue !== undefined
  }

  /** The client has not sent all of it yet. */
  get uploading(): boolean {
    return this.#body !== null && !this.#req.complete
  }

  /** Whether the body waits until its caller may have another upload. */
  get waitsForShare(): boolean {
    return this.#pace?.waitsForShare === true
  }

  /** Whether the client sends fast enough for the connection that its body holds. To be asked now and then. */
  keepsPace(now: number): boolean {
    const pace = this.#pace
    if (pace === undefined || this.#over || this.#body!.ended) return true
    return pace.look(now, this.#body!.waitingForClient) || this.#target?.upstream.protocol === 'http2'
  }

  /** Whether the upstream has asked for more than the client has sent. */
  get waitsForClient(): boolean {
    return this.#body?.waitingForClient === true
  }

  /** The upstream has not been given all of the body yet. */
  get bodyUnderWay(): boolean {
    return this.#body !== null && this.#again === undefined && !this.#body.ended
  }

  /** Whether a connection has been waited for longer than so many ms. */
  lacksConnection(connect: number, now: number): boolean {
    if (this.#sent !== undefined || this.#dispatched === 0 || now - this.#dispatched <= connect) return false
    return this.#deps.upstreams.connecting(this.#target!)
  }

  /** There was no connection in time. The pool finds out that nobody waits for it any more when it has one, or none. */
  abandon(connect: number): void {
    const cause = `no connection within ${connect} ms`
    this.#x.upstreamMs = performance.now() - this.#began
    this.#deps.upstreams.unreachable(this.#target!, cause)
    failCall(this.#x, 'upstream_connect_timeout', cause)
    endCall(this.#x)
    // The pool goes on with it, and says so when it has ended.
    this.#leave()
    if (this.#attempt === undefined) this.#abandoned = this.#target
    else this.#attempt.abandon(this.#target!)
    this.#elsewhere({ code: 'upstream_connect_timeout', cause })
  }

  // The end

  /** Nobody waits for a response, or for the rest of it, any more. */
  giveUp(code: ErrorCode, cause = ''): void {
    this.#over = true
    failCall(this.#x, code, cause)
    if (ERRORS[code].source === 'upstream') {
      this.#outcome = 'failed'
      this.#why = cause
    }
    if (this.#retrying && code !== 'client_closed') {
      this.#retrying = false
      this.#x.guard!.failed++
    }
    this.#replay?.forget()
    this.#tellPass(code)
    this.#leaveQueue?.()
    if (this.#waitingSince > 0) this.#x.upstreamMs = performance.now() - this.#began
    // Lets go of the request, which is read to a decent end now.
    this.#body?.destroy()
    this.#pace?.release()
    if (this.#sent !== undefined) this.#sent.abort()
    else this.#sender?.withdraw(this.#attempt ?? this)
  }

  /** Says what has become of the request to what guards its service. */
  #tellPass(code: ErrorCode): void {
    const { pass } = this.#x
    if (pass === undefined) return
    const now = performance.now()
    const waited = this.#waited(now) ?? 0
    if (ERRORS[code].source !== 'upstream') pass.left(waited, now)
    else pass.failed(code === 'upstream_timeout' || code === 'upstream_connect_timeout', waited, now)
  }

  /** Ms that the upstream has had the whole request; undefined while there is more to come, or no upstream has it. */
  #waited(now: number): number | undefined {
    return this.#waitingSince > 0 && !this.uploading ? now - this.#waitingSince : undefined
  }
}

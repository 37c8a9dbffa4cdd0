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

/** Receives the response. Nothing more is called after `cut`, `refuse` or `end`, or once the receiver has given up itself. */
export interface Receiver extends Breakable {
  /** The upstream asks for the request's body. */
  bodyWanted(): void
  bodyTooLarge(): void
  /** @param fields the fields of a 103 response */
  hint(fields: readonly string[]): void
  header(status: number, fields: readonly string[], reason: string): void
  /**
   * @param chunk a string is Latin-1, and comes only if `takesText`
   * @returns false when the next piece should wait for `resume`
   */
  data(chunk: Buffer | string): boolean
  readonly takesText: boolean
  end(trailers: Trailers): void
  /** There will be no response. */
  refuse(refusal: Refusal): void
  /** The response has broken off. */
  cut(code: ErrorCode, cause: string): void
}

/**
 * A request with one of these methods may be sent again after it was sent: twice has the same effect as once (RFC 9110
 * §9.2.2).
 */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** Sends one request to an upstream: picks the upstream, waits for a turn there, and retries if the first attempt fails. */
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
  /** The sender that got it last. */
  #sender: Sender | undefined
  /** Upstreams that were tried already. */
  #tried: Target[] | undefined
  /** Tried upstreams to which no connection could be made. */
  #unreachable: Target[] | undefined
  /** Removes the request from the queue for an upstream; set while it waits there. */
  #leaveQueue: (() => void) | undefined
  /** How the upstream did, as far as the connection does not tell. */
  #outcome: AttemptOutcome = 'unknown'
  /** An upstream is busy with it. */
  #busy = false
  #why = ''
  #body: RequestBody | null = null
  /** Set for a body that has not arrived whole. */
  #pace: UploadPace | undefined
  /** The whole body, if it had arrived before the request was sent. */
  #whole: Buffer | undefined
  /** The part of the body so far, if it may be sent again; and the whole body when it is. */
  #replay: Replay | undefined
  #again: Buffer | undefined
  /** The copy for a second service. */
  #copy: MirrorCopy | undefined
  /** `performance.now()` at the first hand-over to an upstream, and at the latest. */
  #began = 0
  #dispatched = 0
  /** `performance.now()` from which the upstream has had the whole request to answer; 0: no upstream has it. */
  #waitingSince = 0
  /** How often it has been sent again. */
  #resends = 0
  /** A retry is under way and has no response yet. */
  #retrying = false
  /** The first attempt, if it was abandoned; and the latest one after that. */
  #abandoned: Target | undefined
  #attempt: Attempt | undefined
  /** A first byte of a response, or of a 1xx, has arrived; and the header of the response itself. */
  #answering = false
  #answered = false
  /** Set once the request has a connection. */
  #sent: Sent | undefined
  /** The receiver has had its last call: later events are ignored. */
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

  // Choosing an upstream

  /** Returns the caller whose share of the connections this counts against. */
  get caller(): string | undefined {
    return callerOf(this.#x, this.#deps.shares)
  }

  /**
   * Hands the request to an upstream, or queues it.
   *
   * @param failure why the latest attempt failed; sent to the client if there is no further upstream
   */
  #dispatch(failure: Refusal | undefined): void {
    const x = this.#x
    const { service } = x.route!
    const key = hashKeyOf(x, service)
    let target = this.#deps.upstreams.pick(service, key, this.#tried, this)
    // Another one first: an upstream that broke off may do so again. One that could not be reached is not tried twice.
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
    // A mirrored body is read as a stream, so that the copy can read along.
    if (this.#body !== null && this.#copy === undefined)
      this.#whole ??= this.#body.takeWhole(x.headers.contentLength)
    if (this.#over) {
      // The body was not the one that was signed. The free place goes to the next request.
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

  // BodyEvents: the request's body

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

  // ResponseHandler: the upstream's response

  onConnect(sent: Sent): void {
    if (this.#abandoned !== undefined) throw new Error('abandoned before it had a connection')
    this.connected(sent)
  }

  /** The upstream may see the request from here on. */
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
    // The response ended before the upload: the rest of the body is not wanted.
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
    // On a connection that was made, this code means that the connection broke.
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

  /** Ends the attempt and notes its outcome. */
  #settle(outcome: AttemptOutcome, why = ''): void {
    this.#x.upstreamMs = performance.now() - this.#began
    endCall(this.#x)
    this.#release(outcome, why)
  }

  /** Tells the pool that no upstream is busy with the request any more. */
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

  /** Reports an error that was thrown. */
  broken(error: unknown): void {
    this.#receiver.broken(error)
  }

  /** Reports an error thrown while the upstream finished. The pool may not have been told, so it is told now. */
  #brokenAtEnd(error: unknown): void {
    this.broken(error)
    this.#try(() => this.#release())
  }

  /** Runs a step that is called from outside. If it throws, only this exchange ends. */
  #try(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.broken(error)
    }
  }

  // Retries

  /**
   * Tries another upstream after no connection could be made. Nothing was sent, so any request may go to each upstream
   * once.
   */
  #elsewhere(failure: Refusal): void {
    this.#unreachable ??= []
    this.#unreachable.push(this.#target!)
    const left = (this.#tried?.length ?? 0) + 1 < this.#x.route!.service.upstreams.length
    this.#retry(failure, left && this.#withinBudget())
  }

  /** Sends an idempotent request again. */
  #resend(failure: Refusal): void {
    this.#resends++
    const again = this.#withinBudget()
    // Most likely the upstream closed an idle connection, which says nothing about its health. But one that breaks so many
    // connections that the retry budget is spent is unhealthy.
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

  /** Asks for more after `data` returned false. */
  resume(): void {
    this.#sent?.resume()
  }

  // State for the time limits

  /** Returns whether it waits for its turn at an upstream. */
  get queued(): boolean {
    return this.#leaveQueue !== undefined
  }

  /** Returns whether the client is still sending the request. */
  get uploading(): boolean {
    return this.#body !== null && !this.#req.complete
  }

  /** Returns whether the body waits until its caller may have another upload. */
  get waitsForShare(): boolean {
    return this.#pace?.waitsForShare === true
  }

  /** Returns whether the client sends fast enough for the connection that its body holds. Call it now and then. */
  keepsPace(now: number): boolean {
    const pace = this.#pace
    if (pace === undefined || this.#over || this.#body!.ended) return true
    return pace.look(now, this.#body!.waitingForClient) || this.#target?.upstream.protocol === 'http2'
  }

  /** Returns whether the upstream has asked for more than the client has sent. */
  get waitsForClient(): boolean {
    return this.#body?.waitingForClient === true
  }

  /** Returns whether the upstream is still waiting for part of the body. */
  get bodyUnderWay(): boolean {
    return this.#body !== null && this.#again === undefined && !this.#body.ended
  }

  /** Returns whether the request has waited for a connection for more than `connect` ms. */
  lacksConnection(connect: number, now: number): boolean {
    if (this.#sent !== undefined || this.#dispatched === 0 || now - this.#dispatched <= connect) return false
    return this.#deps.upstreams.connecting(this.#target!)
  }

  /**
   * Gives up on a connection that took too long. The pool notices that nobody waits for it when it has one, or fails to get
   * one.
   */
  abandon(connect: number): void {
    const cause = `no connection within ${connect} ms`
    this.#x.upstreamMs = performance.now() - this.#began
    this.#deps.upstreams.unreachable(this.#target!, cause)
    failCall(this.#x, 'upstream_connect_timeout', cause)
    endCall(this.#x)
    // The pool continues with this attempt, and reports when it has ended.
    this.#leave()
    if (this.#attempt === undefined) this.#abandoned = this.#target
    else this.#attempt.abandon(this.#target!)
    this.#elsewhere({ code: 'upstream_connect_timeout', cause })
  }

  // The end

  /** Stops: nobody waits for the response, or for the rest of it, any more. */
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
    // Stops reading the request. The refusal code then reads its rest, so that the connection ends cleanly.
    this.#body?.destroy()
    this.#pace?.release()
    if (this.#sent !== undefined) this.#sent.abort()
    else this.#sender?.withdraw(this.#attempt ?? this)
  }

  /** Reports the outcome to the guard of the service. */
  #tellPass(code: ErrorCode): void {
    const { pass } = this.#x
    if (pass === undefined) return
    const now = performance.now()
    const waited = this.#waited(now) ?? 0
    if (ERRORS[code].source !== 'upstream') pass.left(waited, now)
    else pass.failed(code === 'upstream_timeout' || code === 'upstream_connect_timeout', waited, now)
  }

  /** Returns for how many ms the upstream has had the whole request; undefined while more is to come, or no upstream has it. */
  #waited(now: number): number | undefined {
    return this.#waitingSince > 0 && !this.uploading ? now - this.#waitingSince : undefined
  }
}

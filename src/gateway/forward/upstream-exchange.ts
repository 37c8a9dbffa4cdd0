import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import { createBodyDigest } from '../../credentials/body-digest.js'
import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import type { NoTarget, Target } from '../../upstream/pool/choose.js'
import { outcomeOf } from '../../upstream/pool/outliers.js'
import type { AttemptOutcome } from '../../upstream/pool/transitions.js'
import type { ResponseHandler, Sent } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { type Breakable, guarded } from '../exchange/faults.js'
import { failCall, readGrpcStatus } from '../exchange/trace.js'
import { Attempt, type AttemptEvents, type Trailers } from './attempt.js'
import type { Replay, ReplayMemory } from './body-buffer.js'
import type { Copy, Mirror } from './mirror.js'
import type { UnderWay } from './plain-forward.js'
import { type BodyEvents, RequestBody } from './request-body.js'
import { isPaced, UploadPace } from './upload-pace.js'
import { type AttemptDeps, type AttemptOwner, failureOf, UpstreamAttempts } from './upstream-attempts.js'

export interface SendingDeps extends AttemptDeps {
  readonly mirror: Mirror
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

/** Sends one request with its body to the upstreams that `UpstreamAttempts` finds, and passes the response to the receiver. */
export class Sending implements AttemptOwner, AttemptEvents, BodyEvents {
  /** Watchdog time of the last byte in either direction. */
  progress = 0
  readonly attempts: UpstreamAttempts
  #attempt: Attempt | undefined
  body: RequestBody | null = null
  /** The whole body, if it had arrived before the request was sent. */
  #whole: Buffer | undefined
  /** The part of the body so far, if it may be sent again; and the whole body when it is. */
  #replay: Replay | undefined
  #again: Buffer | undefined
  /** The copy for a second service. */
  #copy: Copy | undefined
  /** A first byte of a response, or of a 1xx, has arrived; and the header of the response itself. */
  #answering = false
  #answered = false
  /** Status of the response. */
  #status = 0
  /** Set once the request has a connection. */
  #sent: Sent | undefined
  /** The receiver has had its last call: later events are ignored. */
  #over = false
  /** How the upstream did, if the gateway gave up. */
  #outcome: AttemptOutcome = 'unknown'
  #why = ''

  constructor(
    private readonly deps: SendingDeps,
    private readonly replays: ReplayMemory,
    private readonly x: Exchange,
    private readonly req: IncomingMessage,
    private readonly receiver: Receiver,
  ) {
    this.attempts = new UpstreamAttempts(deps, x, this, false)
  }

  start(): void {
    const { x, deps } = this
    const { headers, method, guard, bodyDigest } = x
    const route = x.route!
    this.#whole = x.body?.whole
    if (this.#whole === undefined && (headers.contentLength > 0 || headers.chunked)) {
      // Too long for the hooks: what they would have kept is part of the stream again.
      x.body?.release()
      if (IDEMPOTENT.has(method) && route.service.retries.attempts > 0)
        this.#replay = this.replays.keep(this.attempts)
      const digest = bodyDigest === undefined ? undefined : createBodyDigest(bodyDigest)
      this.body = new RequestBody(this.req, this, this.#replay, digest)
    }
    this.progress = deps.watchdog.now()
    guard!.budget.request(this.progress)
    if (route.mirror !== undefined) this.#copy = deps.mirror.copy(x, this.req)
    const body = this.body
    if (body !== null && !body.isHere && isPaced(route.service, x.snapshot.config.server.min_rate)) {
      body.gather(new UploadPace(x, deps.shares, this.progress, () => this.attempts.next(undefined)))
      return
    }
    this.attempts.next(undefined)
    if (body === null) this.#copy?.send(this.#whole)
  }

  /** Goes on with a request that `PlainForwarding` has begun, and for which the pool has this. */
  follow(found: Target | NoTarget, key: string | undefined, body: Buffer | null): void {
    this.progress = this.deps.watchdog.now()
    this.#whole = body ?? undefined
    this.attempts.follow(found, key, undefined)
  }

  /** Goes on with an attempt that `PlainForwarding` has begun. Returns what takes the calls of its handler from now on. */
  adopt(begun: UnderWay, handler: ResponseHandler): Attempt {
    this.progress = begun.progress
    this.#whole = begun.body ?? undefined
    this.#sent = begun.sent
    this.#answering = begun.answering
    this.attempts.adopt(begun)
    this.#attempt = new Attempt(this, handler)
    return this.#attempt
  }

  // AttemptOwner: what the attempts ask for

  send(target: Target): void {
    const { x } = this
    const attempts = this.attempts
    // A mirrored body is read as a stream, so that the copy can read along.
    if (this.body !== null && this.#copy === undefined)
      this.#whole ??= this.body.takeWhole(x.headers.contentLength)
    if (this.#over) {
      // The body was not the one that was signed.
      attempts.decline(target)
      return
    }
    this.#sent = undefined
    this.progress = this.deps.watchdog.now()
    const { path, fields } = attempts.begin(target, this.req)
    this.#attempt = new Attempt(this)
    try {
      attempts.sender!.dispatch(
        {
          method: x.method,
          path,
          fields,
          body: this.#again ?? this.#whole ?? this.body,
          length: x.headers.contentLength,
          fresh: attempts.resends > 0,
        },
        this.#attempt,
      )
    } catch (error) {
      attempts.settle('unknown')
      throw error
    }
  }

  refuse(refusal: Refusal): void {
    this.receiver.refuse(refusal)
  }

  mayResend(): boolean {
    if (this.#answering || !IDEMPOTENT.has(this.x.method)) return false
    if (this.attempts.resends >= this.x.route!.service.retries.attempts) return false
    if (this.body === null) return true
    this.#again = this.#replay?.whole()
    return this.#again !== undefined
  }

  /** Returns whether the client is still sending the request. */
  get uploading(): boolean {
    return this.body !== null && !this.req.complete
  }

  // BodyEvents: the request's body

  begin(): void {
    this.#copy?.read()
    this.receiver.bodyWanted()
  }

  received(bytes: number): boolean {
    const { x } = this
    x.bytesIn += bytes
    this.progress = this.deps.watchdog.now()
    if (x.bytesIn <= x.route!.bodyLimit) return true
    this.receiver.bodyTooLarge()
    return false
  }

  ended(): void {
    if (this.x.pass !== undefined) this.attempts.waitingSince = performance.now()
  }

  forged(): void {
    this.receiver.cut('digest_mismatch', 'the body does not match the signed digest')
  }

  // AttemptEvents: the upstream's response

  /** The upstream may see the request from here on. */
  connected(sent: Sent): void {
    if (this.#over) throw new Error('the request was over before it had a connection')
    this.#sent = sent
  }

  started(): void {
    this.#answering = true
  }

  headers(status: number, fields: string[], reason: string): void {
    try {
      this.#headers(status, fields, reason)
    } catch (error) {
      this.broken(error)
    }
  }

  #headers(status: number, fields: string[], reason: string): void {
    if (this.#over) return
    if (status < 200) {
      if (status === 103) this.receiver.hint(fields)
      return
    }
    this.progress = this.deps.watchdog.now()
    this.#answered = true
    this.#replay?.forget()
    this.#forget()
    this.#status = status
    this.attempts.answered(status, fields)
    this.receiver.header(status, fields, reason)
  }

  /** Drops a body that was kept for hooks. A request over HTTP/2 holds its body until the response is complete. */
  #forget(): void {
    if (this.x.body === undefined || this.x.upstream!.protocol === 'http2') return
    this.#whole = undefined
    this.x.body.release()
  }

  get takesText(): boolean {
    return this.receiver.takesText
  }

  data(chunk: Buffer | string): boolean {
    if (this.#over) return true
    try {
      this.progress = this.deps.watchdog.now()
      return this.receiver.data(chunk)
    } catch (error) {
      this.broken(error)
      return true
    }
  }

  complete(trailers: Trailers): void {
    try {
      this.#complete(trailers)
    } catch (error) {
      this.#brokenAtEnd(error)
    }
  }

  #complete(trailers: Trailers): void {
    const attempts = this.attempts
    if (this.#over) {
      attempts.settle(this.#outcome, this.#why)
      return
    }
    readGrpcStatus(this.x, trailers)
    // Hooks may have changed the status for the client.
    const status = this.#status
    if (outcomeOf(status) === 'well') attempts.settle('well')
    else attempts.settle('failed', `status ${status}`)
    this.#over = true
    // The response ended before the upload: the rest of the body is not wanted.
    if (this.uploading) this.body!.destroy()
    else this.body?.release()
    this.receiver.end(trailers)
  }

  failed(error: Error): void {
    const attempt = this.#attempt
    try {
      this.#failed(error)
    } catch (thrown) {
      if (this.#attempt === attempt) this.#brokenAtEnd(thrown)
      else this.broken(thrown)
    }
  }

  #failed(error: Error): void {
    if (this.#over) this.attempts.settle(this.#outcome, this.#why)
    else if (this.#answered) {
      const { code, cause } = failureOf(error, true)
      failCall(this.x, 'upstream_cut', cause)
      this.attempts.settle('failed', cause)
      this.receiver.cut(code, cause)
    } else this.attempts.failed(error, this.#sent !== undefined)
  }

  /** Reports an error that was thrown. */
  broken(error: unknown): void {
    this.receiver.broken(error)
  }

  /** Reports an error thrown while the upstream finished. The pool may not have been told, so it is told now. */
  #brokenAtEnd(error: unknown): void {
    this.broken(error)
    guarded(this, () => this.attempts.settle('unknown'))
  }

  /** Asks for more after `data` returned false. */
  resume(): void {
    this.#sent?.resume()
  }

  // State for the time limits

  /** Returns whether the client sends fast enough for the connection that its body holds. Call it now and then. */
  keepsPace(now: number): boolean {
    if (this.body === null || this.#over || this.body.keepsPace(now)) return true
    return this.attempts.target?.upstream.protocol === 'http2'
  }

  /** Returns whether the upstream is still waiting for part of the body. */
  get bodyUnderWay(): boolean {
    return this.body !== null && this.#again === undefined && !this.body.ended
  }

  /** Returns whether the request has waited for a connection for more than `connect` ms. */
  lacksConnection(connect: number, now: number): boolean {
    const { dispatched, target } = this.attempts
    if (this.#sent !== undefined || dispatched === 0 || now - dispatched <= connect) return false
    return this.deps.upstreams.connecting(target!)
  }

  /** Gives up on a connection that took too long, and tries another upstream. */
  abandon(connect: number): void {
    const attempts = this.attempts
    const target = attempts.target!
    const failure: Refusal = { code: 'upstream_connect_timeout', cause: `no connection within ${connect} ms` }
    attempts.abandon(failure)
    this.#attempt!.abandon(() => guarded(this, () => this.deps.upstreams.ended(target, 'unknown')))
    attempts.elsewhere(failure)
  }

  /** Stops: nobody waits for the response, or for the rest of it, any more. */
  giveUp(code: ErrorCode, cause = ''): void {
    this.#over = true
    if (ERRORS[code].source === 'upstream') {
      this.#outcome = 'failed'
      this.#why = cause
    }
    this.#replay?.forget()
    this.attempts.giveUp(code, cause)
    // Stops reading the request. The refusal code then reads its rest, so that the connection ends cleanly.
    this.body?.destroy()
    if (this.#sent !== undefined) this.#sent.abort()
    else if (this.#attempt !== undefined) this.attempts.sender!.withdraw(this.#attempt.handler)
  }
}

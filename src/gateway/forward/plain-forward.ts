import type { IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Refusal } from '../../errors.js'
import { give, type Holding } from '../../shares.js'
import type { Asking, NoTarget, Target } from '../../upstream/pool/choose.js'
import { outcomeOf } from '../../upstream/pool/outliers.js'
import type { ResponseHandler, Sender, SenderRequest, Sent, WholeResponse } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { broken } from '../exchange/faults.js'
import type { Watched } from '../exchange/watchdog.js'
import { callerOf } from '../identify/caller.js'
import { type Http2Request, Http2Response } from '../listen/http2/stream.js'
import type { PlainRequest } from '../listen/plain/request.js'
import type { ForwardedExchange } from '../request-lifecycle.js'
import type { PlainResponse } from '../respond/plain-response.js'
import { sendThisTurn } from '../respond/write-batch.js'
import type { Attempt, Trailers } from './attempt.js'
import { hashKeyOf } from './hash-key.js'
import type { SlowReaders } from './read-pace.js'
import type { AttemptDeps, BegunAttempt } from './upstream-attempts.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'
import { ownFields, wholeReaderOf } from './upstream-response.js'

export interface PlainForwardDeps extends AttemptDeps {
  readonly readers: Pick<SlowReaders, 'refuses'>
  readonly draining: () => boolean
  /** Creates what takes over. */
  readonly full: (x: Exchange, req: IncomingMessage, res: ServerResponse) => FullForwarding
}

/** Takes a plain request over as soon as anything unusual happens to it. */
export interface FullForwarding extends ForwardedExchange {
  /** Goes on before anything was sent, with what the pool said. */
  follow(found: Target | NoTarget, key: string | undefined, body: Buffer | null): void
  /** Goes on with an attempt. Returns what takes the calls of its handler from now on. */
  adopt(begun: UnderWay, handler: ResponseHandler): Attempt
  /** Goes on with a response that is written, and that the client may not take. */
  adoptWritten(): void
  check(now: number): void
}

/** An attempt that is under way, and how far it has come. */
export interface UnderWay extends BegunAttempt {
  readonly body: Buffer | null
  readonly sent: Sent | undefined
  /** A first byte of a response has arrived. */
  readonly answering: boolean
  /** Watchdog time of the attempt. */
  readonly progress: number
}

/** A request that has arrived whole. */
type WholeRequest = PlainRequest | Http2Request
/** A response that is sent on a connection which the gateway reads itself. */
export type OwnResponse = PlainResponse | Http2Response

const BODILESS: ReadonlySet<string> = new Set(['GET', 'DELETE', 'OPTIONS'])
/** Methods whose body may go along. A request with another one could have to be sent again, with its body. */
const WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PATCH'])

/** Returns whether `PlainForwarding` may begin this request: nobody wants to see or change its parts. */
export function isPlain(x: Exchange, req: WholeRequest): boolean {
  if (!x.snapshot.config.server.plain_path.responses) return false
  const { shape, mirror, costHeader, bodyLimit, hooks } = x.route!
  if (shape !== undefined || mirror !== undefined || costHeader !== undefined) return false
  if (x.body !== undefined || hooks?.onResponse !== undefined) return false
  if (x.bodyDigest !== undefined || x.trace?.recording !== undefined) return false
  const { body } = req
  return body === undefined ? BODILESS.has(x.method) : WITH_BODY.has(x.method) && body.length <= bodyLimit
}

/**
 * Forwards a plain request, and its response if that comes whole: one object for what most requests are. Whatever else
 * happens, such as no free upstream, an error, a long response or a time limit, goes to `Forwarding`, which takes over as
 * if it had begun.
 */
export class PlainForwarding
  implements ForwardedExchange, Watched, Asking, SenderRequest, ResponseHandler, UnderWay
{
  watchSlot = -1
  place: Holding | undefined
  target!: Target
  sender!: Sender
  sent: Sent | undefined
  answering = false
  progress = 0
  dispatched = 0
  // SenderRequest: the request for the upstream
  readonly method: string
  readonly body: Buffer | null
  readonly length: number
  path = ''
  fields: string[] = []
  clean = false
  /** The attempt has ended. */
  #ended = false
  /** The response is written. */
  #over = false
  /** Has taken over. */
  #full: FullForwarding | undefined
  #attempt: Attempt | undefined

  constructor(
    private readonly deps: PlainForwardDeps,
    private readonly x: Exchange,
    private readonly req: WholeRequest,
    private readonly res: OwnResponse,
  ) {
    this.method = x.method
    this.body = req.body ?? null
    this.length = x.headers.contentLength
  }

  start(): void {
    const { x, deps } = this
    deps.watchdog.add(this)
    if (deps.readers.refuses(x)) {
      this.#handOver().start()
      return
    }
    const { service } = x.route!
    this.progress = deps.watchdog.now()
    x.guard!.budget.request(this.progress)
    if (this.body !== null) x.bytesIn = this.body.length
    const key = hashKeyOf(x, service)
    const target = deps.upstreams.pick(service, key, undefined, this)
    if (typeof target === 'string' || target.upstream.protocol === 'http2') {
      this.#handOver().follow(target, key, this.body)
      return
    }
    this.#send(target)
  }

  #send(target: Target): void {
    const { x, deps } = this
    const { upstream } = target
    const { service } = x.route!
    this.path = upstreamPath(x, upstream)
    this.fields = upstreamHeaders(x, service, upstream, this.req as unknown as IncomingMessage)
    // The reader of a plain request has checked each of its fields. Others may come from a token or a tier source.
    this.clean =
      this.req.httpVersionMajor === 1 &&
      service.identity === undefined &&
      x.tenant === undefined &&
      x.authPass === undefined
    x.upstream = upstream
    this.target = target
    this.sender = deps.upstreams.begun(target, this)
    this.dispatched = performance.now()
    try {
      this.sender.dispatch(this, this)
    } catch (error) {
      this.#end('unknown')
      throw error
    }
  }

  // Asking: what the pool wants to know

  get caller(): string | undefined {
    return callerOf(this.x, this.deps.shares)
  }

  // ResponseHandler: the attempt

  onConnect(sent: Sent): void {
    if (this.#attempt !== undefined) this.#attempt.onConnect(sent)
    else this.sent = sent
  }

  get readWhole() {
    return this.#full === undefined && !this.deps.draining() ? wholeReaderOf(this.x) : undefined
  }

  onWhole(response: WholeResponse): void {
    try {
      this.#respond(response)
    } catch (error) {
      broken(this.res, error)
      if (!this.#ended) this.#end('unknown')
    }
  }

  #respond(response: WholeResponse): void {
    const { x, deps } = this
    const { status, body } = response
    const { pass } = x
    deps.upstreams.answered(this.target)
    if (pass !== undefined) {
      const now = performance.now()
      pass.answered(status, now - this.dispatched, now)
    }
    x.status = status
    x.bytesOut = body.length
    this.#over = true
    if (outcomeOf(status) === 'well') this.#end('well')
    else this.#end('failed', `status ${status}`)
    this.#write(response)
  }

  #write({ status, head, dated, chunked, body }: WholeResponse): void {
    const { res } = this
    const own = ownFields(this.x)
    if (res instanceof Http2Response) {
      res.writeHead(status, [...fieldsOf(head), ...own])
      res.end(body)
      return
    }
    let lines = ''
    for (let i = 0; i < own.length; i += 2) lines += `${own[i]!}: ${own[i + 1]!}\r\n`
    res.sayHead(status, head, lines, dated, chunked)
    sendThisTurn(res as unknown as ServerResponse, body)
  }

  onResponseStarted(): void {
    this.answering = true
    this.#attempt?.onResponseStarted()
  }

  onHeaders(status: number, fields: string[], reason: string): void {
    this.#taken().onHeaders(status, fields, reason)
  }

  get takesText(): boolean {
    return this.#taken().takesText
  }

  onData(piece: Buffer | string): boolean {
    return this.#taken().onData(piece)
  }

  onComplete(trailers: Trailers): void {
    this.#taken().onComplete(trailers)
  }

  onError(error: Error): void {
    // Thrown by the code that took the response.
    if (this.#over && this.#full === undefined) broken(this.res, error)
    else this.#taken().onError(error)
  }

  /** Ends the attempt. */
  #end(outcome: 'well' | 'failed' | 'unknown', why = ''): void {
    const { place, deps } = this
    this.x.upstreamMs = performance.now() - this.dispatched
    if (place !== undefined) {
      this.place = undefined
      give(place.share, place.caller)
    }
    this.#ended = true
    deps.upstreams.ended(this.target, outcome, why)
  }

  /** Returns what takes the calls about the attempt, which is no longer a plain one. */
  #taken(): Attempt {
    if (this.#attempt === undefined) this.#handOver()
    return this.#attempt!
  }

  #handOver(): FullForwarding {
    const full = this.deps.full(this.x, this.req.asStream(), this.res as unknown as ServerResponse)
    this.#full = full
    if (this.#over) full.adoptWritten()
    else if (this.dispatched > 0 && !this.#ended) this.#attempt = full.adopt(this, this)
    return full
  }

  // ForwardedExchange and Watched

  fail(refusal: Refusal): void {
    ;(this.#full ?? this.#handOver()).fail(refusal)
  }

  closed(): void {
    this.deps.watchdog.delete(this)
    if (this.#full === undefined && this.#over && this.res.writableFinished) return
    ;(this.#full ?? this.#handOver()).closed()
  }

  check(now: number): void {
    if (this.#full === undefined && !this.#over && !this.#isLate(now)) return
    ;(this.#full ?? this.#handOver()).check(now)
  }

  broken(error: unknown): void {
    broken(this.res, error)
  }

  #isLate(now: number): boolean {
    const { total, headers, connect } = this.x.route!.timeouts
    return (
      (total > 0 && now - this.x.started > total) ||
      (headers > 0 && now - this.progress > headers) ||
      (this.sent === undefined && now - this.dispatched > connect)
    )
  }
}

/** Returns the fields of a head that was read whole: name, value, … */
function fieldsOf(head: string): string[] {
  const fields: string[] = []
  let at = head.indexOf('\r\n') + 2
  while (at < head.length) {
    const colon = head.indexOf(': ', at)
    const end = head.indexOf('\r\n', colon)
    fields.push(head.slice(at, colon), head.slice(colon + 2, end))
    at = end + 2
  }
  return fields
}

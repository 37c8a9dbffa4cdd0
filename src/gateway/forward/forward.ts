import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Coding } from '../../config/snapshot/compress.js'
import { ERRORS, type ErrorCode, type Refusal } from '../../errors.js'
import type { BoundHook } from '../../extension/route-hooks.js'
import type { NoTarget, Target } from '../../upstream/pool/choose.js'
import type { ResponseHandler } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { broken } from '../exchange/faults.js'
import type { Watched } from '../exchange/watchdog.js'
import type { HookRunner } from '../extensions/runner.js'
import { Http2Request, Http2Response } from '../listen/http2/stream.js'
import { PlainRequest } from '../listen/plain/request.js'
import type { ForwardedExchange } from '../request-lifecycle.js'
import { breakOff, retrySoon } from '../respond/client-error.js'
import { PlainResponse } from '../respond/plain-response.js'
import { sendRefusal } from '../respond/send-error.js'
import { availableCodings, CompressedBody } from '../transform/compressed-body.js'
import { chooseCoding } from '../transform/content-encoding.js'
import type { Attempt, Trailers } from './attempt.js'
import { createReplayMemory, type ReplayMemory } from './body-buffer.js'
import { type ClientEvents, ClientResponse } from './client-response.js'
import { HookedResponse } from './hooked-response.js'
import {
  type FullForwarding,
  isPlain,
  type OwnResponse,
  PlainForwarding,
  type UnderWay,
} from './plain-forward.js'
import { createSlowReaders, type ReadPace, type SlowReaders } from './read-pace.js'
import { errorText } from './upstream-error.js'
import { type Receiver, Sending, type SendingDeps } from './upstream-exchange.js'
import { clientHeaders, reasonPhrase } from './upstream-response.js'

export interface ForwardDeps extends SendingDeps {
  readonly runHooks: HookRunner
  /** Keeps bodies that may have to be sent again; by default within the usual limits. */
  readonly replays?: ReplayMemory
  readonly draining: () => boolean
}

const SLOW_READER: Refusal = {
  code: 'share_exceeded',
  cause: 'the caller is slow to read other responses of the service',
}

/**
 * Creates the last stage: it sends the request to an upstream of its service (`upstream-exchange.ts`) and the response back
 * to the client.
 */
export function forward(deps: ForwardDeps) {
  const replays = deps.replays ?? createReplayMemory(deps.shares)
  const readers = createSlowReaders(deps.shares)
  const full = (x: Exchange, req: IncomingMessage, res: ServerResponse) =>
    new Forwarding(deps, replays, readers, x, req, res)
  const plain = { ...deps, readers, full }
  return function forward(x: Exchange, req: IncomingMessage, res: ServerResponse): ForwardedExchange {
    const asked: object = req
    if (asked instanceof PlainRequest || (asked instanceof Http2Request && asked.readableEnded)) {
      if (isPlain(x, asked)) return new PlainForwarding(plain, x, asked, res as object as OwnResponse)
      return full(x, asked.asStream(), res)
    }
    return full(x, req, res)
  }
}

/** Brings the response of an upstream to the client, and makes sure that the exchange ends in time, whatever happens. */
class Forwarding implements FullForwarding, Receiver, ClientEvents, Watched {
  watchSlot = -1
  readonly #sending: Sending
  /** Set once the client has not taken a piece at once. */
  #pace: ReadPace | undefined
  readonly #client: ClientResponse
  /** Set while hooks of extensions have the response. */
  #hooked: HookedResponse | undefined
  /** Set if the gateway compresses the response. */
  #encoder: CompressedBody | undefined
  /** The outcome is fixed. */
  #over = false

  constructor(
    private readonly deps: ForwardDeps,
    replays: ReplayMemory,
    private readonly readers: SlowReaders,
    private readonly x: Exchange,
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
  ) {
    this.#sending = new Sending(deps, replays, x, req, this)
    this.#client = new ClientResponse(x, req, res, deps.draining, this)
  }

  start(): void {
    this.deps.watchdog.add(this)
    if (this.x.headers.contentLength > this.x.route!.bodyLimit) this.bodyTooLarge()
    else if (this.readers.refuses(this.x)) this.refuse(SLOW_READER)
    else this.#sending.start()
  }

  // FullForwarding: goes on with what `PlainForwarding` has begun

  follow(found: Target | NoTarget, key: string | undefined, body: Buffer | null): void {
    this.#sending.follow(found, key, body)
  }

  adopt(begun: UnderWay, handler: ResponseHandler): Attempt {
    return this.#sending.adopt(begun, handler)
  }

  adoptWritten(): void {
    this.#over = true
  }

  // Receiver: events of the upstream side

  bodyWanted(): void {
    if (this.x.headers.expectContinue) this.#client.proceed()
  }

  bodyTooLarge(): void {
    const detail = `The body is larger than the ${this.x.route!.bodyLimit} bytes that this route accepts.`
    this.refuse({ code: 'payload_too_large', detail })
  }

  hint(fields: readonly string[]): void {
    this.#client.hint(fields)
  }

  header(status: number, received: readonly string[], reasonGiven: string): void {
    const { x } = this
    const head = clientHeaders(x, status, received)
    if (typeof head === 'string') {
      this.#refuseHeader(head)
      return
    }
    x.status = status
    const reason = reasonPhrase(reasonGiven)
    const hooks = x.route!.hooks?.onResponse
    if (hooks === undefined) this.#begin(head, reason)
    else this.#runHooks(hooks, head, reason)
  }

  /** Holds the response until the hooks have finished with it. */
  #runHooks(hooks: readonly BoundHook[], head: string[], reason: string | undefined): void {
    const { x, deps } = this
    const { status } = x
    this.#hooked = new HookedResponse(deps.shares, deps.runHooks, x, hooks, status, head, {
      begin: (changed, fields) => {
        this.#hooked = undefined
        x.status = changed
        this.#begin(fields, changed === status ? reason : undefined)
      },
      data: (piece) => this.data(piece),
      end: (trailers) => this.end(trailers),
      resume: () => this.#sending.resume(),
      refuse: (refusal) => this.refuse(retrySoon(refusal)),
      broken: (error) => this.broken(error),
    })
    this.#hooked.start()
  }

  #begin(head: string[], reason: string | undefined): void {
    const { x } = this
    const compress = x.route!.shape?.compress
    const coding = compress && chooseCoding(compress, x, x.status, head, availableCodings())
    if (coding === undefined) this.#client.begin(head, reason)
    else this.#compress(coding, head, reason)
  }

  #refuseHeader(cause: string): void {
    this.refuse({ code: 'upstream_bad_response', cause })
  }

  #compress(coding: Coding, head: string[], reason: string | undefined): void {
    this.#encoder = new CompressedBody(coding, {
      begin: () => this.#client.begin(head, reason),
      compressed: (chunk) => {
        this.x.bytesOut += chunk.length
        return this.#write(chunk)
      },
      room: () => this.#sending.resume(),
      broken: (error) => this.broken(error),
    })
  }

  /** Returns whether body pieces may come as text. A bare socket turns a piece into text anyway, to join it with the head. */
  get takesText(): boolean {
    const res: object = this.res
    if (this.#hooked !== undefined) return false
    return this.#encoder === undefined && (res instanceof PlainResponse || res instanceof Http2Response)
  }

  data(chunk: Buffer | string): boolean {
    if (this.#hooked !== undefined) return this.#hooked.data(chunk as Buffer)
    if (this.#encoder !== undefined) return this.#encoder.write(chunk as Buffer)
    this.x.bytesOut += chunk.length
    return this.#write(chunk)
  }

  #write(chunk: Buffer | string): boolean {
    if (this.#client.write(chunk)) return true
    const { snapshot, upstream } = this.x
    // An HTTP/2 stream that waits keeps no connection from others.
    if (snapshot.config.server.min_rate === 0 || upstream!.protocol === 'http2') return false
    this.#pace ??= this.readers.pace(this.x, this.#client.connection)
    return this.#pace.hold(chunk.length)
  }

  end(trailers: Trailers): void {
    if (this.#hooked !== undefined) this.#hooked.end(trailers)
    else if (this.#encoder === undefined) this.#complete(trailers)
    else this.#encoder.end(() => this.#complete(trailers))
  }

  #complete(trailers: Trailers): void {
    this.#over = true
    this.#pace?.upstreamDone()
    if (trailers && trailers.length > 0) this.#client.trail(trailers)
    this.#client.end()
  }

  refuse(refusal: Refusal): void {
    this.#stop(refusal.code, refusal.cause)
    // Stopping threw, and the error handler has already sent a response.
    if (this.res.headersSent) return
    sendRefusal(this.x, this.req, this.res, retrySoon(refusal), this.deps.draining())
  }

  cut(code: ErrorCode, cause: string): void {
    if (!this.#client.committed) {
      this.refuse({ code, cause })
      return
    }
    // The client already has a status that says success. So the outcome has an error code of its own, and the cause says
    // what happened.
    const error = ERRORS[code].source === 'upstream' ? 'upstream_cut' : code
    this.x.error = error
    this.x.cause = cause
    this.#stop(error, cause)
    this.#client.cut()
  }

  /** Stops the exchange: nothing more of the upstream's response goes out. */
  #stop(code: ErrorCode, cause?: string): void {
    this.#over = true
    this.#pace?.upstreamDone()
    this.#encoder?.destroy()
    this.#hooked?.release()
    this.#hooked = undefined
    this.#client.drop()
    this.#sending.giveUp(code, cause)
  }

  // ClientEvents: events of the client side

  drained(): void {
    this.#pace?.drained()
    this.#sending.progress = this.deps.watchdog.now()
    if (this.#encoder === undefined) this.#sending.resume()
    else this.#encoder.drained()
  }

  unsendable(error: Error): void {
    this.#refuseHeader(errorText(error))
  }

  broken(error: unknown): void {
    broken(this.res, error)
  }

  fail({ code, cause = '' }: Refusal): void {
    if (this.#client.committed || !this.res.headersSent) this.cut(code, cause)
    else {
      // The request was being refused already.
      this.#stop(code, cause)
      breakOff(this.res)
    }
  }

  closed(): void {
    this.deps.watchdog.delete(this)
    this.#pace?.drained()
    const x = this.x
    if (this.#over && this.res.writableFinished) return
    x.error ??= 'client_closed'
    if (x.status === 0) x.status = 499
    if (!this.#over) this.#stop('client_closed')
  }

  // Watched: the time limits

  check(now: number): void {
    const { total, request, headers, idle, connect } = this.x.route!.timeouts
    if (this.#over) {
      if (idle > 0 && this.#client.stuckFor(now) > idle) this.#letGo(idle)
      return
    }
    const sending = this.#sending
    const took = now - this.x.started
    const still = now - sending.progress
    if (total > 0 && took > total) this.#expire(`the request took more than ${total} ms`)
    // The queue has a limit of its own.
    else if (!sending.keepsPace(now)) this.#tooSlow()
    else if (sending.attempts.queued) return
    else if (request > 0 && sending.uploading && took > request) {
      const cause = `the request was not complete within ${request} ms`
      if (this.#client.begun) this.cut('request_timeout', cause)
      else this.#expire(cause)
    } else if (this.#hooked !== undefined) {
      // A hook has a time limit of its own.
      if (idle > 0 && still > idle && this.#hooked.collecting)
        this.#expire(`no byte of the response arrived for ${idle} ms`)
    } else if (this.#client.begun) {
      if (this.#pace !== undefined && !this.#readsOn(this.#pace, now)) {
        this.cut('client_closed', 'the client reads the response too slowly')
        return
      }
      if (idle > 0 && still > idle && !this.#client.behind)
        this.#expire(`no byte of the response arrived for ${idle} ms`)
    } else if (sending.lacksConnection(connect, now)) sending.abandon(connect)
    else if (sending.bodyUnderWay) {
      if (idle > 0 && still > idle) this.#expire(`no byte of the request arrived for ${idle} ms`)
    } else if (headers > 0 && still > headers) this.#expire(`no response header arrived within ${headers} ms`)
  }

  /** Ends a response that is completely written but that the client does not take. */
  #letGo(idle: number): void {
    this.x.error ??= 'client_closed'
    this.x.cause ??= `the client read no byte of the response for ${idle} ms`
    this.res.destroy()
  }

  #readsOn(pace: ReadPace, now: number): boolean {
    const wanted = this.deps.upstreams.othersWait(this.x.route!.service, pace.caller)
    return pace.look(now, this.#client.taken, this.#client.sent, wanted)
  }

  #tooSlow(): void {
    const { min_rate } = this.x.snapshot.config.server
    this.cut('request_timeout', `less than ${min_rate} bytes a second of the request`)
  }

  #expire(cause: string): void {
    const { begun, full } = this.#client
    if (begun) this.cut(full ? 'client_closed' : 'upstream_timeout', cause)
    else if (this.#sending.body?.waitsForShare) this.refuse({ code: 'share_exceeded', cause })
    else {
      const late = this.#sending.uploading && this.#sending.body!.waitingForClient
      this.refuse({ code: late ? 'request_timeout' : 'upstream_timeout', cause })
    }
  }
}

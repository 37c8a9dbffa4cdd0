import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import { isBodyOf } from '../../credentials/body-digest.js'
import type { MirrorResult } from '../../telemetry/metrics/recorder.js'
import type { Call } from '../../telemetry/record/recording.js'
import type { Tracing } from '../../telemetry/traces/tracing.js'
import type { Target } from '../../upstream/pool/choose.js'
import { outcomeOf } from '../../upstream/pool/outliers.js'
import type { Upstreams } from '../../upstream/pool/pool.js'
import type { AttemptOutcome } from '../../upstream/pool/transitions.js'
import type { ResponseHandler, Sent } from '../../upstream/sender.js'
import type { Exchange } from '../exchange/exchange.js'
import { type Breakable, guarded } from '../exchange/faults.js'
import { beginCall } from '../exchange/trace.js'
import type { Watchdog, Watched } from '../exchange/watchdog.js'
import type { Lifecycle } from '../request-lifecycle.js'
import { hashKeyOf } from './hash-key.js'
import { errorText, upstreamErrorCode } from './upstream-error.js'
import { upstreamHeaders, upstreamPath } from './upstream-request.js'

/** Copies under way to all services; further ones are not made. Together with the largest body this bounds their memory. */
const MAX_UNDER_WAY = 256
/** Largest body that is copied, in bytes. The copy has to be kept, as it must not slow down the request. */
const MAX_BODY = 65_536
/** Time limit for a copy, in ms, from its sending to the last byte of the response, which is discarded. */
const LIMIT_MS = 30_000
/** Tells the service that its response is discarded. The gateway drops this header from requests. */
const MARK = ['X-Tidegate-Mirror', '1']

export interface MirrorDeps {
  readonly upstreams: Upstreams
  readonly watchdog: Watchdog
  readonly metrics: { mirrored(service: string, result: MirrorResult): void }
  readonly tracing?: Pick<Tracing, 'endCopy'> | undefined
  /** Counts and logs an error that was thrown. */
  readonly internal: Lifecycle['internal']
}

export type Mirror = ReturnType<typeof createMirror>

export function createMirror(
  { upstreams, watchdog, metrics, tracing, internal }: MirrorDeps,
  random = Math.random,
) {
  let underWay = 0
  return {
    /** Returns a copy of the request for its route's second service, if it is selected and there is room. */
    copy(x: Exchange, req: IncomingMessage): Copy | undefined {
      const { service, share } = x.route!.mirror!
      if (share < 100 && random() * 100 >= share) return undefined
      if (x.headers.contentLength > MAX_BODY) {
        metrics.mirrored(service.name, 'too_large')
        return undefined
      }
      if (underWay >= MAX_UNDER_WAY) {
        metrics.mirrored(service.name, 'busy')
        return undefined
      }
      underWay++
      return new Copy(x, req, upstreams, watchdog, internal, (result, call) => {
        underWay--
        if (call !== undefined) tracing?.endCopy(x.trace!, call)
        metrics.mirrored(service.name, result)
      })
    },
  }
}

/** A copy of a request. Whatever happens to it, the original is not affected. */
export class Copy implements ResponseHandler, Watched, Breakable {
  watchSlot = -1
  #chunks: Buffer[] = []
  #size = 0
  #target: Target | undefined
  /** Same as `#target`, while the upstream is busy with it. */
  #busy: Target | undefined
  /** For its span, if there is to be one. */
  #call: Call | undefined
  #sentAt = 0
  #outcome: AttemptOutcome = 'unknown'
  #sent: Sent | undefined
  #over = false

  constructor(
    private readonly x: Exchange,
    private readonly req: IncomingMessage,
    private readonly upstreams: Upstreams,
    private readonly watchdog: Watchdog,
    private readonly internal: Lifecycle['internal'],
    private readonly ended: (result: MirrorResult, call: Call | undefined) => void,
  ) {
    // This holds whether or not the body is ever read: a request that ends before its copy is sent leaves no copy behind.
    req.once('close', this.#closed)
  }

  /** Reads the request's body alongside its reader, and sends the copy at the end. */
  read(): void {
    this.req.on('data', this.#take)
    this.req.once('end', this.#complete)
  }

  /** Sends it, with a body that is known already, or none. */
  send(body: Buffer | undefined): void {
    guarded(this, () => {
      if (body !== undefined && body.length > MAX_BODY) this.#end('too_large')
      else this.#dispatch(body)
    })
  }

  #take = (chunk: Buffer): void => {
    this.#size += chunk.length
    if (this.#size > MAX_BODY) guarded(this, () => this.#end('too_large'))
    else this.#chunks.push(chunk)
  }

  #complete = (): void => {
    // Otherwise the stream was reset (HTTP/2), and closes next.
    if (!this.req.complete) return
    const body = Buffer.concat(this.#chunks)
    const { bodyDigest } = this.x
    guarded(this, () => {
      if (bodyDigest !== undefined && !isBodyOf(bodyDigest, body)) this.#end('aborted')
      else this.#dispatch(body)
    })
  }

  #closed = (): void => {
    if (this.#target === undefined) guarded(this, () => this.#end('aborted'))
  }

  broken(error: unknown): void {
    this.internal(this.x, error)
    if (!this.#over) guarded(this, () => this.#end('failed'))
    if (this.#sent === undefined) guarded(this, () => this.#release('unknown', ''))
    else this.#sent.abort()
  }

  /** Tells the pool that the upstream has finished with the copy. */
  #release(outcome: AttemptOutcome, why: string): void {
    const target = this.#busy
    this.#busy = undefined
    if (target !== undefined) this.upstreams.ended(target, outcome, why)
  }

  #dispatch(body: Buffer | undefined): void {
    if (this.#over) return
    this.#letGo()
    const x = this.x
    const { service } = x.route!.mirror!
    const target = this.upstreams.pick(service, hashKeyOf(x, service))
    // A copy never waits.
    if (typeof target === 'string') {
      this.#end('busy')
      return
    }
    this.#target = target
    this.#sentAt = performance.now()
    const fields = upstreamHeaders(x, service, target.upstream, this.req)
    const path = upstreamPath(x, target.upstream)
    this.#call = beginCall(x, target.upstream, path, fields, service)
    fields.push(...MARK)
    this.watchdog.add(this)
    const sender = this.upstreams.begun(target)
    this.#busy = target
    sender.dispatch({ method: x.method, path, fields, body: body ?? null, length: -1 }, this)
  }

  check(now: number): void {
    if (now - this.#sentAt <= LIMIT_MS) return
    if (this.#call !== undefined) this.#call.error = 'upstream_timeout'
    this.#end('failed')
    this.#sent?.abort()
  }

  // ResponseHandler: events of the upstream side

  onConnect(sent: Sent): void {
    if (this.#over) throw new Error('its time was over before it had a connection')
    this.#sent = sent
  }

  onHeaders(status: number): void {
    const target = this.#target
    if (status < 200 || target === undefined) return
    this.#outcome = outcomeOf(status)
    if (this.#call !== undefined) this.#call.status = status
    guarded(this, () => this.upstreams.answered(target))
  }

  onData(): boolean {
    return true
  }

  onComplete(): void {
    guarded(this, () => this.#release(this.#outcome, ''))
    guarded(this, () => this.#end('answered'))
  }

  onError(error: Error): void {
    if (this.#call !== undefined) {
      this.#call.error ??= upstreamErrorCode(error)
      this.#call.cause ??= errorText(error)
    }
    // A copy that took too long says as much about the upstream as one that failed.
    const outcome = this.#sent !== undefined ? 'failed' : this.#over ? 'unknown' : 'unreachable'
    guarded(this, () => this.#release(outcome, errorText(error)))
    guarded(this, () => this.#end('failed'))
  }

  #letGo(): void {
    this.req.off('data', this.#take)
    this.req.off('end', this.#complete)
    this.req.off('close', this.#closed)
    this.#chunks = []
  }

  #end(result: MirrorResult): void {
    if (this.#over) return
    this.#over = true
    this.#letGo()
    this.watchdog.delete(this)
    if (this.#call !== undefined) this.#call.ended = performance.now()
    this.ended(result, this.#call)
  }
}

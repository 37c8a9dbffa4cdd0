import { randomFillSync } from 'node:crypto'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { ErrorCode } from '../../errors.js'

/**
 * Data recorded about a sampled request while it is in progress: plain data, which becomes spans at its end. All times
 * are ms of `performance.now()`.
 */
export interface Recording {
  /** Span of the client; undefined: the trace begins here. */
  readonly parentSpanId: string | undefined
  /** A valid `tracestate`, which is forwarded with the trace. */
  readonly state: string | undefined
  readonly flags: number
  /** Unix ms at which `performance.now()` was 0, measured at the start of this request. */
  readonly epoch: number
  readonly started: number
  readonly scheme: 'http' | 'https'
  /** Host and port that the caller asked for, in front of trusted proxies; undefined where it named none. */
  readonly authority: string | undefined
  /** HTTP version: `1.0`, `1.1`, `2`. */
  readonly version: string
  readonly userAgent: string | undefined
  /** Time at which the limiter was called; 0: it was not. */
  limitAt: number
  /** gRPC status number that the client gets when the gateway refuses the request. */
  grpcStatus: number | undefined
  /** Hooks of extensions, in the order in which they ended. */
  readonly hooks: RecordedHook[]
  /** All attempts to send the request to an upstream, in order. */
  readonly calls: Call[]
}

/** One hook of an extension. */
export interface RecordedHook {
  readonly extension: string
  readonly hook: string
  readonly began: number
  readonly ended: number
  readonly failed: boolean
}

/** One attempt to get a response from an upstream. */
export interface Call {
  readonly spanId: string
  readonly service: string
  readonly upstream: Upstream
  readonly method: string
  /** Path as the upstream gets it, without the query. */
  readonly path: string
  /** Number of attempts before this one. */
  readonly resends: number
  /** True for a mirrored copy to a second service. */
  readonly copy: boolean
  readonly began: number
  /** End of the attempt; 0: it is in progress. */
  ended: number
  /** Response status; 0: there was no response. */
  status: number
  /** gRPC status number of the call. */
  grpcStatus: number | undefined
  error: ErrorCode | undefined
  /** Internal detail. */
  cause: string | undefined
}

const pool = Buffer.alloc(4096)
let used = pool.length

/** Returns this many random bytes in hex, never all zero. */
function randomHex(bytes: 8 | 16): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const id = pool.toString('hex', used, used + bytes)
  used += bytes
  return /[^0]/.test(id) ? id : randomHex(bytes)
}

export function newTraceId(): string {
  return randomHex(16)
}

export function newSpanId(): string {
  return randomHex(8)
}

import { randomFillSync } from 'node:crypto'
import type { Upstream } from '../../config/snapshot/snapshot.js'
import type { ErrorCode } from '../../errors.js'

/**
 * What is written down of a sampled request while it is on its way: plain data, of which spans are made at its end. All
 * times are ms of `performance.now()`.
 */
export interface Recording {
  /** The caller's span; undefined: the trace begins here. */
  readonly parentSpanId: string | undefined
  /** A valid `tracestate`, which goes on with the trace. */
  readonly state: string | undefined
  readonly flags: number
  /** Unix ms at which `performance.now()` was 0, as of the beginning of this request. */
  readonly epoch: number
  readonly started: number
  readonly scheme: 'http' | 'https'
  /** Host and port that the caller asked for, in front of trusted proxies; undefined where it named none. */
  readonly authority: string | undefined
  /** Of HTTP: `1.0`, `1.1`, `2`. */
  readonly version: string
  readonly userAgent: string | undefined
  /** When the limiter was asked; 0: it was not. */
  limitAt: number
  /** What the caller of gRPC is told when the gateway refuses, by number. */
  grpcStatus: number | undefined
  /** Every time that it was sent to an upstream, in order. */
  readonly calls: Call[]
}

/** One attempt to have a request answered by an upstream. */
export interface Call {
  readonly spanId: string
  readonly service: string
  readonly upstream: Upstream
  readonly method: string
  /** As the upstream gets it, without the query. */
  readonly path: string
  /** How many attempts there were before it. */
  readonly resends: number
  /** Of a copy for a second service. */
  readonly copy: boolean
  readonly began: number
  /** 0: it is under way. */
  ended: number
  /** 0: there was no response. */
  status: number
  /** What gRPC says of the call, by number. */
  grpcStatus: number | undefined
  error: ErrorCode | undefined
  /** Internal detail. */
  cause: string | undefined
}

const pool = Buffer.alloc(4096)
let used = pool.length

/** So many random bytes in hex, never all zero. */
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

import type { Policy, Route, Snapshot, Upstream } from '../../config/snapshot/snapshot.js'
import type { ErrorCode } from '../../errors.js'
import type { Counted } from '../../limiter/limit-readings.js'
import type { Decision } from '../../limiter/limiter.js'
import type { TraceContext } from './trace-context.js'

/**
 * What telemetry is told of one finished request, once, whatever its outcome. The gateway's Exchange has this
 * shape, so nothing is copied. Times are ms of `performance.now()` unless they end in `At`.
 */
export interface RequestRecord {
  readonly snapshot: Snapshot
  readonly requestId: string
  /** The trace that it belongs to, where that is known. */
  readonly trace: TraceContext | undefined
  /** As it came on the wire; a caller may have made it up. */
  readonly method: string
  /** The raw request target; a caller may have made it up. The log cuts the query off. */
  readonly target: string
  /** The host the request was routed by, lower-case, or empty. */
  readonly host: string
  readonly route: Route | undefined
  /** Index into snapshot.tiers; -1 when no tier was found. */
  readonly tier: number
  /** How the tier was found. */
  readonly tierFrom: 'assignment' | 'credential' | 'source' | 'default' | undefined
  /** Name of the source, where the tier is from one. */
  readonly tierSource: string | undefined
  /** It is what the source said last, longer ago than its ttl. */
  readonly tierStale: boolean
  /** Unix ms at which the assignment of the tier ends by itself, where it does. */
  readonly tierUntil: number | undefined
  readonly consumer: string | undefined
  /** How the caller was identified. */
  readonly identifiedBy: 'api_key' | 'client_certificate' | 'header' | 'jwt' | 'signature' | 'ip' | undefined
  readonly tenant: string | undefined
  /** Of an API key of the store: its public handle. */
  readonly keyId: string | undefined
  readonly clientIp: string
  /** The limits that held for it. */
  readonly policy: Policy | undefined
  readonly decision: Decision | undefined
  /** Whether it is one of those that are kept to be explained, where that is not for its outcome; undefined: nobody has asked. */
  readonly sampled?: boolean | undefined
  /** Of such a one: how its limits stood before it was charged, where that is known. */
  readonly counted?: Counted | undefined
  /** Ms that the decision took. */
  readonly limitMs: number
  /** What the request has cost, where that is not its route's own. */
  readonly cost: number | undefined
  readonly status: number
  /** Set when the gateway itself answered, or when the exchange broke. */
  readonly error: ErrorCode | undefined
  /** For the log only: internal detail. */
  readonly cause: string | undefined
  readonly upstream: Upstream | undefined
  /** Ms from the request's hand-over to the upstream until its response ended; 0 without an upstream. */
  readonly upstreamMs: number
  /** Ms from accept to the end of the response. */
  readonly durationMs: number
  /** Body bytes in both directions. */
  readonly bytesIn: number
  readonly bytesOut: number
}

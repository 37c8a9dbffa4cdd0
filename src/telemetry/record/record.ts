import type { Policy } from '../../config/snapshot/policy.js'
import type { Route, Snapshot } from '../../config/snapshot/snapshot.js'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import type { IdentifiedBy } from '../../config/values/credential-kinds.js'
import type { ErrorCode } from '../../errors.js'
import type { Decision } from '../../limiter/limiter.js'
import type { TraceContext } from './trace-context.js'

/**
 * The data about one finished request, passed to telemetry once, whatever the outcome. The gateway's Exchange has this
 * shape, so nothing is copied. Times are ms of `performance.now()` unless their names end in `At`.
 */
export interface RequestRecord {
  readonly snapshot: Snapshot
  readonly requestId: string
  /** Trace of the request, if known. */
  readonly trace: TraceContext | undefined
  /** Method on the wire; a client may have made it up. */
  readonly method: string
  /** Raw request target; a client may have made it up. The log cuts the query off. */
  readonly target: string
  /** Host that the request was routed by, in lower case, or empty. */
  readonly host: string
  readonly route: Route | undefined
  /** Index into snapshot.tiers; -1 when no tier was found. */
  readonly tier: number
  /** Origin of the tier. */
  readonly tierFrom: 'assignment' | 'credential' | 'source' | 'default' | undefined
  /** Name of the source, if the tier comes from one. */
  readonly tierSource: string | undefined
  /** True if the source gave the tier longer ago than its ttl. */
  readonly tierStale: boolean
  /** True if the store could not tell whether an operator has assigned a tier. */
  readonly tierUnchecked: boolean
  /** True if the store could not tell whether the caller has boosts or overrides. */
  readonly limitsUnchecked: boolean
  /** True if the service does not count this caller. */
  readonly exempt?: boolean
  /** Unix ms at which the assignment of the tier expires, if it does. */
  readonly tierUntil: number | undefined
  readonly consumer: string | undefined
  /** Method that identified the caller. */
  readonly identifiedBy: IdentifiedBy | undefined
  readonly tenant: string | undefined
  /** Public id of the key, for an API key of the store. */
  readonly keyId: string | undefined
  readonly clientIp: string
  /** Limits that applied to the request. */
  readonly policy: Policy | undefined
  readonly decision: Decision | undefined
  /** Effects of the hooks of extensions that ran: extension, hook, effect, … Left out: none ran. */
  readonly hooks?: { readonly notes: readonly string[] } | undefined
  /**
   * True if the request is in the sample that is kept for explanations, whatever its outcome; undefined: not decided.
   */
  readonly sampled?: boolean | undefined
  /** Duration of the decision in ms. */
  readonly limitMs: number
  /** Cost of the request, if it differs from that of its route. */
  readonly cost: number | undefined
  readonly status: number
  /** Set when the gateway itself responded, or when the exchange broke. */
  readonly error: ErrorCode | undefined
  /** Internal detail, only for the log. */
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

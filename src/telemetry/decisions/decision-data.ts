import type { Limit } from '../../config/snapshot/limit.js'
import { type LimitData, limitData } from '../../config/snapshot/limit.js'
import type { ErrorCode } from '../../errors.js'
import { COUNTED, type Counted } from '../../limiter/limit-readings.js'
import type { DecidedBy, Decision, DegradedReason } from '../../limiter/limiter.js'
import type { RequestRecord } from '../record/record.js'

/** The decision for one request: plain data, in the words of the admin API. Times are in ms. */
export interface DecisionData {
  readonly request_id: string
  /** Time of arrival, ISO 8601. */
  readonly time: string
  /** Hash of the configuration that decided it. */
  readonly config: string
  readonly method: string
  readonly host: string
  /** Path without the query. */
  readonly path: string
  readonly client_ip: string
  readonly route: string | null
  readonly service: string | null
  /** Service with the limits that count, if another service serves the request. */
  readonly quota_of: string | null
  readonly consumer: string | null
  readonly tenant: string | null
  readonly identified_by: string | null
  /** Public id of the key, for an API key of the store. */
  readonly key_id: string | null
  readonly tier: string | null
  /** Origin of the tier; `source:` is followed by the name of the source. */
  readonly tier_from: string | null
  /** True if the source gave the tier longer ago than its ttl. */
  readonly tier_stale: boolean
  /** True if the store could not tell whether an operator has assigned a tier. */
  readonly tier_unchecked: boolean
  /** True if the store could not tell whether the caller has boosts or overrides. */
  readonly limits_unchecked: boolean
  /** Present if the service does not count this caller. */
  readonly exempt?: true
  /** When the assignment expires, ISO 8601; null: nothing was assigned, or the assignment does not expire. */
  readonly tier_until: string | null
  readonly cost: number | null
  /** Null: no limit was checked, since the request was refused earlier, or its tier is unlimited. */
  readonly decision: DecisionPart | null
  readonly limits: readonly ReportedLimit[]
  /** Hooks of extensions that ran, in their order; left out: none did. */
  readonly hooks?: readonly HookEffect[]
  /** Response status; 0: the request was not sent, or has no response yet. */
  readonly status: number
  readonly error: ErrorCode | null
  readonly cause: string | null
  readonly upstream: string | null
  readonly upstream_ms: number
  readonly duration_ms: number
}

/** Effect of a hook of an extension on a request. */
export interface HookEffect {
  readonly extension: string
  readonly hook: string
  readonly effect: string
}

/** Returns the effects that an exchange has noted. */
export function hookEffects(notes: readonly string[] | undefined): Pick<DecisionData, 'hooks'> {
  if (notes === undefined || notes.length === 0) return {}
  const hooks: HookEffect[] = []
  for (let i = 0; i < notes.length; i += 3)
    hooks.push({ extension: notes[i]!, hook: notes[i + 1]!, effect: notes[i + 2]! })
  return { hooks }
}

export interface DecisionPart {
  readonly allowed: boolean
  readonly decided_by: DecidedBy
  /** Reason why the store did not decide. */
  readonly reason: DegradedReason | null
  /** Name of the limit with the least left, or with the longest wait for this request. */
  readonly binding: string | null
  /** Requests of cost 1 that could still pass after this one, the least over all limits. */
  readonly remaining: number | null
  /** Ms until the request could pass; null: it passed, or never will. */
  readonly retry_after_ms: number | null
  /** Age of the counts in ms: a remembered denial has the counts of the time when it was made. */
  readonly counted_ms_before: number
  readonly took_ms: number
}

/**
 * State of a limit before the request was charged. The figures are null when unknown, as for requests that passed and
 * were not in the sample when they arrived.
 */
export interface ReportedLimit extends LimitData {
  /** Effective amount or burst; for `local`, one gateway's share. */
  readonly allows: number
  readonly used: number | null
  readonly remaining: number | null
  readonly reset_ms: number | null
  /** Only for a sliding window: usage in it, and in the one before, of which `weight` still counts. */
  readonly current?: number
  readonly previous?: number
  readonly weight?: number
  readonly binding: boolean
  /** True if this limit denied the request. */
  readonly denied: boolean
}

/** Describes how a tier was found, as the admin API does. */
export function tierFrom(from: RequestRecord['tierFrom'], source: string | undefined): string | null {
  return from === 'source' ? `source:${source}` : (from ?? null)
}

/** Returns the limits of a decision with everything known about them. */
export function reportedLimits(
  limits: readonly Limit[],
  decision: Pick<Decision, 'decidedBy' | 'binding' | 'violated'>,
  counted: Counted['numbers'] | undefined,
): ReportedLimit[] {
  const asked = decision.decidedBy !== 'open' && decision.decidedBy !== 'closed'
  return limits.map((limit, i): ReportedLimit => {
    const [allows = -1, left = 0, resetMs = 0, current = 0, previous = 0] =
      counted?.slice(i * COUNTED, (i + 1) * COUNTED) ?? []
    const known = allows >= 0
    return {
      ...limitData(limit),
      allows: known ? allows : limit.burst,
      used: known ? allows - left : null,
      remaining: known ? Math.max(0, left) : null,
      reset_ms: known ? resetMs : null,
      ...(known && limit.algorithm === 'sliding'
        ? { current, previous, weight: Math.min(1, Math.round((resetMs / limit.windowMs) * 1000) / 1000) }
        : {}),
      binding: asked && i === decision.binding,
      denied: (decision.violated & (1 << i)) !== 0,
    }
  })
}

/**
 * Returns the data of a decision.
 *
 * @param counted Unix ms of the counts
 */
export function decisionPart(
  decision: Omit<Decision, 'counted'>,
  limits: readonly Limit[],
  counted: number | undefined,
  tookMs: number,
): DecisionPart {
  const { allowed, decidedBy, reason, binding, remaining, retryMs, at } = decision
  const asked = decidedBy !== 'open' && decidedBy !== 'closed'
  return {
    allowed,
    decided_by: decidedBy,
    reason: reason ?? null,
    binding: asked ? (limits[binding]?.name ?? null) : null,
    remaining: asked ? remaining : null,
    retry_after_ms: allowed || retryMs < 0 ? null : retryMs,
    counted_ms_before: counted === undefined ? 0 : Math.max(0, at - counted),
    took_ms: Math.round(tookMs * 1000) / 1000,
  }
}

/** Subject of a question: a request by its id, or the latest decision about a consumer. */
export type DecisionQuestion = string | { readonly consumer: string; readonly service?: string | undefined }

/** Compares two decisions for `sort`: latest first. */
export function latestFirst(a: Pick<DecisionData, 'time'>, b: Pick<DecisionData, 'time'>): number {
  return a.time === b.time ? 0 : a.time > b.time ? -1 : 1
}

/**
 * Compares two decisions for `sort`, the most useful about a consumer first: the last denial, or else the latest
 * decision.
 */
export function mostTellingFirst(a: DecisionData, b: DecisionData): number {
  const denies = ({ decision }: DecisionData) => decision?.allowed === false
  return denies(a) === denies(b) ? latestFirst(a, b) : denies(a) ? -1 : 1
}

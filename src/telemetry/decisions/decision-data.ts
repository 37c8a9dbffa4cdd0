import { type LimitData, limitData } from '../../config/snapshot/limit.js'
import type { Limit } from '../../config/snapshot/snapshot.js'
import type { ErrorCode } from '../../errors.js'
import { COUNTED, type Counted } from '../../limiter/limit-readings.js'
import type { DecidedBy, Decision, DegradedReason } from '../../limiter/limiter.js'
import type { RequestRecord } from '../record/record.js'

/** What is told of one request's decision: plain data, in the words of the admin API. Times in ms. */
export interface DecisionData {
  readonly request_id: string
  /** When the request came, ISO 8601. */
  readonly time: string
  /** Hash of the configuration that it was decided by. */
  readonly config: string
  readonly method: string
  readonly host: string
  /** Without the query. */
  readonly path: string
  readonly client_ip: string
  readonly route: string | null
  readonly service: string | null
  /** Whose limits count, where another service serves. */
  readonly quota_of: string | null
  readonly consumer: string | null
  readonly tenant: string | null
  readonly identified_by: string | null
  /** Of an API key of the store: its public handle. */
  readonly key_id: string | null
  readonly tier: string | null
  /** `source:` is followed by the name of the source. */
  readonly tier_from: string | null
  /** It is what the source said last, longer ago than its ttl. */
  readonly tier_stale: boolean
  /** When the assignment ends by itself, ISO 8601; null: nothing was assigned, or for good. */
  readonly tier_until: string | null
  readonly cost: number | null
  /** Null: no limit was asked, since the request did not come so far, or its tier is unlimited. */
  readonly decision: DecisionPart | null
  readonly limits: readonly LimitTold[]
  /** 0: not sent, or not answered yet. */
  readonly status: number
  readonly error: ErrorCode | null
  readonly cause: string | null
  readonly upstream: string | null
  readonly upstream_ms: number
  readonly duration_ms: number
}

export interface DecisionPart {
  readonly allowed: boolean
  readonly decided_by: DecidedBy
  /** Why the store did not decide. */
  readonly reason: DegradedReason | null
  /** Name of the limit that leaves the least, or that the request waits for longest. */
  readonly binding: string | null
  /** What a request of cost 1 could still take after this one, the least over all limits. */
  readonly remaining: number | null
  /** Until it could pass; null: it passed, or never will. */
  readonly retry_after_ms: number | null
  /** How old the counts were: those of a remembered denial are of when it was made. */
  readonly counted_ms_before: number
  readonly took_ms: number
}

/** How a limit stood before the request was charged. Null: that was not told, as of requests that passed and were not in the sample when they came. */
export interface LimitTold extends LimitData {
  /** What counted: the amount or the burst, of `local` a gateway's share. */
  readonly allows: number
  readonly used: number | null
  readonly remaining: number | null
  readonly reset_ms: number | null
  /** Of a sliding window: used in it, and in the one before, of which `weight` still counts. */
  readonly current?: number
  readonly previous?: number
  readonly weight?: number
  readonly binding: boolean
  /** It denied the request. */
  readonly denied: boolean
}

/** How a tier was found, as the admin API says it. */
export function tierFrom(from: RequestRecord['tierFrom'], source: string | undefined): string | null {
  return from === 'source' ? `source:${source}` : (from ?? null)
}

/** The limits of a decision with all that is known of them. */
export function limitsTold(
  limits: readonly Limit[],
  decision: Pick<Decision, 'decidedBy' | 'binding' | 'violated'>,
  counted: Counted['numbers'] | undefined,
): LimitTold[] {
  const asked = decision.decidedBy !== 'open' && decision.decidedBy !== 'closed'
  return limits.map((limit, i): LimitTold => {
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

/** @param counted unix ms of the counts */
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

/** What is asked for: a request by its id, or what became of a consumer last. */
export type DecisionQuestion = string | { readonly consumer: string; readonly service?: string | undefined }

/** For `sort`. */
export function latestFirst(a: DecisionData, b: DecisionData): number {
  return a.time === b.time ? 0 : a.time > b.time ? -1 : 1
}

/** For `sort`, by what says most to who asks for a consumer: the last denial, and where there is none whatever came last. */
export function mostTellingFirst(a: DecisionData, b: DecisionData): number {
  const denies = ({ decision }: DecisionData) => decision?.allowed === false
  return denies(a) === denies(b) ? latestFirst(a, b) : denies(a) ? -1 : 1
}

import { limitDataParts } from '../../config/snapshot/limit.js'
import type { DegradedReason } from '../../limiter/limiter.js'
import type { DecisionData, DecisionPart, ReportedLimit } from './decision-data.js'

const OUT_OF_REACH: Readonly<Record<DegradedReason, string>> = {
  timeout: 'the store did not answer in time',
  error: 'the store answered with an error',
  breaker: 'the store was out of reach',
}

/** Explains, for a person, what happened to a request and why, in a few sentences. */
export function whyOf(d: DecisionData): string {
  return outcome(d) + effects(d)
}

/** Says what the hooks of extensions did. */
function effects({ hooks = [] }: DecisionData): string {
  if (hooks.length === 0) return ''
  const each = hooks.map(({ extension, hook, effect }) => `${hook} of ${extension} ${effect}`)
  return ` Extensions: ${each.join('; ')}.`
}

function outcome(d: DecisionData): string {
  const { decision, error, status, cause } = d
  if (error === 'no_route') return 'No route matches its host and path.'
  if (d.route === null) return refused(d)
  if (decision !== null) {
    const decided = decision.allowed ? allowed(d, decision) : denied(d, decision)
    return decision.allowed && (status >= 500 || error !== null) ? `${decided} ${afterwards(d)}` : decided
  }
  if (error !== null) return refused(d)
  if (cause !== null) return `Answered with ${status} by the ${cause}.`
  if (d.identified_by === null)
    return 'The route answers by itself, before the gateway identifies the caller.'
  const reason = d.exempt === true ? `the caller is exempt` : `tier ${d.tier} is unlimited`
  return `Not limited: ${reason} on ${quotaOf(d)}, nothing is counted.${status >= 500 ? ` ${afterwards(d)}` : ''}`
}

const quotaOf = (d: DecisionData) => d.quota_of ?? d.service

function denied(d: DecisionData, decision: DecisionPart): string {
  const { decided_by: by, reason, retry_after_ms: retryMs, counted_ms_before: age } = decision
  if (by === 'closed') {
    return `Denied: ${OUT_OF_REACH[reason ?? 'breaker']}, and ${quotaOf(d)} is closed then (on_failure).`
  }
  const limit = d.limits.find(({ binding }) => binding)
  if (limit === undefined) return 'Denied.'
  const { allows, remaining } = limit
  const left = remaining === null ? 'had too little left' : `had ${remaining} of ${allows} left`
  const when = retryMs === null ? 'it never allows so much at once' : `it can pass ${seconds(retryMs)} later`
  const others = d.limits.filter((one) => one.denied && one !== limit).map(({ name }) => `"${name}"`)
  const parts = [
    `Denied: ${nameOf(d, limit)} ${left}, and the request costs ${costOf(d, limit)}; ${when}.`,
    others.length === 0 ? '' : `It was denied by ${others.join(' and ')}, too.`,
    by === 'cache' ? `The store had said so ${seconds(age)} before and was not asked again.` : '',
    by === 'local' ? alone(decision) : '',
  ]
  return parts.filter((part) => part !== '').join(' ')
}

function allowed(d: DecisionData, decision: DecisionPart): string {
  const { decided_by: by, reason, remaining } = decision
  if (by === 'open') {
    return `Let through uncounted: ${OUT_OF_REACH[reason ?? 'breaker']}, and ${quotaOf(d)} is open then (on_failure).`
  }
  const limit = d.limits.find(({ binding }) => binding)
  if (limit === undefined) return 'Allowed.'
  const local = by === 'local' ? ` ${alone(decision)}` : ''
  return `Allowed: ${nameOf(d, limit)} has ${remaining} left after it, and no other has less.${local}`
}

function alone({ reason }: DecisionPart): string {
  return `${OUT_OF_REACH[reason ?? 'breaker'].replace('the', 'The')}, so the gateway counted by itself, within its share of the limit.`
}

function nameOf(d: DecisionData, limit: ReportedLimit): string {
  const { quota, change } = limitDataParts(limit)
  const amount = change === '' ? quota : `${quota}: ${change}`
  return `the limit "${limit.name}" (${amount}) of ${whose(d, limit)}, tier ${d.tier} on ${quotaOf(d)},`
}

function whose(d: DecisionData, limit: ReportedLimit): string {
  if (limit.share_of === undefined) return shared(d, limit)
  return limit.by === 'service' ? `${d.consumer}` : `${d.consumer} within ${shared(d, limit)}`
}

function shared(d: DecisionData, { by }: ReportedLimit): string {
  switch (by) {
    case 'consumer':
      return d.consumer ?? 'the consumer'
    case 'ip':
      return `the address ${d.client_ip}`
    case 'tenant':
      return d.tenant === null ? `${d.consumer}, who has no tenant` : `the tenant ${d.tenant}`
    case 'route':
      return `the route ${d.route}`
    case 'service':
      return 'all callers'
  }
}

const costOf = ({ cost }: DecisionData, { algorithm }: ReportedLimit) =>
  algorithm === 'concurrency' ? 1 : cost

function refused({ status, error, cause }: DecisionData): string {
  return `Refused with ${status} ${error ?? ''}${cause === null ? '' : `: ${cause}`}.`
}

function afterwards({ status, error, cause, service }: DecisionData): string {
  if (error === null) return `${service} answered ${status}.`
  return `Then it ended with ${status} ${error}${cause === null ? '' : `: ${cause}`}.`
}

/**
 * Formats a duration as `0.4 s`, `34 s`, `25 min`, `7 h` or `12 days`. Rounds up, so that no client retries too early.
 */
export function seconds(ms: number): string {
  if (ms < 10_000) return `${Math.ceil(ms / 100) / 10} s`
  const whole = Math.ceil(ms / 1000)
  if (whole < 120) return `${whole} s`
  if (whole < 7_200) return `${Math.ceil(whole / 60)} min`
  return whole < 172_800 ? `${Math.ceil(whole / 3_600)} h` : `${Math.ceil(whole / 86_400)} days`
}

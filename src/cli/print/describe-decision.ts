import { type LimitData, limitDataParts, limitDataText } from '../../config/snapshot/limit.js'
import { credentialKind } from '../../config/values/credential-kinds.js'
import type { DecisionData, ReportedLimit } from '../../telemetry/decisions/decision-data.js'
import { seconds } from '../../telemetry/decisions/why.js'
import { details, oneLine, page, remarked, wrapped } from './terminal.js'
import { foundBy, untilText } from './tier-origin.js'

/** Describes the parts of a decision, for sent requests (`why`) and for hypothetical ones (`explain`). */

/** Formats a decision: the sentence that says why, its rows, its limits, and a note. */
export function describeAnswer(
  { why, limits }: { readonly why: string; readonly limits: readonly ReportedLimit[] },
  rows: readonly (readonly string[])[],
  columns: number | undefined,
  note = '',
): string {
  return page(
    wrapped(oneLine(why), 0, columns),
    details(rows, columns),
    limitTable(limits, columns),
    changedLimits(limits, columns),
    wrapped(note, 0, columns),
  )
}

type Asked = Omit<DecisionData, 'request_id' | 'time' | 'upstream' | 'upstream_ms' | 'duration_ms'>

export function requestRows(d: Asked): string[][] {
  const served = d.quota_of === null ? d.service : `${d.service}, limits of ${d.quota_of}`
  return [
    ['asked', `${d.method} ${d.host}${d.path}`],
    ['route', d.route === null ? 'none' : `${d.route} -> ${served}`],
    ['consumer', consumerOf(d)],
    [
      'tier',
      d.tier === null
        ? 'not resolved'
        : `${d.tier}, ${foundBy(d.tier_from ?? '', d.tier_stale, d.identified_by)}${untilText(d.tier_until)}${d.tier_unchecked ? '; the store could not tell whether one is assigned' : ''}`,
    ],
    ['limits', d.limits_unchecked ? 'the store could not tell whether there is a boost or an override' : ''],
    ['cost', d.cost === null ? '' : String(d.cost)],
  ]
}

function consumerOf({
  consumer,
  identified_by: by,
  key_id: key,
  tenant,
  client_ip: ip,
}: Pick<DecisionData, 'consumer' | 'identified_by' | 'key_id' | 'tenant' | 'client_ip'>): string {
  if (by === null || consumer === null) return `not identified; from ${ip}`
  const found = `${consumer}, ${credentialKind(by)?.identified ?? by}${key ? ` ${key}` : ''}`
  const belongs = tenant === null ? '' : `, tenant ${tenant}`
  return by === 'ip' && consumer === ip ? found : `${found}${belongs}, from ${ip}`
}

/** Formats a line for each limit; empty if there is none. */
function limitTable(limits: readonly ReportedLimit[], columns: number | undefined): string {
  if (limits.length === 0) return ''
  const rows = limits.map((limit) => [
    limit.name,
    limitDataParts(limit).quota,
    limit.used === null ? '' : `${limit.used}/${limit.allows}`,
    limit.remaining === null ? '' : String(limit.remaining),
    limit.reset_ms === null || limit.algorithm === 'concurrency' ? '' : seconds(limit.reset_ms),
    countedOf(limit),
    markOf(limit),
  ])
  return remarked(['limit', 'amount', 'used', 'left', 'resets in', 'counted', ''], rows, columns)
}

/** Explains the limits whose amount differs from the tier's, below their table; empty if there is none. */
export function changedLimits(limits: readonly LimitData[], columns: number | undefined): string {
  const changes = limits
    .filter(({ changed }) => changed !== undefined)
    .map((limit) => wrapped(`  ${limit.name}: ${limitDataText(limit)}`, 4, columns))
  return changes.length === 0 ? '' : ['differs from the tier:', ...changes].join('\n')
}

/** Formats the counts of a sliding window: `4 now + 35 % of 12 before`. */
function countedOf({ current, previous, weight }: ReportedLimit): string {
  if (current === undefined || previous === undefined || weight === undefined) return ''
  return previous === 0
    ? `${current} now`
    : `${current} now + ${Math.round(weight * 100)} % of ${previous} before`
}

function markOf({ denied, binding }: ReportedLimit): string {
  if (denied) return binding ? 'denied the request; longest wait' : 'denied the request, too'
  return binding ? 'least left' : ''
}

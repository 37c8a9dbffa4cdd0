import type { LimitData } from '../../config/snapshot/limit.js'
import { formatDuration } from '../../config/values/quantities.js'
import { apiPath, queryOf } from '../api-path.js'
import { WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { changedLimits } from '../print/describe-decision.js'
import { listing, oneLine, page, wrapped } from '../print/terminal.js'
import { notesText, type TierPart, tierText, untilText } from '../print/tier-origin.js'
import { roundedDuration } from '../print/time.js'

interface Usage extends TierPart {
  readonly tier_until?: string
  /** Set while the store is unreachable. */
  readonly decided_by?: 'local' | 'open' | 'closed'
  readonly unlimited: boolean
  readonly limits: readonly LimitUsed[]
  /** Candidate limits, which are counted and decide nothing. */
  readonly candidates?: readonly LimitUsed[]
  /** Limits that cannot be found from a consumer's id. */
  readonly not_shown?: readonly { readonly name: string; readonly by: string }[]
}

interface LimitUsed extends LimitData {
  readonly used: number
  readonly remaining: number
  readonly reset_ms: number
}

export const command = adminCommand({
  name: 'usage',
  usage: ['SERVICE CONSUMER [--tier TIER] [--tenant TENANT]', 'SERVICE CONSUMER --reset'],
  about: 'Shows what a consumer has used of a service and what remains, or resets it.',
  whose: 'reader',
  writes: ({ reset }) => reset === true,
  changes: true,
  options: {
    reset: { help: 'forget what the consumer has used of the service' },
    tier: {
      value: 'TIER',
      help: 'the tier, if only the credential has it and no request has shown it yet',
    },
    tenant: { value: 'TENANT', help: 'the tenant, in the same case' },
  },
  positionals: ['SERVICE', 'CONSUMER'],
  run({ reset, tier, tenant }, [service = '', consumer = '']) {
    if (reset && tier !== undefined)
      throw new WrongUse('--reset forgets the usage under every tier: leave --tier out')
    return async (control) => {
      const path = apiPath`/usage/${service}/${consumer}`
      if (reset) {
        const done = await control.call('DELETE', path)
        return { data: done, text: `${consumer} on ${service}: usage is reset` }
      }
      const usage = await control.call<Usage>('GET', path + queryOf({ tier, tenant }))
      return { data: usage, text: (columns) => describe(service, consumer, usage, columns) }
    }
  },
})

function describe(service: string, consumer: string, usage: Usage, columns: number | undefined): string {
  const {
    tier,
    tier_until,
    tier_notes,
    unlimited,
    decided_by,
    limits,
    candidates = [],
    not_shown = [],
  } = usage
  const found = tierText(usage) + untilText(tier_until) + notesText(tier_notes)
  const head = oneLine(`${consumer} on ${service}: tier ${tier}, ${found}`)
  if (unlimited) return wrapped(`${head}; unlimited, nothing is counted`, 0, columns)
  const rows = [
    ...limits.map((limit) => row(limit.name, limit)),
    ...candidates.map((limit) => row(`${limit.name} (candidate)`, limit)),
  ]
  const others = not_shown.map(({ name, by }) => `${name} (by ${by})`).join(', ')
  const noted = others === '' ? '' : `Not shown, because they are not counted by consumer: ${others}`
  return page(
    wrapped(head, 0, columns),
    rows.length === 0 && decided_by !== undefined ? '' : listing(HEAD, rows, columns, 2),
    changedLimits(limits, columns),
    wrapped(noted, 0, columns),
    decided_by === undefined ? '' : wrapped(AWAY[decided_by], 0, columns),
  )
}

const HEAD = ['limit', 'amount', 'algorithm', 'by', 'used', 'remaining', 'resets in']

/** Explains what happens to requests while the store is unreachable. */
const AWAY = {
  open: 'The store is out of reach: requests pass uncounted (on_failure: open).',
  closed: 'The store is out of reach: requests are refused with 503 (on_failure: closed).',
  local:
    'The store is out of reach: each gateway counts by itself, within its share of each limit (on_failure: local).',
} as const

function row(name: string, limit: LimitUsed): string[] {
  const { algorithm, by, used, remaining, reset_ms: resetMs } = limit
  // A slot is released when its request ends, at an unknown time.
  const reset = algorithm === 'concurrency' ? '' : roundedDuration(resetMs, Math.ceil)
  return [name, amountOf(limit), algorithm, by, String(used), String(remaining), reset]
}

function amountOf({ amount, burst, window_ms: windowMs, period, time_zone: timeZone }: LimitData): string {
  if (period !== undefined) return `${amount} a ${period}, ${timeZone}`
  if (windowMs === undefined) return `${amount} at once`
  const rate = `${amount} in ${formatDuration(windowMs)}`
  return burst === undefined ? rate : `${rate}, ${burst} at once`
}

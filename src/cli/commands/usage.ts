import type { LimitData } from '../../config/snapshot/limit.js'
import { formatDuration } from '../../config/values/quantities.js'
import { ADMIN_HELP, ADMIN_OPTION, REASON_HELP, REASON_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { changedLimits } from '../print/describe-decision.js'
import { columnsOf, oneLine, print, printJson, sheet, wrapped } from '../print/terminal.js'
import { notesText, type TierPart, tierText, untilText } from '../print/tier-origin.js'

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

export const command = defineCommand({
  name: 'usage',
  help: `Usage: tidegate usage SERVICE CONSUMER [--reset | --tier TIER | --tenant TENANT]
                      [--reason TEXT] [--admin HOST:PORT | --config FILE]
                      [--json]

Shows what a consumer has used of a service and what remains, or forgets it.

Options:
  --reset             forget what the consumer has used of the service
  --tier TIER         for a consumer whose credential says a tier that no
                      request has shown yet
  --tenant TENANT     the same for its tenant
${REASON_HELP}
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

The running gateway is asked, at admin.listen: it says what the next request
would get. Where none answers, or the token is missing, the store is asked
(store.redis). --reset goes to the store.`,
  options: {
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    reset: { type: 'boolean' },
    tier: { type: 'string' },
    tenant: { type: 'string' },
    reason: REASON_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['SERVICE', 'CONSUMER'],
  required: 2,
  async run({ admin, config, reason, reset, tier, tenant, json }, io, [service = '', consumer = '']) {
    if (reset && tier !== undefined) {
      throw new WrongUse('tidegate usage: --reset forgets the usage under every tier; leave --tier out')
    }
    const whose = reset ? 'store' : 'reader'
    return withControl(io, 'usage', { config, admin, reason, whose }, async (control) => {
      const path = `/usage/${encodeURIComponent(service)}/${encodeURIComponent(consumer)}`
      if (reset) {
        const done = await control.call('DELETE', path)
        if (json) printJson(io, done)
        else print(io, oneLine(`${consumer} has used nothing of ${service} any more`))
        return 0
      }
      const asked = Object.entries({ tier, tenant }).filter(([, value]) => value !== undefined)
      const query = asked.length === 0 ? '' : `?${new URLSearchParams(asked as [string, string][])}`
      const usage = await control.call<Usage>('GET', path + query)
      if (json) printJson(io, usage)
      else print(io, describe(service, consumer, usage, columnsOf(io.stdout)))
      return 0
    })
  },
})

function describe(service: string, consumer: string, usage: Usage, columns: number | undefined): string {
  const found = tierText(usage) + untilText(usage.tier_until) + notesText(usage.tier_notes)
  const head = oneLine(`${consumer} on ${service}: tier ${usage.tier}, ${found}`)
  if (usage.unlimited) return wrapped(`${head}; unlimited, nothing is counted`, 0, columns)
  const away = usage.decided_by === undefined ? '' : `\n\n${wrapped(AWAY[usage.decided_by], 0, columns)}`
  if (usage.limits.length === 0 && away !== '') return wrapped(head, 0, columns) + away
  const rows = [
    ...usage.limits.map((limit) => row(limit.name, limit)),
    ...(usage.candidates ?? []).map((limit) => row(`${limit.name} (candidate)`, limit)),
  ]
  const others = (usage.not_shown ?? []).map(({ name, by }) => `${name} (by ${by})`)
  const note =
    others.length === 0
      ? ''
      : `\n\n${wrapped(`not shown, as no consumer's id leads to them: ${others.join(', ')}`, 0, columns)}`
  return `${wrapped(head, 0, columns)}\n\n${sheet(HEAD, rows, columns)}${changedLimits(usage.limits, columns)}${note}${away}`
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
  const reset = algorithm === 'concurrency' ? '' : roughly(resetMs)
  return [name, amountOf(limit), algorithm, by, String(used), String(remaining), reset]
}

function amountOf({ amount, burst, window_ms: windowMs, period, time_zone: timeZone }: LimitData): string {
  if (period !== undefined) return `${amount} a ${period}, ${timeZone}`
  if (windowMs === undefined) return `${amount} at once`
  const rate = `${amount} in ${formatDuration(windowMs)}`
  return burst === undefined ? rate : `${rate}, ${burst} at once`
}

/** Rounds up: `45 s`, `3 min`, `5 h`, `12 days`. */
function roughly(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.ceil(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.ceil(seconds / 3_600)} h` : `${Math.ceil(seconds / 86_400)} days`
}

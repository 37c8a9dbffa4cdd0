import type { AuditEntry } from '../../admin/access/audit.js'
import type { AuditAnswer } from '../../admin/routes/audit-log.js'
import { ADMIN_HELP, ADMIN_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { columnsOf, listing, print, printJson } from '../print/terminal.js'

const HEAD = ['when', 'who', 'action', 'target', 'change', 'reason']
/** Longest value in the table, in characters. */
const LONGEST_CELL = 60

export const command = defineCommand({
  name: 'audit',
  help: `Usage: tidegate audit [--since TIME] [--who NAME] [--target NAME]
                      [--action NAME] [-n COUNT]
                      [--admin HOST:PORT | --config FILE] [--json]

Shows what operators have changed: when, who, what was there before and after,
and why. The newest is last.

Options:
  --since TIME        back from now (1h, 7d), or a moment (2026-11-25T08:00Z);
                      by default as far back as is kept
  --who NAME          by whom: the name of a token, loopback, or cli:USER@HOST
  --target NAME       what was changed: a consumer, a service, an upstream
  --action NAME       tier.set, or tier for all of tier.set and tier.remove
  -n, --count COUNT   the newest of them, 1 to 1000; by default 100
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON, the newest first, with the gateway, the
                      address and the client of each

With store.redis in the configuration the store is asked; without, the running
gateway, at admin.listen.`,
  options: {
    since: { type: 'string' },
    who: { type: 'string' },
    target: { type: 'string' },
    action: { type: 'string' },
    count: { type: 'string', short: 'n' },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  async run({ admin, config, json, count, ...asked }, io) {
    if (count !== undefined && !/^[1-9]\d{0,3}$/.test(count)) {
      throw new WrongUse(
        `tidegate audit: --count is a number, 1 to 1000, not ${count}; see: tidegate audit --help`,
      )
    }
    return withControl(io, 'audit', { config, admin }, async (control) => {
      const query = new URLSearchParams()
      for (const [key, value] of Object.entries({ ...asked, n: count })) if (value) query.set(key, value)
      const answer = await control.call<AuditAnswer>('GET', `/audit?${query}`)
      if (json) printJson(io, answer)
      else print(io, describe(answer, columnsOf(io.stdout)))
      return 0
    })
  },
})

function describe({ entries, older }: AuditAnswer, columns: number | undefined): string {
  if (entries.length === 0) return 'No change is on record that fits.'
  const rows = entries.map((entry) => [
    entry.at.replace('T', ' ').replace(/\.\d+Z$/, 'Z'),
    entry.who,
    entry.action,
    cut(entry.target),
    changeOf(entry),
    entry.reason ?? '',
  ])
  const list = listing(HEAD, rows.toReversed(), columns)
  return list + (older === null ? '' : '\n\nThere are older ones: more with -n.')
}

/** Returns what differs between two mappings; for other values, all of them. */
function changeOf({ action, target, before, after }: AuditEntry): string {
  if (action === 'import.rows' && isMapping(after)) return importOf(after)
  if (before === null && after === null) return ''
  if (!isMapping(before) || !isMapping(after)) return `${shown(before, target)} -> ${shown(after, target)}`
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  const changed = names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]))
  if (changed.length === 0) return 'nothing new'
  const told = changed.map((name) => {
    const was = Object.hasOwn(before, name) ? `${text(before[name])} -> ` : ''
    return `${name} ${was}${text(after[name])}`
  })
  return cut(told.join(', '))
}

/** Formats an import, with the full hash: users compare it with a file they kept. */
function importOf({ file_sha256: hash, by_tier: tiers, ...counts }: Record<string, unknown>): string {
  const listOf = (all: Record<string, unknown>) =>
    Object.entries(all)
      .filter(([, count]) => count !== 0)
      .map(([name, count]) => `${name} ${text(count)}`)
  const told = listOf(counts).join(', ')
  const each = isMapping(tiers) && Object.keys(tiers).length > 0 ? ` (${listOf(tiers).join(', ')})` : ''
  return `${cut(told + each)}${typeof hash === 'string' ? `, file sha256 ${hash}` : ''}`
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function shown(value: unknown, target: string): string {
  if (!isMapping(value)) return cut(text(value))
  const parts = Object.entries(value)
    .filter(([, one]) => one !== null && one !== target)
    .map(([key, one]) => `${key} ${text(one)}`)
  return cut(parts.join(', ')) || 'nothing'
}

/** Formats a value, with times to the second. */
function text(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value.join(' ')
  if (typeof value !== 'string') return JSON.stringify(value)
  return value.replace(/^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z$/, '$1Z')
}

function cut(text: string): string {
  return text.length <= LONGEST_CELL ? text : `${text.slice(0, LONGEST_CELL - 1)}…`
}

import type { AuditEntry } from '../../admin/access/audit.js'
import type { AuditAnswer } from '../../admin/routes/audit-log.js'
import { queryOf } from '../api-path.js'
import { WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { listing } from '../print/terminal.js'
import { tableTime, toSecond } from '../print/time.js'

const HEAD = ['when', 'who', 'action', 'target', 'change', 'reason']
/** Longest value in the table, in characters. */
const LONGEST_CELL = 60

export const command = adminCommand({
  name: 'audit',
  usage: ['[--since TIME] [--who NAME] [--target NAME] [--action NAME] [-n COUNT]'],
  about: `Shows what operators have changed: when, who, the values before and after, and why. The newest change is
last. With --json it is first, and each has its gateway, address and client.`,
  whose: 'store',
  options: {
    since: {
      value: 'TIME',
      help: 'a time back from now (1h, 7d), or a moment (2026-11-25T08:00Z); by default as far back as is kept',
    },
    who: { value: 'NAME', help: 'who changed it: the name of a token, loopback, or cli:USER@HOST' },
    target: { value: 'NAME', help: 'what was changed: a consumer, a service, an upstream' },
    action: { value: 'NAME', help: 'tier.set, or tier for both tier.set and tier.remove' },
    count: { value: 'COUNT', short: 'n', help: 'the newest changes, 1 to 1000; by default 100' },
  },
  run({ since, who, target, action, count: n }) {
    if (n !== undefined && !/^[1-9]\d{0,3}$/.test(n))
      throw new WrongUse(`--count needs a number from 1 to 1000, not ${n}`)
    return async (control) => {
      const query = queryOf({ since, who, target, action, n })
      const answer = await control.call<AuditAnswer>('GET', `/audit${query}`)
      return { data: answer, text: (columns) => describe(answer, columns) }
    }
  },
})

function describe({ entries, older }: AuditAnswer, columns: number | undefined): string {
  if (entries.length === 0) return 'No matching change is on record.'
  const rows = entries.map((entry) => [
    tableTime(entry.at),
    entry.who,
    entry.action,
    cut(entry.target),
    changeOf(entry),
    entry.reason ?? '',
  ])
  const list = listing(HEAD, rows.toReversed(), columns)
  return list + (older === null ? '' : '\n\nThere are older changes. See more with -n.')
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
  return /^\d{4}-\d\d-\d\dT[\d:]{8}\.\d+Z$/.test(value) ? toSecond(value) : value
}

function cut(text: string): string {
  return text.length <= LONGEST_CELL ? text : `${text.slice(0, LONGEST_CELL - 1)}…`
}

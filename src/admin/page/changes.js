// Changes that operators have made, as the audit has them.

import { ask, errorText } from './api.js'
import { facts, moment, note, problem, section, table, timeOf } from './elements.js'
import { encoded, seen } from './figures.js'

const MOST = 20
/** Least ms between two questions: the gateway reads all of the audit to find what concerns one consumer. */
const EVERY = 60_000

/**
 * Keeps the latest changes.
 *
 * @returns `{ read(targets, signal), shell }`: `read` resolves with the changes for `changesSection`, of the targets or of
 *   all if there are none; a change that is made with this `shell` is among the next that are read
 */
export function createChanges(shell) {
  let known
  let at = 0
  function refresh() {
    at = 0
    return shell.refresh()
  }
  return {
    shell: { ...shell, refresh },
    async read(targets, signal) {
      if (Date.now() - at < EVERY) return known
      const queries = targets.length === 0 ? [''] : targets.map((target) => `&target=${encoded(target)}`)
      try {
        const answers = await Promise.all(queries.map((query) => ask(`/audit?n=${MOST}${query}`, { signal })))
        const entries = answers.flatMap(({ body }) => body.entries)
        entries.sort((a, b) => Date.parse(b.at) - Date.parse(a.at))
        known = { entries: entries.slice(0, MOST), hasMore: answers.some(({ body }) => body.older !== null) }
        at = Date.now()
      } catch (error) {
        known = { error }
      }
      return known
    },
  }
}

/** Makes the card of what `createChanges().read()` resolved with. */
export function changesSection({ entries, hasMore, error }, none) {
  const attributes = { key: 'operators' }
  if (error !== undefined) return section(TITLE, attributes, problem(errorText(error)))
  const rows = entries.map(({ id, at, who, action, target, before, after, reason }) => ({
    key: id,
    cells: [
      timeOf(at),
      seen(who),
      [seen(`${action} ${target}`), 'why'],
      [seen(before === null ? valueText(after) : `${valueText(before)} → ${valueText(after)}`), 'why'],
      [seen(reason ?? '–'), 'why'],
    ],
  }))
  return section(
    TITLE,
    attributes,
    table({ caption: TITLE, heads: ['when', 'who', 'what', 'change', 'reason'], rows, none }),
    hasMore ? note('The command tidegate audit shows older ones.') : null,
  )
}

const TITLE = 'Changes by operators'

/** Describes a value of the audit: `by 100, until 1 Dec 2026, 03:25`. */
function valueText(value) {
  if (value === null) return 'none'
  if (typeof value === 'string') return /^\d{4}-\d\d-\d\dT/.test(value) ? moment(value) : value
  if (typeof value !== 'object') return String(value)
  if (Array.isArray(value)) return value.map(valueText).join(', ')
  return Object.entries(value)
    .map(([name, one]) => `${name} ${valueText(one)}`)
    .join(', ')
}

/** Shows an entry of `GET /audit`. */
export function showEntry({ id, at, who, action, target, before, after, reason, node }) {
  return facts([
    ['audit entry', id],
    ['at', timeOf(at)],
    ['who', who],
    ['what', `${action} ${target}`],
    ['before', valueText(before)],
    ['after', valueText(after)],
    ['reason', reason],
    ['gateway', node],
  ])
}

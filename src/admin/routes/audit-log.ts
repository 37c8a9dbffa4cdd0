import type { FastifyInstance } from 'fastify'
import { parseDuration } from '../../config/values/quantities.js'
import type { AuditStream } from '../../fleet/audit-stream.js'
import { type AuditEntry, entryIn } from '../access/audit.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { countIn, momentIn, type Query, type QueryOf, readQuery } from './read-request.js'

/** Response of `GET /audit`. */
export interface AuditAnswer {
  /** Newest first. */
  readonly entries: readonly (AuditEntry & { readonly id: string })[]
  /** Value for `before` that fetches older entries; null: there are none. */
  readonly older: string | null
}

const ENTRIES = 100
const MOST_ENTRIES = 1000
/** Entries that are read at once: a filter may keep only a few of them. */
const PAGE = 500
const ENTRY_ID = /^\d{1,15}-\d{1,15}$/
const KEYS = ['since', 'who', 'target', 'action', 'n', 'before'] as const

/** Adds the routes that list changes by operators, on all gateways of the store. */
export function auditRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'audit' | 'log'>): void {
  app.get<QueryOf>('/audit', async (request) => {
    const asked = read(request.query, Date.now())
    return withStore(deps.log, 'read the audit', () => find(deps.audit.stream(), asked))
  })

  app.get<EntryOf>('/audit/:id', ({ params: { id } }) => {
    if (!ENTRY_ID.test(id))
      refuse('bad_request', 'The id of an entry is two numbers, such as 1795579533811-0: see x-audit-id.')
    return withStore(deps.log, 'read the audit', async () => {
      const text = await deps.audit.stream().one(id)
      const entry = text === undefined ? undefined : entryIn(text)
      if (entry !== undefined) return { id, ...entry }
      return refuse('not_found', `The audit has no entry ${id}. It keeps the latest 10,000.`)
    })
  })
}

interface EntryOf {
  readonly Params: { readonly id: string }
}

interface Asked {
  /** Unix ms. */
  readonly since: number
  readonly who: string | undefined
  readonly target: string | undefined
  readonly action: string | undefined
  readonly n: number
  readonly before: string | undefined
}

/** Finds at most `n` matching entries, however many the store has. */
async function find(stream: AuditStream, { since, n, ...asked }: Asked): Promise<AuditAnswer> {
  const entries: AuditAnswer['entries'][number][] = []
  let { before } = asked
  for (;;) {
    const lines = await stream.read({ since, before, count: PAGE })
    for (const { id, text } of lines) {
      const entry = entryIn(text)
      if (entry === undefined || !fits(entry, asked)) continue
      if (entries.length === n) return { entries, older: entries.at(-1)!.id }
      entries.push({ id, ...entry })
    }
    before = lines.at(-1)?.id
    if (before === undefined || lines.length < PAGE) return { entries, older: null }
  }
}

function fits({ who, target, action }: AuditEntry, asked: Pick<Asked, 'who' | 'target' | 'action'>): boolean {
  return (
    (asked.who === undefined || asked.who === who) &&
    (asked.action === undefined || asked.action === action || action.startsWith(`${asked.action}.`)) &&
    (asked.target === undefined || isPart(target, asked.target))
  )
}

/**
 * Returns true if `asked` is the target or one end of it: `payments/alice` belongs both to the service and to the
 * consumer.
 */
function isPart(target: string, asked: string): boolean {
  return (
    target === asked ||
    ['/', ' '].some((mark) => target.startsWith(asked + mark) || target.endsWith(mark + asked))
  )
}

function read(query: Query, now: number): Asked {
  const { who, target, action, before, n = String(ENTRIES), since = '0' } = readQuery(query, KEYS)
  const count = countIn(n, 'entries', MOST_ENTRIES)
  if (before !== undefined && !ENTRY_ID.test(before))
    refuse('bad_request', 'before is the id of an entry: the value of older in a response.')
  const from = sinceIn(since, now)
  if (from === undefined) {
    refuse(
      'bad_request',
      'since is a duration before now (30m, 1h, 7d) or an ISO 8601 time, such as 2026-11-25T08:00Z.',
    )
  }
  return { since: from, who, target, action, n: count, before }
}

/** Parses a start time into Unix ms; `0` stands for all entries that are kept. */
function sinceIn(text: string, now: number): number | undefined {
  const back = parseDuration(text)
  if (back !== undefined) return back === 0 ? 0 : Math.max(0, now - back)
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? momentIn(text) : undefined
  return at !== undefined && at >= 0 ? at : undefined
}

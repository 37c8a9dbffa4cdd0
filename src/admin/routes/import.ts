import type { FastifyInstance } from 'fastify'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { type Amount, type AmountKey, amountKeyText } from '../../fleet/overrides.js'
import type { Assignment } from '../../limiter/limiter.js'
import type { Change } from '../access/audit.js'
import { ProblemError, refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { checkAmount, checkLimit, numberOf, targetOf } from './overrides.js'
import { bodyWith, checkId, checkTier, listed, momentIn, serviceNamed } from './read-request.js'
import { assignmentBody } from './tier.js'

/** A batch of tiers, overrides and boosts, as `tidegate import` sends them: one part of a file per request. */

const IMPORT_COLUMNS = ['consumer', 'tenant', 'tier', 'service', 'limit', 'amount', 'by', 'until'] as const
type Row = Partial<Record<(typeof IMPORT_COLUMNS)[number], string>>

/** Most rows in a request. */
const MOST_ROWS = 1000
/** Most bytes of a body: rows with the longest ids, at four bytes a character. */
const BODY_BYTES = 8 * 1024 * 1024
/**
 * Most rows in a request that are recorded one by one, each with its previous value. For more rows, only the totals are
 * recorded.
 */
const MOST_RECORDED = 100
const SHA256 = /^[0-9a-f]{64}$/

type Write =
  | {
      readonly what: 'tiers'
      readonly consumer: string
      readonly tier: string
      readonly until: number | undefined
    }
  | { readonly what: 'overrides' | 'boosts'; readonly key: AmountKey; readonly value: Amount }

export function importRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'audit' | 'log'>,
): void {
  async function writeAll(writes: readonly Write[]): Promise<void> {
    const tiers: [consumer: string, Assignment][] = []
    const amounts: [key: string, Amount][] = []
    for (const one of writes) {
      if (one.what === 'tiers') tiers.push([one.consumer, { tier: one.tier, until: one.until }])
      else amounts.push([amountKeyText(one.key), one.value])
    }
    await deps.store().assignments.setAll(tiers)
    await deps.store().amounts.map.setAll(amounts)
  }

  /** Returns the change that a row is about to make, for the audit log. */
  async function changeOf(one: Write): Promise<Change> {
    if (one.what === 'tiers') {
      const { consumer, tier, until } = one
      const before = assignmentBody(await deps.store().assignments.read(consumer))
      return { action: 'tier.set', target: consumer, before, after: assignmentBody({ tier, until }) }
    }
    const { key, value } = one
    const before = numberOf(key.kind, await deps.store().amounts.map.read(amountKeyText(key)))
    return { action: `${key.kind}.set`, target: targetOf(key), before, after: numberOf(key.kind, value) }
  }

  app.post('/import', { bodyLimit: BODY_BYTES }, async (request) => {
    const asked = bodyWith(request.body, ['rows', 'dry_run', 'file_sha256'])
    const file = asked?.file_sha256
    const rows = asked?.rows
    if (!Array.isArray(rows) || rows.length > MOST_ROWS || !rows.every(isRow)) {
      refuse(
        'bad_request',
        `Send {"rows":[…],"dry_run":true}. There are at most ${MOST_ROWS} rows; the members of a row are texts: ${listed(IMPORT_COLUMNS)}.`,
      )
    }
    if (file !== undefined && !(typeof file === 'string' && SHA256.test(file))) {
      refuse('bad_request', '"file_sha256" is the SHA-256 of the file, as 64 lower-case hexadecimal digits.')
    }
    const snapshot = deps.config.current()
    const bad: { row: number; problem: string }[] = []
    const writes: Write[] = []
    for (const [i, row] of rows.entries()) {
      try {
        writes.push(readRow(row, snapshot, request.actor.reason, Date.now()))
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        bad.push({ row: i, problem: error.problem.detail })
      }
    }
    const count = { tiers: 0, overrides: 0, boosts: 0 }
    for (const { what } of writes) count[what]++
    if (asked?.dry_run === true || bad.length > 0) return { applied: false, ...count, bad }
    await withStore(deps.log, 'write all of the rows', async () => {
      const changes = writes.length <= MOST_RECORDED ? await Promise.all(writes.map(changeOf)) : []
      await writeAll(writes)
      for (const change of changes) await deps.audit.record(request, change)
      await deps.audit.record(request, {
        action: 'import.rows',
        target: `${writes.length} row${writes.length === 1 ? '' : 's'}`,
        // The hash comes first: the end of an entry that is too long is cut off.
        after: { ...(file !== undefined && { file_sha256: file }), ...count, by_tier: byTier(writes) },
      })
    })
    return { applied: true, ...count, bad }
  })
}

/** Counts the assignments to each tier. */
function byTier(writes: readonly Write[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>()
  for (const one of writes) if (one.what === 'tiers') counts.set(one.tier, (counts.get(one.tier) ?? 0) + 1)
  return Object.fromEntries(counts)
}

function isRow(row: unknown): row is Row {
  const known = bodyWith(row, IMPORT_COLUMNS)
  return known !== undefined && Object.values(known).every((value) => typeof value === 'string')
}

/** Reads a row. Throws ProblemError with what is wrong. Times are in Unix ms. */
function readRow(row: Row, snapshot: Snapshot, reason: string | undefined, now: number): Write {
  const bad = (detail: string) => refuse('unprocessable', detail)
  const { consumer, tenant, tier, service, limit, amount, by } = row
  if ((consumer === undefined) === (tenant === undefined)) return bad('Give either a consumer or a tenant.')
  const id = consumer ?? tenant!
  checkId(id)
  const until = row.until === undefined ? undefined : timeOf(row.until)
  if (until !== undefined && until <= now) return bad(`until ${row.until} is in the past.`)
  if (tier !== undefined) {
    if (consumer === undefined) return bad('Only a consumer has a tier, not a tenant.')
    if ([service, limit, amount, by].some((cell) => cell !== undefined))
      return bad('Give either a tier or a limit.')
    checkTier(snapshot, tier)
    return { what: 'tiers', consumer, tier, until }
  }
  if (service === undefined || limit === undefined) return bad('Give a tier, or a service and its limit.')
  if ((amount === undefined) === (by === undefined))
    return bad('Give either an amount (override) or by (boost).')
  const found = serviceNamed(snapshot, service)
  checkLimit(found, limit)
  if (by !== undefined && until === undefined) return bad('A boost needs until: the time at which it ends.')
  const text = amount ?? by!
  const kind = by === undefined ? 'override' : 'boost'
  const number = /^[0-9]{1,9}$/.test(text) ? Number(text) : text
  checkAmount(kind, found, limit, number)
  const key = { kind, of: consumer === undefined ? 'tenant' : 'consumer', id, service, limit } as const
  return { what: `${kind}s`, key, value: { amount: Number(text), until, reason } }
}

/**
 * Parses a time. A date ends at the end of its day in UTC. A time must have a zone: its meaning would otherwise depend
 * on the machine that reads it.
 */
function timeOf(text: string): number {
  const day = /^\d{4}-\d\d-\d\d$/.test(text)
  const whole = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/.test(text)
  const at = day || whole ? momentIn(text) : undefined
  const detail = `${JSON.stringify(text)} is not a time; write 2026-12-31 or 2026-12-31T18:00:00Z.`
  return at === undefined ? refuse('unprocessable', detail) : at + (day ? 86_400_000 : 0)
}

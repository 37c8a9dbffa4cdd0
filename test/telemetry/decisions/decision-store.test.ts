// Tests src/telemetry/decisions/decision-ring.ts
import fc from 'fast-check'
import t from 'tap'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { codePoint } from '../../support/code-point.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

const NOW = 1_760_000_000_000
const snapshot = exampleSnapshot()
const with100 = {
  ...snapshot,
  config: { ...snapshot.config, decisions: { keep: 0, sample: 1 } },
}
const record = (changes: Partial<RequestRecord> = {}) => exampleRecord(with100, changes)
const denied = (requestId: string, changes: Partial<RequestRecord> = {}) =>
  record({
    requestId,
    status: 429,
    error: 'quota_exceeded',
    upstream: undefined,
    decision: exampleDecision({
      allowed: false,
      violated: 1,
      remaining: 0,
      retryMs: 1200,
      at: NOW,
      counted: { at: NOW - 300, numbers: [10, 0, 30_000, 7, 6] },
    }),
    ...changes,
  })
const open = (keep: number, random = () => 0) => createKeptDecisions({ keep, now: () => NOW, random })

t.test('a denial is kept with its route, its consumer and the state of its limits', async (t) => {
  const kept = open(100)
  kept.keep(denied('d-1', { durationMs: 0 }))
  const found = kept.find('d-1')
  t.match(found, {
    times: 1,
    decision: {
      request_id: 'd-1',
      time: new Date(NOW).toISOString(),
      config: snapshot.hash,
      path: '/payments/1',
      route: snapshot.routes[0]!.label,
      service: 'payments',
      quota_of: null,
      consumer: 'alice',
      identified_by: 'header',
      tier: 'free',
      tier_from: 'default',
      decision: { allowed: false, decided_by: 'store', retry_after_ms: 1200, counted_ms_before: 300 },
      status: 429,
      error: 'quota_exceeded',
      upstream: null,
    },
  })
  const [limit, ...others] = found!.decision.limits
  t.match(limit, {
    allows: 10,
    used: 10,
    remaining: 0,
    reset_ms: 30_000,
    current: 7,
    previous: 6,
    weight: 0.5,
  })
  t.match(limit, { binding: true, denied: true })
  t.ok(others.every(({ used, denied }) => used === null && !denied))
  t.notMatch(JSON.stringify(found), /4111/, 'the query is not kept')
})

t.test('a sampled request is kept with the state of its limits, where that is known', async (t) => {
  const kept = open(100, () => 0.999)
  const decision = exampleDecision({ counted: { at: NOW, numbers: [10, 4, 30_000, 5, 2] } })
  const none = { ...with100, config: { ...with100.config, decisions: { keep: 0, sample: 0.5 } } }
  kept.keep(exampleRecord(none, { requestId: 'in', sampled: true, decision }))
  kept.keep(exampleRecord(none, { requestId: 'out', sampled: false, decision }))
  kept.keep(exampleRecord(none, { requestId: 'by chance' }))
  kept.keep(
    exampleRecord(none, {
      requestId: 'without the store',
      sampled: true,
      decision: exampleDecision({ decidedBy: 'open', reason: 'timeout' }),
    }),
  )
  t.match(kept.find('in')?.decision.limits[0], { used: 6, remaining: 4, current: 5, previous: 2 })
  t.equal(kept.find('out'), undefined)
  t.equal(kept.find('by chance'), undefined)
  t.match(kept.find('without the store')?.decision.limits[0], { used: null, remaining: null })
})

t.test('a flood of denials does not displace failures, refusals and the sample', async (t) => {
  const kept = open(40)
  kept.keep(record({ requestId: 'fine' }))
  kept.keep(record({ requestId: 'broken', status: 502, error: 'upstream_refused' }))
  kept.keep(
    record({ requestId: 'lost', status: 404, error: 'no_route', route: undefined, decision: undefined }),
  )
  for (let i = 0; i < 1000; i++) kept.keep(denied(`d-${i}`))
  for (const id of ['fine', 'broken', 'lost', 'd-999', 'd-980']) t.ok(kept.find(id), id)
  for (const id of ['d-979', 'd-0', 'nobody']) t.equal(kept.find(id), undefined, id)
  t.match(kept.reach(), { denied: { kept: 20 }, failed: { kept: 1 }, others: { kept: 2 } })
})

t.test('all denials and a sample of the rest are kept; keep: 0 keeps nothing', async (t) => {
  const one = { ...snapshot, config: { ...snapshot.config, decisions: { keep: 0, sample: 0.01 } } }
  const kept = open(40, () => 0.01)
  kept.keep(exampleRecord(one, { requestId: 'fine' }))
  kept.keep({ ...denied('denied'), snapshot: one })
  t.equal(kept.find('fine'), undefined)
  t.ok(kept.find('denied'))
  const none = open(0)
  none.keep(denied('denied'))
  t.equal(none.find('denied'), undefined)
  t.same(none.reach().denied, { kept: 0, since: null })
})

t.test('of several requests with one id the latest is found, with their number', async (t) => {
  let now = NOW
  const kept = createKeptDecisions({ keep: 40, now: () => now++, random: () => 0 })
  kept.keep(denied('same', { consumer: 'alice' }))
  kept.keep(denied('same', { consumer: 'bob' }))
  kept.keep(record({ requestId: 'same', consumer: 'carol' }))
  t.match(kept.find('same'), { times: 3, decision: { consumer: 'carol' } })
})

t.test('long values of stored decisions are cut', async (t) => {
  const text = fc.string({ unit: codePoint, maxLength: 3000 })
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ consumer: text, tenant: text, target: text, host: text, method: text, cause: text }),
        {
          minLength: 1,
          maxLength: 30,
        },
      ),
      (all) => {
        const kept = open(32)
        all.forEach((hostile, i) => {
          kept.keep(denied(`d-${i}`, hostile))
        })
        const last = kept.find(`d-${all.length - 1}`)?.decision
        if (last === undefined) throw new Error('the latest is not found')
        if (last.consumer!.length > 81 || last.path.length > 145) throw new Error('a text is not cut')
      },
    ),
    { numRuns: 50 },
  )
  const kept = open(4)
  kept.keep(denied('cut', { consumer: 'u'.repeat(5000), target: `/${'p'.repeat(5000)}` }))
  t.match(kept.find('cut')?.decision, { consumer: `${'u'.repeat(80)}…`, path: `/${'p'.repeat(143)}…` })
})

t.test('a search by consumer finds its latest denial, or else its latest request', async (t) => {
  const kept = open(100)
  const of = (requestId: string, consumer: string, at: number) => ({ requestId, consumer, durationMs: -at })
  kept.keep(denied('bob-1', of('bob-1', 'bob', 1)))
  kept.keep(denied('bob-2', of('bob-2', 'bob', 2)))
  kept.keep(denied('bobby-3', of('bobby-3', 'bobby', 3)))
  kept.keep(record(of('bob-4', 'bob', 4)))
  kept.keep(record({ ...of('ann-5', 'ann', 5), status: 502, error: 'upstream_refused' }))
  kept.keep(record(of('ann-6', 'ann', 6)))
  const idOf = (consumer: string, service?: string) => kept.find({ consumer, service })?.decision.request_id
  t.equal(idOf('bob'), 'bob-2', 'a later request that passed does not explain a denial')
  t.equal(idOf('ann'), 'ann-6')
  t.equal(idOf('bo'), undefined, 'the whole name')
  t.equal(idOf('bob', 'payments'), 'bob-2')
  t.equal(idOf('bob', 'marketing'), undefined)
  t.equal(kept.find({ consumer: 'bob' })?.times, 1)
})

t.test(
  "a consumer's latest decision is found, whatever its id and however often slots were reused",
  async (t) => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'aa', 'é', '名', 'x'.repeat(80), 'x'.repeat(90)), fc.nat(3)), {
          maxLength: 60,
        }),
        (sent) => {
          const kept = open(24)
          const rows = sent.map(([consumer], i) => ({ consumer, requestId: `r-${i}` }))
          for (const [i, row] of rows.entries()) kept.keep(denied(row.requestId, { ...row, durationMs: -i }))
          for (const [name] of sent) {
            const meant = (consumer: string) => consumer.slice(0, 80) === name.slice(0, 80)
            const expected = rows.slice(-12).findLast(({ consumer }) => meant(consumer))
            t.equal(kept.find({ consumer: name })?.decision.request_id, expected?.requestId)
          }
        },
      ),
      { numRuns: 50 },
    )
  },
)

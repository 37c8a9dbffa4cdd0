// Tests src/telemetry/decisions/why.ts
import t from 'tap'
import { LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import type { Ask } from '../../../src/fleet/question.js'
import {
  createDecisionsOfAll,
  DECISION,
  type LocalDecision,
  latestOf,
} from '../../../src/telemetry/decisions/all-gateways-decisions.js'
import type { DecisionQuestion } from '../../../src/telemetry/decisions/decision-data.js'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import { startAdmin } from '../../support/gateway/admin.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

const snapshot = exampleSnapshot()
const denied = (requestId: string) =>
  exampleRecord(snapshot, {
    requestId,
    status: 429,
    error: 'quota_exceeded',
    upstream: undefined,
    decision: exampleDecision({ allowed: false, violated: 1, remaining: 0, retryMs: 1200, at: Date.now() }),
  })

function here(...ids: readonly string[]) {
  const kept = createKeptDecisions({ keep: 100 })
  for (const id of ids) kept.keep(denied(id))
  return (question: DecisionQuestion): LocalDecision =>
    DECISION.answer({ decisions: kept, place: undefined }, question) as LocalDecision
}

/** Asks the only process of a gateway. */
const askOf = (own: (question: DecisionQuestion) => LocalDecision) =>
  (async (_question: unknown, body: DecisionQuestion) => own(body)) as unknown as Ask
const NO_PROCESS: Ask = async () => undefined

/** A fleet with another gateway that answers as told. */
const fleetWith = (answer: unknown, silent: readonly string[] = []) => ({
  ...LONE_FLEET,
  node: 'a:1',
  ask: async <A>() => ({
    answers: [{ node: 'b:2', member: 'b:2~1', answer: answer as A }],
    silent,
    problem: undefined,
  }),
})

t.test('GET /decisions/{request_id} tells why, in a sentence and in full', async (t) => {
  const { call } = await startAdmin(t, { ask: askOf(here('d-1')) })
  const { status, json } = await call('GET', '/decisions/d-1')
  t.equal(status, 200)
  t.match(json, { request_id: 'd-1', node: LONE_FLEET.node, worker: null, times: 1, consumer: 'alice' })
  t.match(
    json.why,
    /^Denied: the limit "minute" \(10\/min\) of alice, tier free on payments, .+; it can pass 1\.2 s later\.$/,
  )
})

t.test('an unknown one is 404, with the gateways asked and how far back denials go', async (t) => {
  const { call } = await startAdmin(t, {
    ask: askOf(here('d-1')),
    fleet: fleetWith(null, ['c:3']),
  })
  const { status, json } = await call('GET', '/decisions/d-2')
  t.equal(status, 404)
  t.match(json.detail, /^No gateway has a decision for d-2 \(2 asked\)\. No answer came from c:3\. /)
  t.match(json.detail, /Denials that this gateway keeps: 1, the oldest from 20/)
  t.match(
    json.detail,
    /until newer ones replace them or it stops\. .+ The access log may still have it: look for the id there\.$/,
    'a gateway takes its decisions with it; the access log stays',
  )
  t.match(json, { nodes: { answered: 2, silent: ['c:3'], problem: null }, kept: { denied: { kept: 1 } } })
})

t.test('other gateways are asked for an unknown one, and malformed answers are ignored', async (t) => {
  const theirs = here('theirs')('theirs').found
  for (const [answer, node] of [
    [theirs, 'b:2'],
    [{ ...theirs, decision: { request_id: 'theirs' } }, undefined],
    ['text', undefined],
    [{ decision: null }, undefined],
    [here('other')('other').found, undefined],
  ] as const) {
    const find = createDecisionsOfAll(() => fleetWith(answer), askOf(here()))
    t.equal((await find('theirs')).decision?.node, node)
  }
})

t.test('a malformed request id is 400', async (t) => {
  const { call } = await startAdmin(t)
  for (const id of ['x'.repeat(65), 'a%20b', '%00', 'é', 'a%2F..%2Fb', '%1b%5B2J'])
    t.equal((await call('GET', `/decisions/${id}`)).status, 400, id)
})

t.test('of several workers the latest decision is shown, with the number of them', async (t) => {
  const [a, b] = [here('same', 'same')('same'), here('same')('same')]
  const late = {
    ...b.found!,
    worker: 2,
    decision: { ...b.found!.decision, time: '2999-01-01T00:00:00.000Z' },
  }
  const found = latestOf([a, { ...b, found: late }])
  t.match(found, { found: { worker: 2, times: 3 }, reach: { denied: { kept: 3 } } })
  t.match(latestOf([]), { found: null, reach: { denied: { kept: 0, since: null } } })
})

t.test("GET /decisions finds a consumer's latest denial, by name and service", async (t) => {
  const { call } = await startAdmin(t, { ask: askOf(here('d-1', 'd-2')) })
  const { status, json } = await call('GET', '/decisions?consumer=alice&service=payments')
  t.equal(status, 200)
  t.match(json, {
    consumer: 'alice',
    times: 1,
    why: /^Denied: /,
    nodes: { answered: 1, silent: [], problem: null },
  })
  t.match(await call('GET', '/decisions?consumer=alice&service=marketing'), {
    status: 404,
    json: {
      detail:
        /^No gateway has a decision about "alice" on marketing \(1 asked\)\. .+ look for the consumer there\.$/,
    },
  })
  t.match(await call('GET', '/decisions?consumer=alice&service=market'), {
    status: 404,
    json: { detail: 'No service "market"; the services are payments, marketing.' },
  })
  for (const query of [
    '',
    '?consumer=',
    '?consumer=a&consumer=b',
    '?consumer=a&tier=free',
    '?consumer=a&service=b&service=c',
  ])
    t.equal((await call('GET', `/decisions${query}`)).status, 400, query)
})

t.test('for a consumer all gateways are asked, and silent ones are listed', async (t) => {
  const own = here('own')({ consumer: 'alice' }).found!
  const at = (time: string, allowed = false) => ({
    ...own,
    decision: { ...own.decision, time, decision: { ...own.decision.decision!, allowed } },
  })
  const ask = (mine: string, theirs: ReturnType<typeof at> | unknown) =>
    createDecisionsOfAll(
      () => fleetWith(theirs, ['c:3']),
      askOf(() => ({ ...here()('x'), found: { ...at(mine), worker: null } })),
    )({ consumer: 'alice' })
  const later = await ask('2026-11-29T03:00:00.000Z', at('2026-11-29T03:00:01.000Z'))
  t.equal(later.decision?.node, 'b:2', 'the later one')
  t.same(later.nodes, { answered: 2, silent: ['c:3'], problem: null })
  const passed = await ask('2026-11-29T03:00:00.000Z', at('2026-11-29T03:00:01.000Z', true))
  t.equal(passed.decision?.node, 'a:1', 'a denial, whatever has passed since')
  for (const nonsense of [
    'text',
    {},
    { decision: {} },
    { decision: { consumer: 1, time: 2 }, times: 1 },
    null,
  ])
    t.equal((await ask('2026-11-29T03:00:00.000Z', nonsense)).decision?.node, 'a:1')
})

t.test('without any gateway on the store the response says so', async (t) => {
  const { call } = await startAdmin(t, { ask: NO_PROCESS })
  t.equal(
    (await call('GET', '/decisions/d-1')).json.detail,
    'No gateway runs on this store, so none can be asked.',
  )
})

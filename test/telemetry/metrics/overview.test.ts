import t from 'tap'
import { createFamilies } from '../../../src/telemetry/metrics/metric-definitions.js'
import {
  limitCountsOf,
  mergeTraffic,
  requestsIn,
  trafficIn,
  trafficOf,
} from '../../../src/telemetry/metrics/overview.js'
import { readFamilies } from '../../../src/telemetry/metrics/process-counts.js'
import { createRecorder } from '../../../src/telemetry/metrics/recorder.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

t.test('traffic is summed up by service and tier, over all routes and methods', async (t) => {
  const families = createFamilies()
  const { record, extensionFailed } = createRecorder(families)
  extensionFailed('fraud', 'cost')
  extensionFailed('fraud', 'onRequest')
  const snapshot = exampleSnapshot()
  record(exampleRecord(snapshot, { durationMs: 3 }))
  record(exampleRecord(snapshot, { durationMs: 40, method: 'POST', route: snapshot.routes[1], status: 404 }))
  record(
    exampleRecord(snapshot, { durationMs: 1, status: 429, decision: exampleDecision({ allowed: false }) }),
  )
  record(exampleRecord(snapshot, { durationMs: 60_000, status: 101 }))
  record(
    exampleRecord(snapshot, {
      tier: 1,
      status: 502,
      decision: exampleDecision({ decidedBy: 'open', reason: 'timeout' }),
    }),
  )
  record(exampleRecord(snapshot, { route: undefined, tier: -1, decision: undefined, status: 999 }))
  families.connections.set(7)
  families.storeState.set(1, 'degraded')
  for (const code of ['overloaded', 'share_exceeded', 'quota_exceeded'])
    families.requestsRefused.add(families.requestsRefused.cell(code), 1)
  const traffic = trafficOf(families)
  const { services, duration, connections, degraded, extensionErrors, shed } = traffic
  t.equal(shed, 2)
  t.equal(requestsIn(traffic), 6)
  t.same(extensionErrors, { fraud: 2 })
  t.match(services, [
    { service: 'none', tier: 'none', responses: { ok: 0, server_error: 1 }, decisions: {} },
    {
      service: 'payments',
      tier: 'free',
      responses: { ok: 2, limited: 1, client_error: 1, server_error: 0 },
      decisions: { allowed: 3, denied: 1 },
      decided_by: { store: 4 },
    },
    { service: 'payments', tier: 'pro', responses: { server_error: 1 }, decided_by: { open: 1 } },
  ])
  t.equal(services.length, 3)
  t.strictSame([connections, degraded], [7, true])
  const counted = duration.counts.reduce((sum, count) => sum + count, 0)
  t.equal(counted, 5, 'a tunnel takes as long as it likes')
  t.equal(duration.counts[duration.bounds_ms.indexOf(5)], 1)
  t.equal(duration.counts.length, duration.bounds_ms.length + 1)

  const reading = { families: readFamilies(Object.values(families)), process: [] }
  t.same(trafficIn(reading), traffic, 'the same as another process reads it')
  t.equal(requestsIn(trafficIn({ families: [], process: [] })), 0)
  const twice = mergeTraffic([traffic, trafficIn(reading)])
  t.equal(requestsIn(twice), 12)
  t.match(twice, { shed: 4, connections: 14, degraded: true, extensionErrors: { fraud: 4 } })
  t.match(twice.services[1], { responses: { ok: 4, limited: 2 }, decided_by: { store: 8 } })
  t.same(
    twice.duration.counts,
    duration.counts.map((count) => 2 * count),
  )
  t.same(mergeTraffic([traffic]), traffic)
})

t.test('decisions are summed up by limit, those of candidates apart', async (t) => {
  const families = createFamilies()
  const { limitDecisions, candidateDecisions } = families
  const count = (by: string, decision: string, times: number) =>
    limitDecisions.add(limitDecisions.cell('payments', 'free', 'minute', decision, by), times)
  count('store', 'allowed', 5)
  count('cache', 'denied', 2)
  count('store', 'denied', 1)
  candidateDecisions.add(candidateDecisions.cell('payments', 'free', 'minute', 'near'), 4)
  const limit = { service: 'payments', tier: 'free', limit: 'minute' }
  t.same(limitCountsOf(families), [
    { ...limit, candidate: false, decisions: { allowed: 5, near: 0, denied: 3 } },
    { ...limit, candidate: true, decisions: { allowed: 0, near: 4, denied: 0 } },
  ])
})

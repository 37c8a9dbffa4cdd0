import t, { type Test } from 'tap'
import type { Reload } from '../../../src/config/load/recent-reloads.js'
import {
  COUNTED,
  createHistory,
  EVERY_MS,
  MOST_EVENTS,
  SAMPLES,
} from '../../../src/telemetry/history/history.js'
import { DURATIONS_MS, type ServiceTraffic, type Traffic } from '../../../src/telemetry/metrics/overview.js'

/** A whole ten seconds. */
const START = 1_760_000_050_000

/** Returns traffic with that many successful requests, each of at most half a ms. */
function traffic(ok: number, degraded = false): Traffic {
  const responses = { ok, limited: 0, client_error: 0, server_error: 0 }
  return {
    services: [{ service: 'payments', tier: 'free', responses, decisions: {}, decided_by: { store: ok } }],
    shed: 0,
    duration: { bounds_ms: DURATIONS_MS, counts: [ok, ...DURATIONS_MS.map(() => 0)] },
    connections: 0,
    extensionErrors: {},
    degraded,
  }
}

function historyOf(t: Test, reloads: readonly Reload[] = []) {
  const state = { now: START, traffic: traffic(0) }
  const history = createHistory({
    read: () => state.traffic,
    reloads: () => reloads,
    version: '1.2.3',
    now: () => state.now,
  })
  t.teardown(history.close)
  return {
    history,
    /** Takes the next sample, in which this is the traffic since the start. */
    async after(ms: number, traffic: Traffic) {
      state.now += ms
      state.traffic = traffic
      await history.sample()
    },
    /** Returns `[seconds since the start, successful requests]` of each sample. */
    seen: (since = 0) => history.read(since).samples.map(([at, ok]) => [(at! - START) / 1000, ok]),
  }
}

t.test('a sample has what was counted in its ten seconds, and begins with them', async (t) => {
  const { after, seen, history } = historyOf(t)
  await after(EVERY_MS + 7, traffic(30))
  await after(EVERY_MS - 10, traffic(30))
  await after(EVERY_MS, traffic(42))
  t.same(seen(), [
    [0, 30],
    [10, 0],
    [20, 12],
  ])
  t.same(seen(START + 20_000), [[20, 12]])
  t.equal(history.read(0).samples[0]![1 + COUNTED.length], 30, 'durations, too')
})

t.test('ten seconds in which the process stood still are missing, not empty', async (t) => {
  const { after, seen } = historyOf(t)
  await after(EVERY_MS, traffic(30))
  await after(60_000, traffic(31))
  t.same(seen(), [
    [0, 30],
    [60, 1],
  ])
})

t.test('a clock that is set back adds to the samples that are there', async (t) => {
  const { after, seen } = historyOf(t)
  await after(EVERY_MS, traffic(30))
  await after(EVERY_MS, traffic(32))
  await after(-EVERY_MS, traffic(37))
  t.same(seen(), [[0, 35]], 'the later one is in the future')
})

t.test('a clock that is set back by a second makes no sample twice as high as the others', async (t) => {
  const { after, seen } = historyOf(t)
  await after(EVERY_MS, traffic(30))
  await after(EVERY_MS - 1000, traffic(60))
  await after(EVERY_MS, traffic(90))
  await after(EVERY_MS + 1000, traffic(120))
  t.same(seen(), [
    [0, 30],
    [10, 30],
    [20, 30],
    [30, 30],
  ])
})

t.test('an hour is kept, whatever comes', async (t) => {
  const { after, history } = historyOf(t)
  for (let i = 1; i <= SAMPLES + 5; i++) await after(EVERY_MS, traffic(i))
  const { samples } = history.read(0)
  t.equal(samples.length, SAMPLES)
  t.ok(samples.every(([, ok]) => ok === 1))
})

t.test('events: start, reloads, and the time without the store', async (t) => {
  const reload = { hash: '9ac91de24a50', by: 'file', who: null, changed: [], messages: [] } as const
  const at = (seconds: number) => new Date(START + seconds * 1000).toISOString()
  const { after, history } = historyOf(t, [
    { ...reload, at: at(14), result: 'unchanged' },
    { ...reload, at: at(13), result: 'rejected', messages: ['tidegate.yaml:3:4: unknown key\u202e', 'more'] },
    { ...reload, at: at(12), result: 'applied', changed: ['tiers.0: a -> b'] },
  ])
  await after(EVERY_MS, traffic(0))
  await after(EVERY_MS, traffic(1, true))
  await after(EVERY_MS, traffic(1, true))
  await after(EVERY_MS, traffic(1))
  history.note('draining', 'Shutting down')
  t.same(
    history.read(0).events.map(({ at, kind, text }) => [(at - START) / 1000, kind, text]),
    [
      [0, 'started', 'Started, version 1.2.3'],
      [12, 'config_applied', 'Configuration applied: tiers.0: a -> b'],
      [13, 'config_rejected', 'Configuration rejected: tidegate.yaml:3:4: unknown key\ufffd (and more)'],
      [14, 'config_applied', 'Configuration valid again'],
      [20, 'degraded', 'Deciding without the store'],
      [40, 'recovered', 'The store decides again'],
      [40, 'draining', 'Shutting down'],
    ],
  )
  t.same(history.read(START + 41_000).events, [])
  for (let i = 0; i < 100; i++) history.note('degraded', 'x'.repeat(1000))
  const { events } = history.read(0)
  t.equal(events.length, MOST_EVENTS)
  t.ok(events.every(({ text }) => text.length <= 300))
})

t.test('a sample counts by class, what was shed, and what was decided without the store', async (t) => {
  const { after, history } = historyOf(t)
  const row = (ok: number, decided_by: Record<string, number>): ServiceTraffic => ({
    ...{ service: 'payments', tier: 'free', decisions: {}, decided_by },
    responses: { ok, limited: 2, client_error: 3, server_error: 4 },
  })
  const services = [row(1, { store: 9, local: 1, open: 2 }), row(10, { cache: 9, closed: 4 })]
  await after(EVERY_MS, { ...traffic(0), services, shed: 7 })
  t.same(history.read(0).samples[0]!.slice(1, 1 + COUNTED.length), [11, 6, 4, 8, 7, 7])
})

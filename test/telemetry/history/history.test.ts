// Tests src/telemetry/metrics/traffic-counts.ts
import t, { type Test } from 'tap'
import type { Reload } from '../../../src/config/load/recent-reloads.js'
import {
  createHistory,
  EVERY_MS,
  MOST_EVENTS,
  type ProcessTraffic,
  SAMPLES,
} from '../../../src/telemetry/history/history.js'
import { createFamilies } from '../../../src/telemetry/metrics/metric-definitions.js'
import { readFamilies } from '../../../src/telemetry/metrics/process-counts.js'
import {
  COUNTED,
  DURATIONS_MS,
  readTraffic,
  requestsIn,
  type TrafficCounts,
  trafficIn,
} from '../../../src/telemetry/metrics/traffic-counts.js'

/** A whole ten seconds. */
const START = 1_760_000_050_000

/** Returns counts with that many successful requests, each of at most half a ms. */
function counts(ok: number): TrafficCounts {
  return [ok, 0, 0, 0, 0, 0, ok, ...DURATIONS_MS.map(() => 0)]
}

function historyOf(t: Test, reloads: readonly Reload[] = []) {
  const state = { now: START, processes: [] as ProcessTraffic[], during: async () => {} }
  const history = createHistory({
    async read() {
      const { processes } = state
      await state.during()
      return processes
    },
    reloads: () => reloads,
    version: '1.2.3',
    now: () => state.now,
  })
  t.teardown(history.close)
  return {
    ...state,
    history,
    /** Takes the next sample, in which the processes with these ids have these totals. */
    async after(ms: number, oks: Readonly<Record<number, number>>, more: Partial<typeof state> = {}) {
      state.now += ms
      state.processes = Object.entries(oks).map(([process, ok]) => {
        return { process: Number(process), counts: counts(ok), degraded: false }
      })
      Object.assign(state, { during: async () => {} }, more)
      await history.sample()
    },
    /** Returns `[seconds since the start, successful requests]` of each sample. */
    seen: (since = 0) => history.read(since).samples.map(([at, ok]) => [(at! - START) / 1000, ok]),
  }
}

t.test('a sample has what was counted in its ten seconds, and begins with them', async (t) => {
  const { after, seen, history } = historyOf(t)
  await after(EVERY_MS + 7, { 1: 30 })
  await after(EVERY_MS - 10, { 1: 30 })
  await after(EVERY_MS, { 1: 42 })
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
  await after(EVERY_MS, { 1: 30 })
  await after(60_000, { 1: 31 })
  t.same(seen(), [
    [0, 30],
    [60, 1],
  ])
})

t.test('a clock that is set back adds to the samples that are there', async (t) => {
  const { after, seen } = historyOf(t)
  await after(EVERY_MS, { 1: 30 })
  await after(EVERY_MS, { 1: 32 })
  await after(-EVERY_MS, { 1: 37 })
  t.same(seen(), [[0, 35]], 'the later one is in the future')
})

t.test('an hour is kept, whatever comes', async (t) => {
  const { after, history } = historyOf(t)
  for (let i = 1; i <= SAMPLES + 5; i++) await after(EVERY_MS, { 1: i })
  const { samples } = history.read(0)
  t.equal(samples.length, SAMPLES)
  t.ok(samples.every(([, ok]) => ok === 1))
})

t.test('workers that come and go show neither a spike nor a dip', async (t) => {
  const { after, seen, history } = historyOf(t)
  await after(EVERY_MS, { 1: 100, 2: 100 })
  // Worker 1 drains, and reports what it had counted; worker 3 takes its place.
  history.ended(1, counts(104))
  await after(EVERY_MS, { 2: 110, 3: 6 })
  // Worker 2 is killed: its last report is older than the last sample.
  history.ended(2, counts(50))
  await after(EVERY_MS, { 3: 10, 4: 1 })
  // Worker 3 is killed and has reported nothing. Worker 5 gets its id.
  history.ended(3, undefined)
  await after(EVERY_MS, { 4: 1 })
  await after(EVERY_MS, { 3: 2, 4: 1 })
  // Worker 4 is too busy to answer.
  await after(EVERY_MS, { 3: 2 })
  await after(EVERY_MS, { 3: 2, 4: 9 })
  t.same(
    seen().map(([, ok]) => ok),
    [200, 4 + 10 + 6, 4 + 1, 0, 2, 0, 8],
  )
})

t.test('the answer of a worker that ends meanwhile is not counted twice', async (t) => {
  const { after, seen, history } = historyOf(t)
  await after(EVERY_MS, { 1: 100 })
  await after(EVERY_MS, { 1: 105 }, { during: async () => history.ended(1, counts(107)) })
  await after(EVERY_MS, {})
  t.same(
    seen().map(([, ok]) => ok),
    [100, 7, 0],
  )
})

t.test('events: start, reloads, and the time without the store', async (t) => {
  const reload = { hash: '9ac91de24a50', by: 'file', who: null, changed: [], messages: [] } as const
  const at = (seconds: number) => new Date(START + seconds * 1000).toISOString()
  const { after, history } = historyOf(t, [
    { ...reload, at: at(14), result: 'unchanged' },
    { ...reload, at: at(13), result: 'rejected', messages: ['tidegate.yaml:3:4: unknown key\u202e', 'more'] },
    { ...reload, at: at(12), result: 'applied', changed: ['tiers.0: a -> b'] },
  ])
  const degraded = { processes: [{ process: 1, counts: counts(1), degraded: true }] }
  await after(EVERY_MS, {})
  await after(EVERY_MS, {}, degraded)
  await after(EVERY_MS, {}, degraded)
  await after(EVERY_MS, { 1: 1 })
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

t.test(
  'traffic is counted by class, with what was shed and what was decided without the store',
  async (t) => {
    const families = createFamilies()
    const { serverDuration, limitDecisions, requestsRefused } = families
    const ended = (status: number | string, ms: number, error = '') =>
      serverDuration.observe(serverDuration.cell('/a', 'GET', status, 'payments', 'free', error), ms)
    ended(200, 0.4)
    ended(304, 60_000)
    ended(101, 3_600_000)
    ended(404, 3)
    ended(429, 0.4)
    ended(503, 0.4, 'overloaded')
    ended(200, 70, 'upstream_cut')
    for (const by of ['store', 'cache', 'local', 'open', 'closed'])
      limitDecisions.add(limitDecisions.cell('payments', 'free', 'minute', 'allowed', by), 2)
    for (const code of ['overloaded', 'share_exceeded', 'quota_exceeded'])
      requestsRefused.add(requestsRefused.cell(code), 1)
    const expected = [3, 1, 1, 2, 2, 6]
    const found = readTraffic(families)
    t.same(found.slice(0, COUNTED.length), expected)
    t.same(found.slice(COUNTED.length), [3, 0, 0, 1, 0, 0, 0, 1, ...new Array(10).fill(0), 1])
    t.equal(requestsIn(found), 7)
    t.same(trafficIn({ families: readFamilies(Object.values(families)), process: [] }), found)
    t.equal(requestsIn(trafficIn({ families: [], process: [] })), 0)
  },
)

import t from 'tap'
import { COUNTERS, createTop, type Dimension, WINDOW_MS } from '../../../src/telemetry/top/top.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

/** A whole half minute of the clock. */
const START = 1_760_000_040_000
const DENIED = exampleDecision({ allowed: false, violated: 1, remaining: 0, retryMs: 5000 })

/** Opens it with a clock that stands still until a test moves it. The monotonic clock began a while before the start. */
function openTop(snapshot = exampleSnapshot()) {
  let elapsed = 0
  const steady = () => 500_000 + elapsed
  const top = createTop({ wall: () => START + elapsed, steady })
  return {
    top,
    snapshot,
    pass(ms: number) {
      elapsed += ms
    },
    record: (changes: Parameters<typeof exampleRecord>[1], of = snapshot) =>
      top.record(exampleRecord(of, changes), steady()),
    /** Returns `service tier consumer count`, one a line. */
    rows: (by: Dimension, service?: string, tier?: string) =>
      top
        .read({ by, service, tier })
        .groups.flatMap((group) =>
          group.sketch.entries.map(({ key, count }) => `${group.service} ${group.tier} ${key} ${count}`),
        ),
  }
}

t.test('consumers are counted by denials, by requests near a limit, and by cost', async (t) => {
  const { record, rows, snapshot, top } = openTop()
  record({ decision: DENIED })
  record({ decision: DENIED })
  record({ consumer: 'bob', tier: 1, decision: { ...DENIED, binding: 1 } })
  record({ decision: exampleDecision({ remaining: 3 }) })
  record({ decision: exampleDecision({ remaining: 2 }) })
  record({ route: snapshot.routes[1] })
  record({ route: snapshot.routes[1], cost: 3 })
  t.strictSame(rows('limited'), ['payments free alice 2', 'payments pro bob 1'])
  t.strictSame(rows('near'), ['payments free alice 1'])
  t.strictSame(rows('cost'), ['payments free alice 10'])
  t.strictSame(rows('limited', 'payments', 'pro'), ['payments pro bob 1'])
  t.strictSame(rows('limited', 'marketing'), [])
  const [, pro] = top.read({ by: 'limited' }).groups
  t.match(pro!.sketch.entries, [{ label: 'minute', since: START }], 'the limit that was binding')
})

t.test('callers beyond their share are counted by the resource that is shared', async (t) => {
  const { top, rows } = openTop()
  top.overShare({ name: 'tunnels', service: 'payments' }, 'bob')
  top.overShare({ name: 'tunnels', service: 'payments' }, 'bob')
  top.overShare({ name: 'admin_connections', service: 'none' }, '192.0.2.1')
  t.strictSame(rows('share'), ['payments none bob 2', 'none none 192.0.2.1 1'])
  t.strictSame(rows('limited'), [])
  t.match(top.read({ by: 'share' }).groups[0]!.sketch.entries, [{ label: 'tunnels' }])
})

t.test('a request that no limit decided is not limited, and costs where it was served', async (t) => {
  const { record, rows, snapshot } = openTop()
  const marketing = { route: snapshot.routes[2], tier: 1, decision: undefined }
  record({ ...marketing })
  record({ ...marketing, upstream: undefined, status: 503 })
  record({
    consumer: 'open',
    decision: exampleDecision({ decidedBy: 'open', reason: 'timeout', remaining: 0 }),
  })
  record({ consumer: 'closed', decision: { ...DENIED, decidedBy: 'closed', reason: 'timeout' } })
  record({ consumer: undefined, tier: -1, decision: undefined, status: 401 })
  record({ route: undefined, consumer: undefined, tier: -1, decision: undefined, status: 404 })
  record({ consumer: 'refunded', cost: 0 })
  t.strictSame(rows('limited'), [])
  t.strictSame(rows('near'), [])
  t.strictSame(rows('cost'), ['marketing pro alice 1', 'payments free open 1'])
})

t.test('the current window is the last 30 to 60 seconds', async (t) => {
  const { record, rows, top, pass } = openTop()
  const span = () => {
    const { from, to } = top.read({ by: 'limited' })
    return [from - START, to - START]
  }
  record({ decision: DENIED })
  t.strictSame(span(), [0, 0], 'nothing is known of the time before it began')
  pass(WINDOW_MS - 1)
  record({ decision: DENIED })
  pass(2)
  record({ decision: DENIED })
  record({ consumer: 'bob', decision: DENIED })
  t.strictSame(rows('limited'), ['payments free alice 3', 'payments free bob 1'])
  t.strictSame(span(), [0, WINDOW_MS + 1])
  pass(WINDOW_MS)
  t.strictSame(rows('limited'), ['payments free alice 1', 'payments free bob 1'])
  t.strictSame(span(), [WINDOW_MS, 2 * WINDOW_MS + 1])
  pass(WINDOW_MS)
  t.strictSame(rows('limited'), [])
  pass(100 * WINDOW_MS)
  record({ decision: DENIED })
  t.strictSame(rows('limited'), ['payments free alice 1'])
})

t.test("`since` is when a consumer's denials began without a pause", async (t) => {
  const { record, top, pass } = openTop()
  const since = () => (top.read({ by: 'limited' }).groups[0]?.sketch.entries[0]?.since ?? Number.NaN) - START
  pass(1000)
  for (let i = 0; i < 10; i++) {
    record({ decision: DENIED })
    t.equal(since(), 1000)
    pass(WINDOW_MS * 0.8)
  }
  pass(WINDOW_MS * 2)
  record({ decision: DENIED })
  t.equal(since(), 1000 + 10 * WINDOW_MS, 'after a pause it begins anew')
})

t.test('counts survive a reload that reorders services and tiers', async (t) => {
  const { record, rows, snapshot } = openTop()
  record({ decision: DENIED })
  const turned = [...snapshot.services].reverse().map((service, index) => ({ ...service, index }))
  const next = {
    ...snapshot,
    services: turned,
    tiers: ['enterprise', 'free'],
    routes: snapshot.routes.map((route) => ({ ...route, quotaOf: turned[1]! })),
  }
  record({ route: next.routes[0], tier: 1, decision: DENIED }, next)
  record({ decision: DENIED })
  t.strictSame(rows('limited'), ['payments free alice 3'])
})

t.test('a flood of new consumers takes no more memory, and frequent ones are still found', async (t) => {
  const { record, top } = openTop()
  const long = 'x'.repeat(5000)
  for (let i = 0; i < 20_000; i++) {
    record({ consumer: i % 20 === 0 ? 'loud' : `${long}${i}`, decision: DENIED })
  }
  const { sketch } = top.read({ by: 'limited' }).groups[0]!
  t.equal(sketch.entries.length, COUNTERS)
  t.equal(sketch.entries[0]!.key, 'loud')
  t.ok(sketch.entries[0]!.count >= 1000 && sketch.entries[0]!.count - sketch.entries[0]!.error <= 1000)
  t.ok(sketch.floor <= sketch.total / COUNTERS)
  const keys = sketch.entries.map(({ key }) => key)
  t.ok(keys.every((key) => key.length <= 128))
  t.equal(new Set(keys).size, COUNTERS, 'long ids with the same beginning are distinct')
})

t.test('services and tiers beyond the bound are not counted, and the answer says so', async (t) => {
  const snapshot = exampleSnapshot()
  const tiers = Array.from({ length: 1100 }, (_, i) => `tier-${i}`)
  const policies = tiers.map(() => snapshot.services[0]!.policies[0])
  const service = { ...snapshot.services[0]!, policies }
  const wide = { ...snapshot, tiers, services: [service] }
  const route = { ...snapshot.routes[0]!, service, quotaOf: service }
  const { record, rows, top, pass } = openTop(wide)
  for (let tier = 0; tier < 1100; tier++) record({ route, tier, decision: DENIED })
  t.equal(rows('limited').length, 1000)
  t.equal(top.read({ by: 'limited' }).missed, 100)
  pass(2 * WINDOW_MS)
  for (let tier = 1000; tier < 1100; tier++) record({ route, tier, decision: DENIED })
  t.equal(rows('limited').length, 100, 'expired entries make room')
  t.equal(top.read({ by: 'limited' }).missed, 0)
})

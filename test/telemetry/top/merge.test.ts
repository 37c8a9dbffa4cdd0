import fc from 'fast-check'
import t from 'tap'
import {
  cutTop,
  mergeTop,
  readTopQuestion,
  readTopReading,
  topRows,
} from '../../../src/telemetry/top/merge.js'
import type { Entry } from '../../../src/telemetry/top/space-saving.js'
import { COUNTERS, type TopGroup, type TopReading } from '../../../src/telemetry/top/top.js'

const entry = (key: string, count: number, error = 0, label = 'minute'): Entry => {
  return { key, count, error, label, since: 1000 }
}

function group(service: string, tier: string, entries: readonly Entry[], floor = 0): TopGroup {
  const total = entries.reduce((sum, { count }) => sum + count, 0)
  return { service, tier, sketch: { total, floor, entries } }
}

const reading = (...groups: readonly TopGroup[]): TopReading => ({
  from: 10_000,
  to: 55_000,
  missed: 0,
  groups,
})

t.test('counts of several gateways for one service and tier are added up', async (t) => {
  const a = reading(group('payments', 'free', [entry('eve', 5), entry('bob', 2)]))
  const b = {
    ...reading(group('payments', 'free', [entry('eve', 4)]), group('payments', 'pro', [entry('eve', 9)])),
  }
  const merged = mergeTop([a, { ...b, from: 9000, to: 56_000, missed: 3 }])
  t.match(merged, { from: 9000, to: 56_000, missed: 3 })
  t.strictSame(
    topRows(merged, 10).rows.map(({ tier, consumer, count }) => [tier, consumer, count]),
    [
      ['free', 'eve', 9],
      ['pro', 'eve', 9],
      ['free', 'bob', 2],
    ],
  )
  t.strictSame(mergeTop([]).groups, [])
})

t.test('rows give the range of each count, and the most that an absent consumer may have', async (t) => {
  const one = reading(
    group('payments', 'free', [entry('eve', 60), entry('bob', 20, 5, '')]),
    group('marketing', 'free', [entry('eve', 20), entry('ann', 3, 2)], 2),
  )
  const { total, floor, rows } = topRows(one, 2)
  t.equal(total, 103)
  t.equal(floor, 20, 'the third')
  t.strictSame(rows, [
    {
      consumer: 'eve',
      service: 'payments',
      tier: 'free',
      count: 60,
      error: 0,
      share: 0.5825,
      limit: 'minute',
      since: 1000,
    },
    {
      consumer: 'eve',
      service: 'marketing',
      tier: 'free',
      count: 20,
      error: 0,
      share: 0.1942,
      limit: 'minute',
      since: 1000,
    },
  ])
  t.equal(topRows(one, 10).floor, 2)
  t.equal(topRows(one, 10).rows[2]!.limit, null)
  t.strictSame(topRows(reading(), 10), { total: 0, floor: 0, rows: [] })
})

t.test('an answer that is too long loses its smallest entries, and raises its floor', async (t) => {
  const wide = Array.from({ length: COUNTERS }, (_, i) => entry(`${'顧'.repeat(120)}${i}`, 1000 - i))
  const big = reading(...Array.from({ length: 10 }, (_, i) => group(`service-${i}`, 'free', wide)))
  const bytes = (of: TopReading) => Buffer.byteLength(JSON.stringify(of))
  t.ok(bytes(big) > 200_000)
  const less = cutTop(big, 200_000)
  t.ok(bytes(less) <= 200_000)
  for (const { sketch } of less.groups) {
    t.equal(sketch.entries.length, COUNTERS / 4)
    t.equal(sketch.floor, 1000 - COUNTERS / 4)
    t.equal(sketch.total, big.groups[0]!.sketch.total)
  }
  t.equal(cutTop(big, 1_000_000), big)
  t.ok(bytes(cutTop(big, 10)) < 2000, 'no entry is left')
})

t.test('a malformed question or reading is refused', async (t) => {
  t.strictSame(readTopQuestion({ by: 'near', tier: 'pro', more: 1 }), {
    by: 'near',
    service: undefined,
    tier: 'pro',
  })
  for (const bad of [null, 1, 'near', {}, { by: 'far' }, { by: 'near', service: 1 }])
    t.equal(readTopQuestion(bad), undefined, JSON.stringify(bad))
  const good = mergeTop([reading(group('payments', 'free', [entry('eve', 5)]))])
  t.strictSame(readTopReading(JSON.parse(JSON.stringify(good))), good)
  const worse = (change: (copy: never) => void) => {
    const copy = JSON.parse(JSON.stringify(good))
    change(copy as never)
    return copy
  }
  type Loose = {
    from: unknown
    groups: { tier: unknown; sketch: { floor: unknown; entries: Record<string, unknown>[] } }[]
  }
  for (const change of [
    (one: Loose) => (one.from = 9e15),
    (one: Loose) => (one.groups = {} as never),
    (one: Loose) => (one.groups[0]!.tier = null),
    (one: Loose) => (one.groups[0]!.sketch.floor = -1),
    (one: Loose) => (one.groups[0]!.sketch.entries[0]!.key = {}),
    (one: Loose) => (one.groups[0]!.sketch.entries[0]!.error = 6),
    (one: Loose) => (one.groups[0]!.sketch.entries[0]!.since = '1'),
    (one: Loose) => (one.groups[0]!.sketch.entries[0] = null as never),
  ]) {
    t.equal(readTopReading(worse(change as never)), undefined, `${change}`)
  }
  // Every accepted reading can be merged and shown.
  fc.assert(
    fc.property(fc.jsonValue(), (any) => {
      const read = readTopReading(any)
      if (read !== undefined) topRows(mergeTop([good, read]), 10)
    }),
  )
})

import fc from 'fast-check'
import t from 'tap'
import {
  clear,
  createSummary,
  cut,
  hit,
  merge,
  type Sketch,
  type Summary,
  sketchOf,
} from '../../../src/telemetry/top/space-saving.js'

interface Hit {
  readonly key: string
  readonly weight: number
}

/** A few keys that come often and many that do not. Weights are mostly 1. */
const hits: fc.Arbitrary<readonly Hit[]> = fc.array(
  fc.record({
    key: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 200 })).map(String),
    weight: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 50 })),
  }),
  { maxLength: 300 },
)
const size = fc.integer({ min: 1, max: 12 })

function counted(stream: readonly Hit[], size: number): Summary {
  const summary = createSummary(size)
  for (const { key, weight } of stream) hit(summary, key, weight, '', 0)
  return summary
}

function exactly(streams: readonly (readonly Hit[])[]): Map<string, number> {
  const exact = new Map<string, number>()
  for (const { key, weight } of streams.flat()) exact.set(key, (exact.get(key) ?? 0) + weight)
  return exact
}

/** Throws if a sketch says something false of a stream. */
function holds({ total, floor, entries }: Sketch, exact: ReadonlyMap<string, number>, size: number): void {
  const all = [...exact.values()].reduce((sum, count) => sum + count, 0)
  const wrong = (what: string) => {
    throw new Error(`${what}: ${JSON.stringify({ total, floor, entries, exact: [...exact] })}`)
  }
  if (total !== all) wrong('the total')
  if (floor > all / size) wrong('the floor is above N / size')
  if (entries.length > size) wrong('too many entries')
  const there = new Set(entries.map(({ key }) => key))
  if (there.size !== entries.length) wrong('a key twice')
  entries.forEach(({ key, count, error }, i) => {
    const one = exact.get(key) ?? 0
    if (!(count - error <= one && one <= count)) wrong(`the bound of ${key}`)
    if (i > 0 && count > entries[i - 1]!.count) wrong('the order')
  })
  for (const [key, one] of exact) {
    if (there.has(key)) continue
    if (one > floor) wrong(`${key} is missing, with more than the floor`)
    if (one > all / size) wrong(`${key} is missing, with more than N / size`)
  }
}

t.test('true counts lie within the bounds, and every key with more than N / size is listed', (t) => {
  fc.assert(
    fc.property(hits, size, (stream, size) =>
      holds(sketchOf(counted(stream, size)), exactly([stream]), size),
    ),
    { numRuns: 500 },
  )
  t.end()
})

t.test('the same holds for sketches merged in any grouping, and cut', (t) => {
  fc.assert(
    fc.property(fc.array(hits, { minLength: 1, maxLength: 5 }), size, fc.nat(), (streams, size, at) => {
      const sketches = streams.map((stream) => sketchOf(counted(stream, size)))
      const exact = exactly(streams)
      holds(merge(sketches, size), exact, size)
      // First some of them, as the workers of a node, then these with the rest, as nodes.
      const some = at % (streams.length + 1)
      const twice = merge([merge(sketches.slice(0, some), size), ...sketches.slice(some)], size)
      holds(twice, exact, size)
      const less = Math.ceil(size / 2)
      holds(cut(twice, less), exact, less)
    }),
    { numRuns: 500 },
  )
  t.end()
})

t.test('counts are exact while there is room', async (t) => {
  const summary = counted(
    ['a', 'b', 'a', 'c', 'a', 'b'].map((key) => ({ key, weight: 1 })),
    3,
  )
  t.strictSame(
    sketchOf(summary).entries.map(({ key, count, error }) => [key, count, error]),
    [
      ['a', 3, 0],
      ['b', 2, 0],
      ['c', 1, 0],
    ],
  )
  t.equal(sketchOf(counted([], 3)).floor, 0)
})

t.test('a new key replaces the smallest one, and takes its count as its error', async (t) => {
  const summary = createSummary(2)
  hit(summary, 'a', 5, 'minute', 1)
  hit(summary, 'b', 2, 'minute', 2)
  const fresh = hit(summary, 'c', 1, 'second', 3)
  t.equal(fresh?.since, 3)
  t.equal(hit(summary, 'c', 1, 'hour', 4), undefined, 'it is known by now')
  t.strictSame(sketchOf(summary), {
    total: 9,
    floor: 4,
    entries: [
      { key: 'a', count: 5, error: 0, label: 'minute', since: 1 },
      { key: 'c', count: 4, error: 2, label: 'hour', since: 3 },
    ],
  })
  clear(summary)
  t.strictSame(sketchOf(summary), { total: 0, floor: 0, entries: [] })
})

t.test('merging keeps the earliest time', async (t) => {
  const of = (since: number, label: string) => {
    const summary = createSummary(2)
    hit(summary, 'a', 1, label, since)
    return sketchOf(summary)
  }
  t.match(merge([of(7, 'minute'), of(3, 'second'), of(5, 'hour')], 2).entries, [{ count: 3, since: 3 }])
})

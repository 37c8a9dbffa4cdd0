import fc from 'fast-check'
import t from 'tap'
import { ConcurrencyLimit } from '../../../src/upstream/guard/concurrency.js'

/**
 * Simulates endless callers in front of a service that works on `workers` requests at once, each for `ms`, and queues the others.
 * Time is simulated, too.
 */
function saturate(
  limit: ConcurrencyLimit,
  {
    workers,
    ms,
    seconds,
    from = 0,
  }: Record<string, number> & { workers: number; ms: number; seconds: number },
) {
  const ends: number[] = []
  const free = Array.from({ length: workers }, () => from)
  let longest = 0
  for (let now = from; now < from + seconds * 1000; now++) {
    while (ends.length > 0 && ends[0]! <= now) {
      ends.shift()
      limit.leave()
    }
    while (limit.enter(0, 1)) {
      // The first worker that is free.
      const worker = free.indexOf(Math.min(...free))
      const end = Math.max(free[worker]!, now) + ms
      free[worker] = end
      ends.push(end)
      ends.sort((a, b) => a - b)
      const took = end - now
      if (now > from + (seconds * 1000) / 2) longest = Math.max(longest, took)
      limit.sample(took, now)
    }
  }
  for (const _ of ends) limit.leave()
  return longest
}

t.test('a service that takes ten at once soon gets few more, from an initial hundred', async (t) => {
  const limit = new ConcurrencyLimit({ initial: 100, min: 1, max: 1000 })
  // Quiet times show the usual latency.
  for (let i = 0; i < 100; i++) {
    limit.enter(0, 1)
    limit.sample(50, i * 100)
    limit.leave()
  }
  t.equal(limit.limit, 100, 'little traffic changes nothing')
  const longest = saturate(limit, { workers: 10, ms: 50, seconds: 60, from: 10_000 })
  t.ok(limit.limit >= 10 && limit.limit <= 40, `found ${limit.limit}`)
  t.ok(longest <= 200, `and responses take ${longest} ms at most, not the 500 of a hundred at once`)
})

t.test('the limit grows while it is used up, and not while a single request runs', async (t) => {
  const limit = new ConcurrencyLimit({ initial: 10, min: 1, max: 1000 })
  saturate(limit, { workers: 1000, ms: 20, seconds: 30 })
  t.ok(limit.limit > 100, `found ${limit.limit}`)
  const before = limit.limit
  for (let i = 0; i < 1_000; i++) {
    limit.enter(0, 1)
    limit.sample(20, 40_000 + i * 10)
    limit.leave()
  }
  t.ok(Math.abs(limit.limit - before) <= 10, 'one at a time says nothing about a hundred')
})

t.test('requests that get no response lower the limit, unless they are few', async (t) => {
  const limit = new ConcurrencyLimit({ initial: 100, min: 10, max: 100 })
  for (let now = 0; now < 60_000; now += 10) limit.lost(now)
  t.equal(limit.limit, 10)
  const few = new ConcurrencyLimit({ initial: 100, min: 10, max: 100 })
  for (let now = 0; now < 60_000; now += 10) {
    if (now % 200 === 0) few.lost(now)
    else few.sample(20, now)
  }
  t.equal(few.limit, 100, 'one in twenty does not')
})

t.test('each class may fill more of the limit than the one below, and the highest all of it', async (t) => {
  const limit = new ConcurrencyLimit({ initial: 100, min: 1, max: 100 })
  const fill = (rank: number) => {
    let entered = 0
    while (limit.enter(rank, 3)) entered++
    return entered
  }
  t.strictSame([fill(0), fill(1), fill(2)], [80, 10, 10])
  limit.leave()
  t.notOk(limit.enter(0, 3), 'a place that is given back goes to the last class first')
  t.ok(limit.enter(2, 3))
  const one = new ConcurrencyLimit({ initial: 1, min: 1, max: 1 })
  t.ok(one.enter(0, 3), 'any class may have a single place')
})

t.test('a reload changes the bounds and keeps what was learned', async (t) => {
  const limit = new ConcurrencyLimit({ initial: 100, min: 1, max: 1000 })
  limit.configure({ initial: 7, min: 1, max: 500 })
  t.equal(limit.limit, 100)
  limit.configure({ initial: 7, min: 1, max: 50 })
  t.equal(limit.limit, 50)
})

t.test('whatever the latencies, the limit stays a number within its bounds', async () => {
  const step = fc.record({
    after: fc.integer({ min: 0, max: 1_000 }),
    ms: fc.double({ min: 0, max: 1e9, noNaN: true }),
    what: fc.constantFrom('sample', 'lost', 'atLeast'),
    hold: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 1, max: 50 }), (steps, min) => {
      const limit = new ConcurrencyLimit({ initial: min, min, max: min * 4 })
      let now = 0
      let held = 0
      for (const { after, ms, what, hold } of steps) {
        now += after
        if (limit.enter(0, 1)) held++
        if (!hold && held > 0) {
          limit.leave()
          held--
        }
        if (what === 'sample') limit.sample(ms, now)
        else if (what === 'lost') limit.lost(now)
        else limit.atLeast(ms, now)
        if (!(limit.limit >= min && limit.limit <= min * 4) || limit.inFlight !== held) return false
        if (held > min * 4) return false
      }
      return true
    }),
    { numRuns: 200 },
  )
})

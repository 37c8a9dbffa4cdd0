// Tests src/upstream/guard/sliding-window.ts
import fc from 'fast-check'
import t from 'tap'
import type { BreakerSettings } from '../../../src/config/snapshot/resilience.js'
import { Breaker } from '../../../src/upstream/guard/breaker.js'

const SETTINGS: BreakerSettings = {
  errorRatio: 0.5,
  slowMs: 1_000,
  slowRatio: 0.8,
  windowMs: 10_000,
  minRequests: 20,
  openMs: 5_000,
  probes: 3,
}

/** Without jitter. */
function breaker(changes: Partial<BreakerSettings> = {}): Breaker {
  return new Breaker({ ...SETTINGS, ...changes }, () => 0.5)
}

/** Enters `count` requests and reports their outcome. Returns how many were let in. */
function send(one: Breaker, count: number, now: number, { error = false, ms = 10, rank = 0 } = {}): number {
  let passed = 0
  for (let i = 0; i < count; i++) {
    const epoch = one.enter(rank, now)
    if (epoch < 0) continue
    passed++
    one.outcome(epoch, error, ms, now)
  }
  return passed
}

function opened(now: number, changes: Partial<BreakerSettings> = {}): Breaker {
  const one = breaker(changes)
  send(one, 20, now, { error: true })
  return one
}

t.test('closed: opens when enough of enough requests fail', async (t) => {
  const one = breaker()
  send(one, 19, 0, { error: true })
  t.equal(one.state(0), 'closed', 'too few say nothing')
  send(one, 1, 0, { error: true })
  t.equal(one.state(0), 'open')
  t.equal(send(one, 5, 4_999), 0, 'nothing passes')
  t.equal(one.waitMs(1_000), 4_000)

  const mixed = breaker()
  send(mixed, 51, 0)
  send(mixed, 50, 0, { error: true })
  t.equal(mixed.state(0), 'closed', '49.5 %')
  send(mixed, 1, 0, { error: true })
  t.equal(mixed.state(0), 'open', '50 %')
})

t.test('closed: opens when most are slow, though they succeed', async (t) => {
  const one = breaker()
  send(one, 4, 0)
  send(one, 15, 0, { ms: 1_001 })
  t.equal(one.state(0), 'closed')
  send(one, 1, 0, { ms: 1_001 })
  t.equal(one.state(0), 'open')
  const never = breaker({ slowMs: Number.POSITIVE_INFINITY })
  send(never, 100, 0, { ms: 1e9 })
  t.equal(never.state(0), 'closed', 'with slow: 0 nothing is slow')
})

t.test('failures older than the window do not count', async (t) => {
  const one = breaker()
  send(one, 19, 0, { error: true })
  send(one, 1, 10_000, { error: true })
  t.equal(one.state(10_000), 'closed')
  send(one, 18, 19_000, { error: true })
  t.equal(one.state(19_000), 'closed')
  send(one, 1, 19_999, { error: true })
  t.equal(one.state(19_999), 'open')
})

t.test('half open: the probes decide', async (t) => {
  const well = opened(0)
  const epochs = [0, 1, 2].map(() => well.enter(0, 5_000))
  t.ok(epochs.every((epoch) => epoch > 0))
  t.equal(well.state(5_000), 'half_open')
  t.equal(well.enter(0, 5_000), -1, 'no more than the probes')
  for (const epoch of epochs) well.outcome(epoch, false, 10, 5_100)
  t.equal(well.state(5_100), 'closed')
  send(well, 19, 5_100, { error: true })
  t.equal(well.state(5_100), 'closed', 'earlier failures are forgotten')

  const ill = opened(0)
  send(ill, 1, 5_000, { error: true })
  t.equal(ill.state(5_000), 'half_open', 'one of three may fail')
  send(ill, 1, 5_000, { error: true })
  t.equal(ill.state(5_000), 'open')

  const slow = opened(0)
  send(slow, 3, 5_000, { ms: 2_000 })
  t.equal(slow.state(5_000), 'open', 'slow probes, too')
})

t.test('half open: after a reload to fewer probes it sends new ones', async (t) => {
  const one = opened(0, { probes: 5 })
  t.equal(send(one, 3, 5_000), 3)
  const late = one.enter(0, 5_000)
  one.configure(SETTINGS)
  t.equal(one.state(5_000), 'half_open')
  one.outcome(late, true, 10, 5_001)
  t.equal(send(one, 3, 5_001), 3)
  t.equal(one.state(5_001), 'closed', 'earlier probes do not count')
})

t.test('half open: a probe that ends without an outcome makes room for another', async (t) => {
  const one = opened(0, { probes: 1 })
  const first = one.enter(0, 5_000)
  t.equal(one.enter(0, 5_000), -1)
  one.release(first)
  const second = one.enter(0, 5_000)
  t.ok(second > 0)
  one.outcome(second, false, 10, 5_010)
  t.equal(one.state(5_010), 'closed')
})

t.test('it stays open twice as long each time the probes fail, ten times at most', async (t) => {
  const one = opened(0)
  let now = 0
  for (const wait of [5_000, 10_000, 20_000, 40_000, 50_000, 50_000]) {
    t.equal(one.waitMs(now), wait)
    now += wait
    t.equal(send(one, 3, now - 1), 0)
    send(one, 3, now, { error: true })
  }
  send(one, 3, now + 50_000)
  t.equal(one.state(now + 50_000), 'closed')
  send(one, 20, now + 50_000, { error: true })
  t.equal(one.waitMs(now + 50_000), 5_000, 'and begins anew after it was well')
})

t.test('the open time has jitter', async (t) => {
  for (const [random, wait] of [
    [0, 4_000],
    [1, 6_000],
  ] as const) {
    const one = new Breaker(SETTINGS, () => random)
    send(one, 20, 0, { error: true })
    t.equal(Math.round(one.waitMs(0)), wait)
  }
})

t.test('requests let in before a change of state do not count after it', async (t) => {
  const one = breaker({ probes: 1 })
  const early = one.enter(0, 0)
  send(one, 20, 0, { error: true })
  one.outcome(early, false, 10, 100)
  t.equal(one.state(100), 'open')
  const probe = one.enter(0, 5_000)
  one.outcome(early, false, 10, 5_000)
  one.release(early)
  t.equal(one.enter(0, 5_000), -1, 'the probe is still out')
  one.outcome(probe, false, 10, 5_000)
  t.equal(one.state(5_000), 'closed')
})

t.test('half open: for a second the probes are for the highest class that asked meanwhile', async (t) => {
  const one = opened(0)
  t.equal(one.enter(2, 1_000), -1)
  t.equal(one.enter(0, 5_000), -1, 'free has to wait')
  t.equal(one.enter(1, 5_000), -1)
  t.ok(one.enter(2, 5_000) > 0, 'enterprise probes')
  t.equal(one.enter(0, 5_999), -1)
  t.ok(one.enter(0, 6_000) > 0, 'in the end any class may probe')

  const alone = opened(0)
  t.ok(alone.enter(0, 5_000) > 0, 'no other class asked')
})

t.test('a response that breaks off counts as a failure when that is known', async (t) => {
  const one = breaker()
  const epochs = Array.from({ length: 20 }, () => one.enter(0, 0))
  for (const epoch of epochs) one.outcome(epoch, false, 10, 0)
  for (const epoch of epochs.slice(0, 9)) one.spoiled(epoch, 100)
  t.equal(one.state(100), 'closed')
  one.spoiled(epochs[9]!, 100)
  t.equal(one.state(100), 'open')
})

t.test('a probe whose response breaks off is no success', async (t) => {
  const one = opened(0)
  const epochs = [1, 2].map(() => one.enter(0, 5_000))
  for (const epoch of epochs) one.outcome(epoch, false, 10, 5_000)
  for (const epoch of epochs) one.spoiled(epoch, 5_100)
  t.equal(one.state(5_100), 'open')
})

t.test('a reload changes its settings and keeps its state', async (t) => {
  const one = opened(0)
  one.configure({ ...SETTINGS, windowMs: 60_000 })
  t.equal(one.state(0), 'open')
  const other = breaker()
  send(other, 19, 0, { error: true })
  other.configure({ ...SETTINGS, minRequests: 10 })
  send(other, 1, 0, { error: true })
  t.equal(other.state(0), 'open')
})

t.test('in any sequence it lets a request pass when it is time, and never too many probes', async () => {
  const step = fc.record({
    after: fc.integer({ min: 0, max: 3_000 }),
    rank: fc.integer({ min: 0, max: 3 }),
    end: fc.constantFrom('well', 'error', 'slow', 'release', 'never'),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const one = breaker({ minRequests: 3 })
      const out: number[] = []
      let now = 0
      for (const { after, rank, end } of steps) {
        now += after
        const epoch = one.enter(rank, now)
        if (epoch < 0) continue
        if (end === 'never') out.push(epoch)
        else if (end === 'release') one.release(epoch)
        else one.outcome(epoch, end === 'error', end === 'slow' ? 5_000 : 1, now)
        if (one.state(now) === 'half_open' && out.filter((e) => e === epoch).length > 3) return false
      }
      // All probes end; the time is then well within the longest open time.
      for (const epoch of out) one.release(epoch)
      now += 60_000
      for (let i = 0; i < 3; i++) {
        const epoch = one.enter(0, now + i * 1_001)
        if (epoch >= 0) one.outcome(epoch, false, 1, now + i * 1_001)
      }
      return send(one, 1, now + 10_000) === 1
    }),
    { numRuns: 300 },
  )
})

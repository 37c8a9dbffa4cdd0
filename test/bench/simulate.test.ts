// Tests bench/simulate/: its arithmetic against direct counting, and a small simulation of one user at a time.
import fc from 'fast-check'
import t from 'tap'
import { createDenials } from '../../src/limiter/denial-cache.js'
import type { Decision } from '../../src/limiter/limiter.js'

const part = (name: string) => import(new URL(`../../bench/${name}.mjs`, import.meta.url).href)
const { randomFrom, exponential, poisson } = await part('harness/random')
const { ASSUMPTIONS, assumptionRows, scenarioOf } = await part('simulate/assumptions')
const { arrivalsOf, intensityOf } = await part('simulate/arrivals')
const { asksOfAll } = await part('simulate/denials')
const { createLog } = await part('simulate/exact-log')
const { phasesOf } = await part('simulate/failures')
const { loadsOf, needsOf, rateAt, togetherAt, utilisation } = await part('simulate/load')
const { missesOf } = await part('simulate/lookups')
const { plotLoads, roundUp } = await part('simulate/plot')
const { demandOf, HEAD, headOf, ranksOf, strataOf, tierOf, zipfSum } = await part('simulate/population')
const { bytesOfKey, bytesOfTables } = await part('simulate/redis-memory')
const { simulate } = await part('simulate/run')
const { accumulated, createTally, estimate, TOTALS } = await part('simulate/tally')
const { createUsers } = await part('simulate/user')

const HOUR = 3_600_000
const ONE_MINUTE = { free: { limits: ['60/min'], ofHead: 1, ofRest: 1 } }
const near = (a: number, b: number, share: number) => Math.abs(a - b) <= share * Math.abs(b)

t.test('sums of the Zipf distribution are those of its terms', async (t) => {
  for (const s of [0.5, 0.8, 1, 1.3]) {
    let sum = 0
    for (let r = 7; r < 5000; r++) sum += r ** -s
    t.ok(near(zipfSum(7, 5000, s), sum, 1e-7), `${s}: ${zipfSum(7, 5000, s)} ${sum}`)
  }
  const scenario = scenarioOf({ users: 10_000 })
  let requests = 0
  for (let r = 1; r <= 10_000; r++) requests += demandOf(scenario)(r)
  t.ok(near(requests, 300_000, 1e-6), `${requests}`)
})

t.test('the strata and the busiest users are the whole population, without gaps', async (t) => {
  for (const users of [20, 40, 1000, 123_456, 100e6]) {
    const scenario = scenarioOf({ users })
    const strata = strataOf(scenario, 1e6)
    const all = strata.reduce((sum: number, one: { users: number }) => sum + one.users, 0)
    t.ok(near(all + Math.min(HEAD, users), users, 1e-9), `${users}: ${all}`)
    for (const stratum of strata) {
      const { tier, from, to, users: n, simulated } = stratum
      t.ok(simulated >= 1 && simulated <= Math.ceil(n) && to > from)
      const ranks: number[] = ranksOf(scenario, stratum, 0, simulated, randomFrom(1))
      t.ok(ranks.every((rank) => rank >= from && rank < to && tierOf(scenario, rank) === tier))
      if (simulated === n) t.equal(new Set(ranks).size, n, 'all of them, each once')
    }
  }
})

t.test('each tier has its share of any range of ranks', async (t) => {
  const scenario = scenarioOf()
  for (const from of [1, 5000, 70_000]) {
    const seen: Record<string, number> = { free: 0, pro: 0, enterprise: 0 }
    for (let rank = from; rank < from + 1000; rank++) seen[tierOf(scenario, rank)]!++
    for (const [tier, n] of Object.entries(seen)) {
      const { ofHead, ofRest } = scenario.tiers[tier]
      t.ok(Math.abs(n - 1000 * (from === 1 ? ofHead : ofRest)) < 6, `${tier} from ${from}: ${n}`)
    }
  }
  t.equal(headOf(scenario).length, HEAD)
})

t.test('the intensity and its inverse agree, and a day repeats', async (t) => {
  const intensity = intensityOf(scenarioOf())
  t.ok(near(intensity.sum(24 * HOUR), 1, 1e-9))
  for (let ms = -5 * HOUR; ms < 30 * HOUR; ms += 1_234_567) {
    t.ok(Math.abs(intensity.when(intensity.sum(ms)) - ms) < 0.001, `${ms}`)
    t.ok(near(intensity.sum(ms + 24 * HOUR), intensity.sum(ms) + 1, 1e-9))
  }
})

t.test('users send what is expected of them, in visits or without pause, in order', async (t) => {
  for (const demand of [3, 200, 50_000]) {
    const scenario = scenarioOf()
    const intensity = intensityOf(scenario)
    const random = randomFrom(demand)
    const users = Math.ceil(60_000 / demand)
    let requests = 0
    for (let i = 0; i < users; i++) {
      const arrivals = arrivalsOf(scenario, intensity, demand, -HOUR, random)
      let last = Number.NEGATIVE_INFINITY
      for (let at = arrivals.next(); at < scenario.runMs; at = arrivals.next()) {
        if (at < last) t.fail(`${at} after ${last}`)
        last = at
        if (at >= 0) requests++
      }
    }
    t.ok(near(requests, users * demand, 0.05), `${demand}: ${requests} of ${users * demand}`)
  }
})

t.test('a Poisson number has its mean and variance', async (t) => {
  for (const mean of [0.3, 5, 1000]) {
    const random = randomFrom(1)
    const drawn = Array.from({ length: 20_000 }, () => poisson(random, mean))
    const average = drawn.reduce((sum, n) => sum + n, 0) / drawn.length
    const variance = drawn.reduce((sum, n) => sum + (n - average) ** 2, 0) / drawn.length
    t.ok(near(average, mean, 0.05) && near(variance, mean, 0.05), `${mean}: ${average}, ${variance}`)
  }
  t.equal(poisson(randomFrom(1), 0), 0)
})

t.test('the exact log counts as a list of all times does', async () => {
  const limits = [
    { amount: 2, windowMs: 10 },
    { amount: 5, windowMs: 100 },
  ]
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 150 }),
      fc.boolean(),
      (steps, always) => {
        const log = createLog(limits)
        const times: number[] = []
        const room = (at: number) =>
          limits.every(({ amount, windowMs }) => times.filter((one) => one > at - windowMs).length < amount)
        let at = 0
        for (const step of steps) {
          at += step
          if (log.hasRoom(at) !== room(at)) return false
          let from = at
          while (!room(from)) from++
          if (log.roomAt(at) !== from) return false
          // Without Redis, more may be admitted than there is room for.
          if (!always && !room(at)) continue
          log.add(at)
          times.push(at)
        }
        return true
      },
    ),
    { numRuns: 50 },
  )
})

t.test('gateways ask as often as their caches of denials let them', async (t) => {
  const policy = {} as Parameters<ReturnType<typeof createDenials>['find']>[1]
  for (const [rate, gateways, ms, resetMs, windowMs] of [
    [0.4, 4, 700, 30_000, 60_000],
    [0.4, 100, 5000, 2000, 60_000],
    [0.05, 4, 90_000, 2000, 60_000],
    [2, 10, 1500, 600, 1000],
  ] as const) {
    const random = randomFrom(5)
    const rounds = 100
    let asks = 0
    for (let round = 0; round < rounds; round++) {
      let now = 0
      const caches = Array.from({ length: gateways }, () => createDenials(10, () => now))
      const ask = (gateway: number, at: number) => {
        const reset = at < resetMs ? resetMs - at : windowMs - ((at - resetMs) % windowMs)
        const denied = { resetMs: reset, retryMs: ms - at, at } as Decision
        caches[gateway]!.remember('key', policy, 1, denied, at)
      }
      ask(0, 0)
      for (let at = exponential(random, 1 / rate); at < ms; at += exponential(random, 1 / rate)) {
        now = at
        const gateway = Math.floor(random() * gateways)
        if (caches[gateway]!.find('key', policy, 1) !== undefined) continue
        asks++
        ask(gateway, at)
      }
    }
    const expected = asksOfAll(rate, gateways, ms, { resetMs, windowMs })
    t.ok(near(asks / rounds, expected, 0.05), `${asks / rounds}, expected ${expected}`)
  }
})

t.test('a user within the limit is never denied; far above it, it gets the limit', async (t) => {
  const scenario = scenarioOf({ tiers: ONE_MINUTE, failures: [], primaries: 1, visit: 1 })
  const run = (demand: number) => {
    const tally = createTally(scenario)
    return createUsers(scenario)({ rank: 1, tier: 'free', demand }, randomFrom(1), tally)
  }
  t.match(run(1440), { denied: 0, over: 0, under: 0 })
  const much = run(1_000_000)
  t.ok(near(much.admitted, 60 * 1440, 0.02), `${much.admitted}`)
  t.ok(near(much.exact, 60 * 1440, 0.02), `${much.exact}`)
  t.ok(near(much.requests, 1_000_000, 0.01), `${much.requests}`)
  t.ok(near(much.admitted + much.denied, much.requests, 1e-9))
  t.ok(much.asked < much.requests)
})

t.test('nothing is left of a user when the next one of the same id is simulated', async (t) => {
  const scenario = scenarioOf({ failures: [], runMs: HOUR, buckets: 6, hours: [1] })
  const users = createUsers(scenario)
  const run = (simulated: typeof users) =>
    simulated({ rank: 7, tier: 'free', demand: 3000 }, randomFrom(1), createTally(scenario))
  users({ rank: 7, tier: 'enterprise', demand: 50_000 }, randomFrom(1), createTally(scenario))
  t.strictSame(run(users), run(createUsers(scenario)))
})

t.test('what is skipped over is counted as if each request had been asked', async (t) => {
  const scenario = scenarioOf({
    tiers: ONE_MINUTE,
    failures: [],
    gateways: 4,
    runMs: HOUR,
    buckets: 6,
    hours: [1],
  })
  const run = (visit: number, seed: number) =>
    createUsers({ ...scenario, visit })(
      { rank: 1, tier: 'free', demand: 20_000 },
      randomFrom(seed),
      createTally(scenario),
    )
  // Visits of little more than one request are the same traffic, but nothing can be skipped over.
  const [skipped, asked] = [run(1, 1), run(1.000001, 2)]
  for (const name of ['requests', 'admitted', 'denied', 'asked', 'exact'] as const)
    t.ok(near(skipped[name], asked[name], 0.06), `${name}: ${skipped[name]}, ${asked[name]}`)
})

t.test('each failure does what it says', async (t) => {
  const base = {
    tiers: ONE_MINUTE,
    primaries: 2,
    gateways: 10,
    runMs: HOUR,
    buckets: 60,
    hours: [1],
    visit: 1,
  }
  const run = (failures: object[], onFailure: string, demand = 36_000) => {
    const scenario = scenarioOf({ ...base, failures, onFailure })
    const tally = createTally(scenario)
    const user = createUsers(scenario)({ rank: 1, tier: 'free', demand }, randomFrom(1), tally)
    const of = (flow: string): number => tally.flows[flow].reduce((sum: number, n: number) => sum + n, 0)
    return { ...user, of }
  }
  const away = [{ kind: 'redis', at: 600_000, for: 600_000, loses: 'nothing' }]
  const calm = run([], 'open')
  t.ok(near(calm.admitted, 3600, 0.05), `${calm.admitted}`)

  const open = run(away, 'open')
  t.ok(near(open.of('uncounted'), 6000, 0.05) && near(open.admitted, 3000 + 6000, 0.05), `${open.admitted}`)
  t.ok(open.over > 5000)
  const local = run(away, 'local')
  t.ok(near(local.admitted, 3600, 0.1), `each gateway has its share: ${local.admitted}`)
  const closed = run(away, 'closed')
  t.ok(near(closed.admitted, 3000, 0.05), `${closed.admitted}`)
  const cut = run([{ kind: 'gateways', at: 600_000, for: 600_000, count: 5 }], 'open')
  t.ok(
    near(cut.of('uncounted'), 3000, 0.1),
    `half of the gateways pass half of the requests: ${cut.of('uncounted')}`,
  )

  const slow = [{ kind: 'redis', at: 1_790_000, for: 1000, loses: 'all' }]
  const lost = run(slow, 'closed')
  const more = lost.admitted - calm.admitted
  t.ok(more > 30 && more < 70, `the limit, once: ${more}`)
  t.ok(lost.over > calm.over + 60)
  const other = run([{ ...slow[0], kind: 'primary', primary: 1 - calm.primary }], 'closed')
  t.equal(other.admitted, calm.admitted)
})

t.test('phases follow each other without gaps', async (t) => {
  const scenario = scenarioOf()
  for (const primary of [0, 1]) {
    const phases = phasesOf(scenario, primary, -HOUR)
    t.equal(phases[0].from, -HOUR)
    t.equal(phases.at(-1).to, scenario.runMs)
    for (let i = 1; i < phases.length; i++) t.equal(phases[i].from, phases[i - 1].to)
    t.equal(
      phases.filter(({ enter }: { enter?: string }) => enter === 'restore').length,
      primary === 0 ? 1 : 0,
    )
  }
})

t.test('keys and bytes are those that npm run bench:memory measures', async (t) => {
  const million = (length: number, value: number) => bytesOfKey(length, value) + bytesOfTables(1e6) / 1e6
  t.ok(near(million(26, 0), 128.7, 0.002), 'one limit')
  t.ok(near(million(51, 0), 160.8, 0.002), 'ids of 36 characters')
  t.ok(near(million(30, 36), 176.8, 0.002), 'three limits')
  const few = (length: number, value: number) => bytesOfKey(length, value) + bytesOfTables(1e5) / 1e5
  t.ok(near(few(32, 8), 165.1, 0.005), 'fixed')
  t.ok(near(few(33, 72), 230.3, 0.01), 'strict')
})

t.test('the costs give the CPU that was measured', async (t) => {
  const { usPerWrite, usPerCall, usPerDecision, usPerRequest } = scenarioOf()
  const redis = (rate: number, together: number) =>
    utilisation(rate / together, usPerWrite, (rate / together) * usPerCall + rate * usPerDecision)
  t.ok(near(redis(4000, 1), 0.166, 0.1), `one at a time: ${redis(4000, 1)}`)
  t.ok(near(redis(4000, togetherAt(4000)), 0.086, 0.15), `gather: auto: ${redis(4000, togetherAt(4000))}`)
  t.ok(near(utilisation(4000, usPerRequest), 0.37, 0.05))
  t.ok(near(rateAt(1, usPerRequest), 32_000, 0.02))
  t.equal(togetherAt(100), 1)
})

t.test('a gateway that holds fewer users misses more, and one that holds all misses none', async (t) => {
  const misses = (heldRecords: number) => missesOf(scenarioOf({ users: 1e6, heldRecords }))
  t.equal(misses(1e6), 0)
  t.equal(missesOf(scenarioOf({ assignments: 100 })), 0)
  const [few, some, most] = [misses(1000), misses(50_000), misses(900_000)] as [number, number, number]
  t.ok(few > some && some > most && most > 0 && few < 1, `${few} ${some} ${most}`)
})

t.test('an estimate is exact where all are simulated, and its error falls with the sample', async (t) => {
  const of = (users: number, simulated: number, times: number) =>
    estimate([
      {
        users,
        simulated,
        sums: new Float64Array(TOTALS.length).fill(10 * times),
        squares: new Float64Array(TOTALS.length).fill(60 * times),
      },
    ]).asked
  t.match(of(4, 4, 1), { total: 10, error: 0 })
  t.equal(of(8, 4, 1).total, 20)
  t.ok(near(of(1e6, 400, 100).error, of(1e6, 4, 1).error / 10, 0.15))
})

t.test('the keys of a bucket are the mean of those that there are in its time', async (t) => {
  t.strictSame([...accumulated(new Float64Array([1, 2, -3]), 3, 1)], [1, 3, 0])
  const scenario = scenarioOf({
    tiers: ONE_MINUTE,
    failures: [],
    users: 100,
    runMs: HOUR,
    buckets: 60,
    hours: [1],
  })
  const tally = createTally(scenario)
  const user = createUsers(scenario)({ rank: 1, tier: 'free', demand: 300 }, randomFrom(1), tally)
  const keys = accumulated(tally.keys, scenario.buckets, scenario.primaries)
  const total = [...keys].reduce((sum, n) => sum + n, 0) * 60_000
  t.ok(near(total, user.keyMs, 1e-9), `${total} ${user.keyMs}`)
})

t.test(
  'a small simulation: samples agree with the whole within their error, on any number of threads',
  async (t) => {
    const scenario = scenarioOf({ users: 3000, requestsPerUser: 20, primaries: 2, gateways: 4, failures: [] })
    const whole = await simulate(scenario, { takes: 1e9, seed: 1, threads: 1 })
    const sample = await simulate(scenario, { takes: 5000, seed: 1, threads: 2 })
    const again = await simulate(scenario, { takes: 5000, seed: 1, threads: 1 })
    t.strictSame(sample.totals, again.totals, 'the same seed gives the same figures')
    t.ok(sample.simulated < whole.simulated / 2, `${sample.simulated} of ${whole.simulated}`)
    for (const name of ['requests', 'asked', 'keyMs']) {
      const { total, error } = sample.totals[name]
      const off = Math.abs(total - whole.totals[name].total)
      t.ok(off < 4 * error + 0.001 * total, `${name}: ${total} ± ${error}, whole ${whole.totals[name].total}`)
    }
    const loads = loadsOf(scenario, sample)
    const needs = needsOf(scenario, loads)
    t.ok(needs.gatewaysNeeded === 1 && needs.primariesForCpu === 1 && needs.perMillion > 0)
    const svg: string = plotLoads(scenario, loads, 'a test')
    t.equal(svg.match(/<polyline/g)?.length, 9)
    t.notMatch(svg, /NaN|Infinity|undefined/)
    t.equal(roundUp(37), 40)
  },
)

t.test('every assumption has a row with its reason, and an unknown one is refused', async (t) => {
  const rows: string[][] = assumptionRows(scenarioOf({ users: 5 }))
  for (const { name, why } of ASSUMPTIONS)
    if (name !== 'tiers' && name !== 'failures')
      t.match(
        rows.find((row) => row[0] === name),
        [name, /./, String, name === 'users' ? 'changed for this run' : why],
      )
  t.throws(() => scenarioOf({ user: 5 }), /no assumption is called user/)
})

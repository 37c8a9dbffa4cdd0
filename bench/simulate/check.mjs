/**
 * `npm run simulate -- --check`: small cases, simulated and for real: a redis-server, and gateways' limiters with their own connections
 * in threads of their own, which get the requests of every user at their moments.
 */
import { Worker } from 'node:worker_threads'
import { requireTools } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { randomFrom } from '../harness/random.mjs'
import { startStore } from '../harness/store.mjs'
import { printTable } from '../harness/table.mjs'
import { arrivalsOf, intensityOf } from './arrivals.mjs'
import { scenarioOf } from './assumptions.mjs'
import { demandOf, tierOf } from './population.mjs'
import { bytesOfTables } from './redis-memory.mjs'
import { simulate } from './run.mjs'
import { accumulated } from './tally.mjs'

/** Known beforehand; and what depends on how many requests were sent before the first denial came back. */
const UNMARKED = new Set(['requests', 'remembered denials'])
const MINUTE = 60_000
/** How far a figure of the simulation may be from the real one. */
const NEAR = 0.05
/** Ms until Redis has freed the buffers of busy connections. */
const SETTLE = 4000
/** Runs of a case at most, and the share of late requests above which one does not count. */
const RUNS = 3
const MOST_LATE = 0.002
/** Ms until the first request. */
const LEAD = 200
/** Within a minute: no key of a minute's window expires before the memory is read. */
const LATEST_START = 40_000

const SMALL = {
  users: 1_000_000,
  runMs: MINUTE,
  buckets: 600,
  hours: [1],
  requestsPerUser: 0.4,
  gateways: 4,
  primaries: 1,
  failures: [],
  onFailure: 'closed',
}
const CASES = {
  'three limits, the tiers of the assumptions': {},
  'one limit, and many denials': {
    zipf: 1,
    tiers: {
      free: { limits: ['10/min'], ofHead: 0.6, ofRest: 0.9 },
      pro: { limits: ['100/min'], ofHead: 0.4, ofRest: 0.1 },
    },
  },
}

export async function main({ seed }) {
  requireTools({ wrk: false })
  const marks = []
  for (const [name, changes] of Object.entries(CASES)) {
    const scenario = scenarioOf({ ...SMALL, ...changes })
    const events = eventsOf(scenario, seed + 1)
    const { epoch, ...real } = await runInTime(scenario, events)
    const simulated = await predict(scenario, epoch, seed)
    const names = Object.keys(real)
    console.log(`\n${name}\n`)
    printTable(
      ['', 'simulated', 'real', 'simulated ÷ real'],
      names.map((one) => [
        one,
        Math.round(simulated[one]),
        Math.round(real[one]),
        (simulated[one] / real[one]).toFixed(3),
      ]),
    )
    const marked = names.filter((one) => !UNMARKED.has(one))
    const off = marked.map((one) => [one, simulated[one] / real[one] - 1])
    marks.push({
      name: `${name}: ${marked.join(', ')} within ${100 * NEAR} %`,
      figure: off.map(([, share]) => `${(100 * share).toFixed(1)} %`).join(', '),
      holds: off.every(([, share]) => Math.abs(share) <= NEAR),
    })
  }
  console.log()
  return printMarks(marks)
}

/** Returns the unix ms of a start that leaves time for the minute's keys. */
async function nextStart() {
  const into = Date.now() % MINUTE
  if (into > LATEST_START) await new Promise((resolve) => setTimeout(resolve, MINUTE - into + 100))
  return Date.now() + LEAD
}

async function predict(scenario, epoch, seed) {
  const { tally, totals } = await simulate(scenario, { takes: 1_000_000, seed, epoch, warms: false })
  const { buckets, primaries } = scenario
  const keys = accumulated(tally.keys, buckets, primaries).at(-1)
  const sumOf = (flow) => tally.flows[flow].reduce((sum, n) => sum + n, 0)
  const asked = totals.asked.total
  return {
    requests: totals.requests.total,
    'decisions of Redis': asked,
    'remembered denials': sumOf('remembered'),
    admitted: totals.admitted.total,
    denied: totals.denied.total,
    keys,
    'bytes of Redis': accumulated(tally.bytes, buckets, primaries).at(-1) + bytesOfTables(keys),
  }
}

/** Runs until the requests were sent at their moments: late ones come together, and more of them are denied. */
async function runInTime(scenario, events) {
  for (let left = RUNS - 1; ; left--) {
    const { late, ...run } = await runForReal(scenario, events)
    if (late <= MOST_LATE * run.requests) return run
    console.log(`${late} requests were sent more than 100 ms late, because the machine is busy`)
    if (left === 0) throw new Error(`no run of ${RUNS} was in time`)
  }
}

/** Returns when the run began, in unix ms, how many requests were late, and its figures. */
async function runForReal(scenario, events) {
  const store = await startStore()
  try {
    const settled = () => new Promise((resolve) => setTimeout(resolve, SETTLE))
    const memory = async () => Number(/used_memory:(\d+)/.exec(await store.redis.info('memory'))[1])
    const gateways = events.map(
      (own) =>
        new Worker(new URL('check-gateway.mjs', import.meta.url), {
          workerData: { scenario, port: store.port, events: own },
        }),
    )
    const heard = (event) =>
      Promise.all(
        gateways.map(
          (worker) =>
            new Promise((resolve, reject) => {
              worker.once('error', reject)
              worker.once('message', (message) =>
                message.event === event ? resolve(message) : reject(message),
              )
            }),
        ),
      )
    await heard('ready')
    await store.clear()
    await settled()
    const before = await memory()
    const epoch = await nextStart()
    for (const gateway of gateways) gateway.postMessage({ epoch })
    const answers = await heard('done')
    await settled()
    const after = await memory()
    const keys = await store.keys()
    await Promise.all(gateways.map((worker) => worker.terminate()))
    const sum = (name) => answers.reduce((all, one) => all + one[name], 0)
    if (sum('degraded') > 0) throw new Error(`${sum('degraded')} decisions were made without Redis`)
    return {
      epoch,
      late: sum('late'),
      requests: sum('store') + sum('cache'),
      'decisions of Redis': sum('store'),
      'remembered denials': sum('cache'),
      admitted: sum('allowed'),
      denied: sum('store') + sum('cache') - sum('allowed'),
      keys,
      'bytes of Redis': after - before,
    }
  } finally {
    await store.stop()
  }
}

/** Returns the requests of all users for each gateway, in order: when, whose, and the tier's number. */
function eventsOf(scenario, seed) {
  const random = randomFrom(seed)
  const intensity = intensityOf(scenario)
  const demand = demandOf(scenario)
  const numbers = Object.fromEntries(Object.keys(scenario.tiers).map((tier, i) => [tier, i]))
  const all = Array.from({ length: scenario.gateways }, () => [])
  for (let rank = 1; rank <= scenario.users; rank++) {
    const arrivals = arrivalsOf(scenario, intensity, demand(rank), 0, random)
    let tier
    for (let t = arrivals.next(); t < scenario.runMs; t = arrivals.next()) {
      tier ??= numbers[tierOf(scenario, rank)]
      all[Math.floor(random() * scenario.gateways)].push([t, rank, tier])
    }
  }
  return all.map((events) => Float64Array.from(events.sort((a, b) => a[0] - b[0]).flat()))
}

/**
 * Scenario C: 5,000 parallel clients on Redis. No client gets more than its limit, nothing fails, and nothing passes uncounted.
 * Measures the cost in Redis and what the gateway adds at p99, at 4,000 requests a second.
 */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startPeer, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { generate, wrongs } from '../harness/generate.mjs'
import { cpuMs, LOAD_CORE, pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { ask, folder, startScript, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { writeBetween } from '../harness/table.mjs'
import { addedLatency } from './added-latency.mjs'

const CLIENTS = 5000
const RATE = 4000
/** `store.gather` of the gateway that uses it: how long a decision may wait for others. */
const GATHER = '2ms'
/** Greatest share of a core that Redis may use, by the design. */
const REDIS_MARK = 0.1
const HOUR = 3_600_000
const CAPACITY = fileURLToPath(new URL('../../docs/capacity.md', import.meta.url))

async function checked(gateway, service, upstream, run) {
  const before = await gateway.metrics()
  const hits = (await ask(upstream.child)).hits
  const figures = await run()
  await sleep(300)
  const after = await gateway.metrics()
  const wrong = wrongs(figures)
  const delta = (name, labels) => after(name, labels) - before(name, labels)
  const labels = { tidegate_service: service }
  const open = delta('tidegate_fail_open_total', labels)
  if (open > 0) wrong.push(`${open} decisions failed open though Redis was well`)
  const decided = ['store', 'cache'].reduce(
    (sum, by) => sum + delta('tidegate_limit_decisions_total', { ...labels, decided_by: by }),
    0,
  )
  if (decided !== figures.sent) wrong.push(`${decided} decisions by the store for ${figures.sent} requests`)
  const seen = (await ask(upstream.child)).hits - hits
  if (seen !== figures.passed)
    wrong.push(`the upstream saw ${seen} requests, the clients ${figures.passed} answers`)
  return { ...figures, open, wrong }
}

export async function scenarioC({ rounds, seconds, quick, json, write }) {
  requireTools({ wrk: false })
  pinSelf()
  const dir = folder()
  const store = await startStore()
  const script = (name) => startScript(LOAD_CORE, fileURLToPath(new URL(name, import.meta.url)))
  const upstream = await startUpstream()
  const load = await script('../harness/paced-load.mjs')
  const long = quick ? 5 : 15
  // Each client asks for two more than it may have.
  const quota = Math.floor((RATE * long) / CLIENTS) - 2
  const bursts = quick ? 3 : 10
  const base = { dir, upstreamPort: upstream.port, redisPort: store.port }
  const contenders = []
  const result = { machine: shape(store.version), clients: CLIENTS, rate: RATE }
  const wrong = []
  let missed = false
  const verdict = (what, list) => {
    for (const w of list) {
      console.log(`WRONG ${what}: ${w}`)
      wrong.push(`${what}: ${w}`)
    }
  }
  try {
    const gateway = await startTidegate({
      ...base,
      services: { open: '1000000/min', quota: `${quota}/h`, burst: `${bursts - 1}/h`, free: 'unlimited' },
    })
    contenders.push(gateway)
    const gathering = await startTidegate({
      ...base,
      name: 'gathering',
      store: [`gather: ${GATHER}`],
      services: { gathered: '1000000/min' },
    })
    contenders.push(gathering)
    console.log(
      `${result.machine}\n${CLIENTS} clients with a connection and a consumer each, gateway on core 0, load, upstream and Redis on core 1`,
    )

    console.log(`\n## Every client within its limit, ${RATE} requests a second, ${long} s\n`)
    const job = (service, more) => ({
      url: `${gateway.url}/${service}`,
      clients: CLIENTS,
      ...more,
    })
    const at = { rate: RATE, seconds: long, warmup: 2 }
    async function withinLimit(contender, service, what) {
      let from
      const figures = await checked(contender, service, upstream, () =>
        generate(load, { url: `${contender.url}/${service}`, clients: CLIENTS, ...at }, () => {
          from = { redis: cpuMs(store.pid), gateway: cpuMs(contender.pid), at: performance.now() }
        }).then((seen) => {
          const ms = performance.now() - from.at
          return {
            ...seen,
            redis: (cpuMs(store.pid) - from.redis) / ms,
            gateway: (cpuMs(contender.pid) - from.gateway) / ms,
          }
        }),
      )
      if (figures.limited > 0) figures.wrong.push(`${figures.limited} denied, none expected`)
      verdict(what, figures.wrong)
      console.log(
        `${what}: ${figures.sent} sent, ${figures.passed} passed, ${figures.broken} broken. Redis: ${(figures.redis * 100).toFixed(1)} % of a core (mark: below ${REDIS_MARK * 100} %). Gateway: ${(figures.gateway * 100).toFixed(0)} % of a core.`,
      )
      const { sent, passed, redis: redisCore, gateway: gatewayCore, open: failedOpen } = figures
      return { sent, passed, redisCore, gatewayCore, failedOpen }
    }
    result.withinLimit = await withinLimit(gateway, 'open', 'within the limit')
    result.gathered = await withinLimit(gathering, 'gathered', `the same with store.gather: ${GATHER}`)
    missed = result.withinLimit.redisCore >= REDIS_MARK

    console.log(`\n## Every client over its limit of ${quota}, ${RATE} requests a second, ${long} s\n`)
    await sameHour(long + 10)
    const over = await checked(gateway, 'quota', upstream, () =>
      generate(load, job('quota', { ...at, warmup: 0 })),
    )
    if (over.clients.most > quota) over.wrong.push(`a client got ${over.clients.most} through`)
    if (over.clients.least < quota) over.wrong.push(`a client got only ${over.clients.least} through`)
    verdict('over the limit', over.wrong)
    console.log(
      `${over.sent} sent, ${over.passed} passed, ${over.limited} denied; every client got ${over.clients.least} to ${over.clients.most} through.`,
    )
    result.overLimit = { sent: over.sent, passed: over.passed, limited: over.limited, quota, ...over.clients }

    console.log(`\n## All ${CLIENTS} at the same moment, ${bursts} times, a limit of ${bursts - 1}\n`)
    await sameHour(60)
    const burst = await checked(gateway, 'burst', upstream, () => generate(load, job('burst', { bursts })))
    if (burst.clients.most > bursts - 1) burst.wrong.push(`a client got ${burst.clients.most} through`)
    if (burst.clients.least < bursts - 1) burst.wrong.push(`a client got only ${burst.clients.least} through`)
    verdict('at once', burst.wrong)
    console.log(
      `${burst.sent} sent, ${burst.passed} passed, ${burst.limited} denied. The last of a burst is answered after ${burst.latency.max.toFixed(0)} ms at worst, half of them after ${burst.latency.p50.toFixed(0)} ms.`,
    )
    result.burst = { sent: burst.sent, passed: burst.passed, limited: burst.limited, ...burst.latency }

    const pair = await startPeer('pair', { ...base, services: { open: 1_000_000 } })
    contenders.push(pair)
    const ways = [
      { name: 'direct', url: `http://127.0.0.1:${upstream.port}/open` },
      { name: 'tidegate, unlimited', url: `${gateway.url}/free`, pid: gateway.pid },
      { name: 'tidegate, limited', url: `${gateway.url}/open`, pid: gateway.pid },
      { name: `tidegate, limited, gather ${GATHER}`, url: `${gathering.url}/gathered`, pid: gathering.pid },
      { name: 'pair, limited', url: `${pair.url}/open`, pid: pair.pid },
    ]
    console.log(`\n## Added latency at ${RATE} requests a second, ms, from when a request was due\n`)
    result.latency = await addedLatency(load, ways, {
      clients: CLIENTS,
      rate: RATE,
      rounds,
      seconds,
      verdict,
    })
  } finally {
    for (const c of contenders) await stop(c.child)
    await stop(load.child, 'SIGKILL')
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  if (result.latency !== undefined) {
    const table = tableOf(result)
    console.log(`\n## Table\n\n${table}`)
    if (write && wrong.length === 0) writeBetween(CAPACITY, 'scenario-c', table)
    else if (write) console.log('\nNot written: what is wrong above is no result.')
  }
  const mark = missed
    ? `Scenario C holds, but for the mark of Redis without store.gather: ${GATHER}.`
    : 'Scenario C holds.'
  console.log(`\n${wrong.length === 0 ? mark : `Scenario C DOES NOT HOLD: ${wrong.length} findings.`}`)
  if (json) writeFileSync(json, `${JSON.stringify({ ...result, wrong }, null, 2)}\n`)
  return wrong.length === 0 && !missed
}

/** Prints a summary, as docs/capacity.md shows it. */
function tableOf({ machine, clients, rate, withinLimit, gathered, overLimit, burst, latency }) {
  const percent = (share) => `${(share * 100).toFixed(1)} % of a core`
  const ms = ({ p50, p99, p999 }) => [p50, p99, p999].map((value) => value.toFixed(2)).join(', ')
  const redis = ({ redisCore }) => `${percent(redisCore)}: ${redisCore < REDIS_MARK ? 'HOLD' : 'MISS'}`
  const { ways } = latency
  const rows = [
    ['within the limit: sent, passed', `${withinLimit.sent}, ${withinLimit.passed}`],
    ['decided without the store', withinLimit.failedOpen + gathered.failedOpen],
    [`Redis (mark: below ${REDIS_MARK * 100} %)`, redis(withinLimit)],
    [`Redis, store.gather: ${GATHER}`, redis(gathered)],
    ['gateway', percent(withinLimit.gatewayCore)],
    [`gateway, store.gather: ${GATHER}`, percent(gathered.gatewayCore)],
    ...Object.entries(ways).map(([way, figures]) => [`${way}: p50, p99, p99.9 in ms`, ms(figures)]),
    [
      'tidegate, limited: adds at p50, at p99',
      `${ways['tidegate, limited'].addedP50.toFixed(2)} ms, ${ways['tidegate, limited'].addedP99.toFixed(2)} ms`,
    ],
    [
      `over a limit of ${overLimit.quota}: every client got through`,
      overLimit.least === overLimit.most ? overLimit.most : `${overLimit.least} to ${overLimit.most}`,
    ],
    ['all at the same moment: the last answer after', `${burst.max.toFixed(0)} ms`],
  ]
  const lines = rows.map(([what, figure]) => `| ${what} | ${figure} |`)
  return [
    `| ${clients} clients, ${rate} requests a second | |`,
    '| --- | ---: |',
    ...lines,
    '',
    machine,
  ].join('\n')
}

/** Waits for the next hour if this one ends too soon: the previous window would count, and blur "exactly". */
async function sameHour(seconds) {
  const left = HOUR - (Date.now() % HOUR)
  if (left > seconds * 1000) return
  console.log(`(waiting ${Math.ceil(left / 1000)} s for the window to begin anew)`)
  await sleep(left + 100)
}

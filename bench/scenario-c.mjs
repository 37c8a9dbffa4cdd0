/**
 * Scenario C: 5,000 parallel clients on Redis. Nobody gets more than their limit, nothing fails, nothing is waved
 * through; what Redis costs and what the gateway adds at p99, at 4,000 requests a second.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startPeer, startTidegate } from './contenders.mjs'
import { cpuMs, LOAD_CORE, pinSelf, requireTools, shape, watchGatewayCore } from './machine.mjs'
import { ask, startScript, stop } from './process.mjs'
import { startStore } from './store.mjs'
import { median, printTable } from './table.mjs'

const CLIENTS = 5000
const RATE = 4000
const REDIS_MARK = 0.2
const HOUR = 3_600_000

/** Runs a job on the generator; `onCounting` is called when its warm-up is over. */
function generate(load, job, onCounting = () => {}) {
  return new Promise((resolve, reject) => {
    const ended = (code) => reject(new Error(`the load generator ended with ${code}`))
    load.child.once('exit', ended)
    load.child.on('message', function take({ event, figures }) {
      if (event === 'counting') return onCounting()
      load.child.off('message', take)
      load.child.off('exit', ended)
      resolve(figures)
    })
    load.child.send(job)
  })
}

/** What no run of this scenario may show. */
function wrongs(figures) {
  const wrong = []
  if (figures.broken > 0) wrong.push(`${figures.broken} broken connections (${figures.why})`)
  if (figures.unanswered > 0) wrong.push(`${figures.unanswered} requests without an answer`)
  for (const [status, n] of Object.entries(figures.other)) wrong.push(`${n} answers of ${status}`)
  return wrong
}

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
  return { ...figures, wrong }
}

export async function scenarioC({ rounds, seconds, quick, json }) {
  requireTools({ wrk: false })
  pinSelf()
  const dir = mkdtempSync(path.join(os.tmpdir(), 'tidegate-bench-'))
  const store = await startStore()
  const script = (name) => startScript(LOAD_CORE, fileURLToPath(new URL(name, import.meta.url)))
  const upstream = await script('upstream.mjs')
  const load = await script('paced-load.mjs')
  const long = quick ? 5 : 15
  // Everyone asks for two more than they may have.
  const quota = Math.floor((RATE * long) / CLIENTS) - 2
  const bursts = quick ? 3 : 10
  const base = { dir, upstreamPort: upstream.port, redisPort: store.port }
  const contenders = []
  const result = { machine: shape(store.version), clients: CLIENTS, rate: RATE }
  const wrong = []
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
    console.log(
      `${result.machine}\n${CLIENTS} clients with a connection and a consumer each, gateway on core 0, load, upstream and Redis on core 1`,
    )

    console.log(`\n## Every client within its limit, ${RATE} requests a second, ${long} s\n`)
    const job = (service, more) => ({
      port: Number(new URL(gateway.url).port),
      path: `/${service}`,
      clients: CLIENTS,
      ...more,
    })
    const at = { rate: RATE, seconds: long, warmup: 2 }
    let redisFrom
    let gatewayFrom
    let openAt
    const open = await checked(gateway, 'open', upstream, () =>
      generate(load, job('open', at), () => {
        redisFrom = cpuMs(store.pid)
        gatewayFrom = cpuMs(gateway.pid)
        openAt = performance.now()
      }).then((figures) => {
        const ms = performance.now() - openAt
        return {
          ...figures,
          redis: (cpuMs(store.pid) - redisFrom) / ms,
          gateway: (cpuMs(gateway.pid) - gatewayFrom) / ms,
        }
      }),
    )
    if (open.limited > 0) open.wrong.push(`${open.limited} denied, none expected`)
    verdict('within the limit', open.wrong)
    console.log(
      `${open.sent} sent, ${open.passed} passed, ${open.broken} broken. Redis: ${(open.redis * 100).toFixed(1)} % of a core (mark: below ${REDIS_MARK * 100} %). Gateway: ${(open.gateway * 100).toFixed(0)} % of a core.`,
    )
    if (open.redis >= REDIS_MARK) verdict('Redis', [`${(open.redis * 100).toFixed(1)} % of a core`])
    result.withinLimit = {
      sent: open.sent,
      passed: open.passed,
      redisCore: open.redis,
      gatewayCore: open.gateway,
    }

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

    console.log(`\n## Added latency at ${RATE} requests a second, ms, from when a request was due\n`)
    const pair = await startPeer('pair', { ...base, services: { open: 1_000_000 } })
    contenders.push(pair)
    const ways = [
      { name: 'direct', port: upstream.port, path: '/open' },
      {
        name: 'tidegate, unlimited',
        port: Number(new URL(gateway.url).port),
        path: '/free',
        pid: gateway.pid,
      },
      { name: 'tidegate, limited', port: Number(new URL(gateway.url).port), path: '/open', pid: gateway.pid },
      { name: 'pair, limited', port: pair.port, path: '/open', pid: pair.pid },
    ]
    const done = []
    for (let i = -1; i < rounds; i++) {
      const order = i % 2 ? [...ways].reverse() : ways
      const figures = {}
      for (const way of order) {
        const job = {
          port: way.port,
          path: way.path,
          clients: CLIENTS,
          rate: RATE,
          seconds: i < 0 ? 2 : seconds,
          warmup: 1,
        }
        const disturbed = watchGatewayCore()
        const cpu = way.pid ? cpuMs(way.pid) : 0
        const f = await generate(load, job)
        figures[way.name] = { ...f, others: disturbed(way.pid ? cpuMs(way.pid) - cpu : 0) }
        verdict(way.name, wrongs(f))
        if (f.limited > 0) verdict(way.name, [`${f.limited} denied`])
      }
      if (i >= 0) done.push(figures)
    }
    const row = (label, name, f, direct) => [
      label,
      name,
      f.latency.p50.toFixed(2),
      f.latency.p99.toFixed(2),
      f.latency.p999.toFixed(2),
      name === 'direct' ? '' : (f.latency.p50 - direct.latency.p50).toFixed(2),
      name === 'direct' ? '' : (f.latency.p99 - direct.latency.p99).toFixed(2),
      f.late.p99.toFixed(2),
      `${Math.round(f.others * 100)} %`,
    ]
    const mid = (pick) => median(done.map(pick))
    const summary = Object.fromEntries(
      ways.map(({ name }) => [
        name,
        {
          p50: mid((f) => f[name].latency.p50),
          p99: mid((f) => f[name].latency.p99),
          p999: mid((f) => f[name].latency.p999),
          addedP50: mid((f) => f[name].latency.p50 - f.direct.latency.p50),
          addedP99: mid((f) => f[name].latency.p99 - f.direct.latency.p99),
          late: mid((f) => f[name].late.p99),
          others: mid((f) => f[name].others),
        },
      ]),
    )
    printTable(
      ['round', 'way', 'p50', 'p99', 'p99.9', 'added p50', 'added p99', 'sent late p99', 'others on core'],
      [
        ...done.flatMap((f, i) => ways.map(({ name }) => row(i + 1, name, f[name], f.direct))),
        ...ways.map(({ name }) => {
          const s = summary[name]
          const added = name === 'direct' ? ['', ''] : [s.addedP50.toFixed(2), s.addedP99.toFixed(2)]
          return [
            'median',
            name,
            s.p50.toFixed(2),
            s.p99.toFixed(2),
            s.p999.toFixed(2),
            ...added,
            s.late.toFixed(2),
            `${Math.round(s.others * 100)} %`,
          ]
        }),
      ],
    )
    const limiter = mid((f) => f['tidegate, limited'].latency.p99 - f['tidegate, unlimited'].latency.p99)
    console.log(
      `\nThe gateway adds ${summary['tidegate, limited'].addedP99.toFixed(2)} ms at p99 (the pair ${summary['pair, limited'].addedP99.toFixed(2)} ms), its limiter ${limiter.toFixed(2)} ms of that.`,
    )
    result.latency = summary
    result.limiterP99 = limiter
  } finally {
    for (const c of contenders) await stop(c.child)
    await stop(load.child, 'SIGKILL')
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
    rmSync(dir, { recursive: true, force: true })
  }
  console.log(
    wrong.length === 0 ? '\nScenario C holds.' : `\nScenario C DOES NOT HOLD: ${wrong.length} findings.`,
  )
  if (json) writeFileSync(json, `${JSON.stringify({ ...result, wrong }, null, 2)}\n`)
  return wrong.length === 0
}

/** Waits for the next hour when this one ends too soon: the previous window would count, and blur "exactly". */
async function sameHour(seconds) {
  const left = HOUR - (Date.now() % HOUR)
  if (left > seconds * 1000) return
  console.log(`(waiting ${Math.ceil(left / 1000)} s for the window to begin anew)`)
  await sleep(left + 100)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.argv.splice(2, 0, 'c')
  await import('./run.mjs')
}

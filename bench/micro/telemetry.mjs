/**
 * `npm run bench -- telemetry`: what telemetry costs a request, in ns of the process's CPU; medians of interleaved rounds.
 * Also node bench/micro/telemetry.mjs, after npm run build; an argument names the file that the access log goes to, by
 * default /dev/null.
 */
import { openSync, writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { createKeptDecisions } from '../../dist/telemetry/decisions/decision-store.js'
import { createLineBuilder } from '../../dist/telemetry/logs/access-line.js'
import { createAccessLog } from '../../dist/telemetry/logs/access-log.js'
import { createLineFilter } from '../../dist/telemetry/logs/line-filter.js'
import { createMetrics } from '../../dist/telemetry/metrics.js'
import { createTop } from '../../dist/telemetry/top/top.js'
import { printMarks } from '../harness/marks.mjs'

const ROUNDS = 15
const CALLS = 200_000
/** Greatest cost of metrics for a request, in ns. */
const MOST_NS = 2000

function snapshotWith(routeCount) {
  const tiers = ['free', 'pro', 'enterprise']
  const limits = [{ name: 'minute', amount: 100, burst: 100, windowMs: 60_000, algorithm: 'sliding' }]
  const services = Array.from({ length: Math.ceil(routeCount / 10) }, (_, index) => ({
    index,
    name: `service-${index}`,
    upstreams: [{ origin: `http://10.0.0.${index % 250}:9001`, host: '', basePath: '' }],
    onFailure: 'open',
    policies: tiers.map(() => ({ limits, keyPart: '1m', header: '' })),
  }))
  const routes = Array.from({ length: routeCount }, (_, index) => ({
    index,
    label: `/api/v1/resource-${index}/*`,
    service: services[index % services.length],
    quotaOf: services[index % services.length],
    cost: 1,
  }))
  return {
    hash: '0123456789ab',
    loadedAt: Date.now(),
    config: { decisions: { sample: 0 } },
    tiers,
    defaultTier: 0,
    services,
    routes,
    consumers: [],
  }
}

const statuses = [200, 200, 200, 201, 404, 429]
function recordsOf(snapshot, count) {
  return Array.from({ length: count }, (_, i) => {
    const route = snapshot.routes[(i * 7) % snapshot.routes.length]
    const status = statuses[i % statuses.length]
    const allowed = status !== 429
    return {
      snapshot,
      requestId: `k3f9-${i.toString(36)}`,
      method: i % 4 === 0 ? 'POST' : 'GET',
      target: `/api/v1/resource-${i}/items/${i * 31}?page=${i}`,
      host: 'api.example.com',
      route,
      tier: i % 3,
      policy: route.quotaOf.policies[i % 3],
      consumer: `consumer-${i % 100}`,
      clientIp: '192.0.2.7',
      decision: {
        allowed,
        decidedBy: 'store',
        reason: undefined,
        binding: 0,
        violated: 0,
        remaining: 50,
        resetMs: 1,
        retryMs: 0,
        at: 0,
      },
      limitMs: 0.1 + (i % 10) / 7,
      status,
      error: allowed ? undefined : 'quota_exceeded',
      cause: undefined,
      upstream: allowed ? route.service.upstreams[0] : undefined,
      upstreamMs: allowed ? 1 + (i % 50) / 3 : 0,
      durationMs: 1.5 + (i % 50) / 3,
      bytesIn: 0,
      bytesOut: 512,
    }
  })
}

const metricsOf = (exponential) =>
  createMetrics({
    storeState: () => 'up',
    upstreams: () => [],
    logLinesDropped: () => 0,
    serviceName: 'bench',
    exponential,
    log: { warn() {} },
  })
const metrics = metricsOf(false)
const fine = metricsOf(true)
const few = recordsOf(snapshotWith(20), 1000)
const many = recordsOf(snapshotWith(2000), 10_000)
/** A realistic number of consumers, each with a string of its own, as it comes off a socket. */
const crowd = recordsOf(snapshotWith(20), 200_000).map((r, i) => ({
  ...r,
  consumer: `consumer-${(i * 7919) % 200_000}`,
}))
/** Each with a trace that is recorded. */
const traced = few.map((r, i) => ({
  ...r,
  trace: { traceId: `${i}`.padStart(32, '1'), spanId: `${i}`.padStart(16, '1'), sampled: true },
}))
const filter = createLineFilter({ sample: 0.5, maxErrors: 1000, onFlood() {} })
const limited = crowd.map((r) => ({ ...r, decision: { ...r.decision, allowed: false } }))
const near = crowd.map((r) => ({ ...r, decision: { ...r.decision, allowed: true, remaining: 1 } }))
const top = createTop()
const kept = createKeptDecisions({ keep: 10_000 })
const line = createLineBuilder()
const isScript = process.argv[1] === fileURLToPath(import.meta.url)
const log = createAccessLog({ destination: (isScript ? process.argv[2] : undefined) ?? '/dev/null' })
const perLine = openSync('/dev/null', 'w')

let length = 0
const OFF = 'off: the loop and a status read'
const cases = {
  [OFF]: (i) => {
    length += few[i % few.length].status >> 10
  },
  'metrics.record, 20 routes': (i) => metrics.record(few[i % few.length]),
  'metrics.record, 2,000 routes': (i) => metrics.record(many[i % many.length]),
  'metrics.record, exponential histograms, too': (i) => fine.record(few[i % few.length]),
  'metrics.record, each request traced': (i) => metrics.record(traced[i % traced.length]),
  'a line kept or not': (i) => {
    if (filter.keeps(few[i % few.length])) length++
  },
  'top.record, 100 consumers': (i) => top.record(few[i % few.length], 1000),
  'top.record, each another consumer': (i) => top.record(crowd[i % crowd.length], 1000),
  'top.record, each another consumer, all limited': (i) => top.record(limited[i % limited.length], 1000),
  'top.record, each another consumer, all near': (i) => top.record(near[i % near.length], 1000),
  'decision, not kept': (i) => kept.keep(near[i % near.length]),
  'decision, a denial': (i) => kept.keep(limited[i % limited.length]),
  'access line, built only': (i) => {
    length += line(few[i % few.length]).length
  },
  'access line, built and written in chunks': (i) => log.write(few[i % few.length]),
  'access line, one write call each': (i) => {
    if (i < CALLS / 10) writeSync(perLine, line(few[i % few.length]))
  },
}

export async function telemetry({ rounds }) {
  const results = Object.fromEntries(Object.keys(cases).map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of Object.entries(cases)) {
      const calls = name.includes('one write call') ? CALLS / 10 : CALLS
      const began = process.cpuUsage()
      for (let i = 0; i < calls; i++) {
        run(i)
        // faster than any gateway would: the writer has to get its turn
        if (i % 5000 === 4999) await log.flush()
      }
      const { user, system } = process.cpuUsage(began)
      results[name].push(((user + system) * 1000) / calls)
    }
  }
  for (const [name, times] of Object.entries(results)) {
    times.sort((a, b) => a - b)
    console.log(`${name.padEnd(48)} ${times[times.length >> 1].toFixed(0).padStart(6)} ns`)
  }
  console.log(`mean line ${Math.round(length / (rounds * CALLS))} characters, ${log.dropped()} lines dropped`)

  const before = process.memoryUsage().heapUsed
  const began = performance.now()
  const text = await metrics.scrape()
  const took = performance.now() - began
  const series = text.split('\n').filter((row) => row !== '' && !row.startsWith('#')).length
  console.log(
    `a scrape of ${series} lines, ${(text.length / 1e6).toFixed(1)} MB: ${took.toFixed(0)} ms, +${((process.memoryUsage().heapUsed - before) / 1e6).toFixed(0)} MB of heap`,
  )
  await log.close()
  filter.close()
  const mid = (name) => results[name][results[name].length >> 1]
  return printMarks(
    Object.keys(cases)
      .filter((name) => name.startsWith('metrics.record'))
      .map((name) => ({
        name: `${name} ≤ ${MOST_NS} ns more than off`,
        figure: `${(mid(name) - mid(OFF)).toFixed(0)} ns, ${(mid(name) / mid(OFF)).toFixed(1)} times`,
        holds: mid(name) - mid(OFF) <= MOST_NS,
      })),
  )
}

if (isScript) {
  process.exitCode = (await telemetry({ rounds: ROUNDS })) ? 0 : 1
}

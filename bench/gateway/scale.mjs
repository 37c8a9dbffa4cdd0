/**
 * `npm run bench -- routes`: CPU per request and memory by number of routes and of consumers. All routes and all consumers
 * are asked in turn. Memory is what is resident after a collection, once every route or consumer was asked.
 */
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { leftAfterGc, measurable } from '../harness/left-after-gc.mjs'
import { cpuMs, pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const CONNECTIONS = 64
const MOST = 1.1
const ROUTES = [10, 1_000, 10_000].map((routes) => ({ what: 'routes', routes, consumers: 1_000 }))
const CONSUMERS = [100, 100_000].map((consumers) => ({ what: 'consumers', routes: 10, consumers }))

async function measure({ routes, consumers }, seconds, upstream, store) {
  const dir = folder()
  await store.clear()
  const gateway = await startTidegate({
    dir,
    upstreamPort: upstream.port,
    redisPort: store.port,
    services: { open: `${OPEN_LIMIT}/min` },
    routes: Array.from({ length: routes }, (_, i) => ({
      path: `/open/r${i}/*`,
      service: 'open',
      strip: `/open/r${i}`,
    })),
    nodeArgs: measurable(dir),
  })
  try {
    const loaded = await leftAfterGc(gateway)
    const job = { url: `${gateway.url}/open`, connections: CONNECTIONS, consumers, routes }
    // Compiles the code and sends each a few requests: a first request fills the caches for later ones.
    let asked = (await wrk({ ...job, seconds: Math.max(4, seconds) })).requests
    while (asked < 4 * Math.max(routes, consumers)) asked += (await wrk({ ...job, seconds: 2 })).requests
    const from = cpuMs(gateway.pid)
    const load = await wrk({ ...job, seconds })
    const cpu = ((cpuMs(gateway.pid) - from) * 1000) / load.requests
    if (load.broken + load.refused > 0) throw new Error(`${load.broken} broken, ${load.refused} above 399`)
    const used = await leftAfterGc(gateway)
    return { cpu, rss: used.rss, heap: used.heapUsed, loadedHeap: loaded.heapUsed, loadedRss: loaded.rss }
  } finally {
    await stop(gateway.child)
  }
}

export async function scale({ rounds, seconds }) {
  requireTools({ wrk: true })
  pinSelf()
  // As the image and the systemd unit set it.
  process.env.MALLOC_ARENA_MAX = '2'
  const store = await startStore()
  const upstream = await startUpstream()
  console.log(`${shape(store.version)}\n${CONNECTIONS} connections; ${rounds} rounds of ${seconds} s`)
  const jobs = [...ROUTES, ...CONSUMERS]
  const results = jobs.map(() => [])
  try {
    for (let i = 0; i < rounds; i++) {
      const order = jobs.map((_, j) => (i % 2 ? jobs.length - 1 - j : j))
      for (const j of order) results[j].push(await measure(jobs[j], seconds, upstream, store))
      process.stderr.write(`round ${i + 1} of ${rounds}\n`)
    }
  } finally {
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  const mid = (j, key) => median(results[j].map((r) => r[key]))
  const mib = (n) => (n / 2 ** 20).toFixed(1)
  console.log()
  printTable(
    ['routes', 'consumers', 'CPU µs/req', 'resident MiB', 'heap MiB', 'heap MiB before the first request'],
    jobs.map(({ routes, consumers }, j) => [
      routes,
      consumers,
      mid(j, 'cpu').toFixed(1),
      mib(mid(j, 'rss')),
      mib(mid(j, 'heap')),
      mib(mid(j, 'loadedHeap')),
    ]),
  )
  console.log()
  const marks = []
  for (const [j, job] of jobs.entries()) {
    const first = jobs.findIndex(({ what }) => what === job.what)
    if (j === first) continue
    for (const [key, what] of [
      ['cpu', 'CPU per request'],
      ['rss', 'resident memory'],
    ]) {
      const all = results[j].map((r, i) => r[key] / results[first][i][key])
      marks.push({
        name: `${job[job.what]} ${job.what}: ${what} ≤ ${MOST} of that with ${jobs[first][job.what]}`,
        figure: `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)}–${Math.max(...all).toFixed(2)})`,
        holds: median(all) <= MOST,
      })
    }
  }
  return printMarks(marks)
}

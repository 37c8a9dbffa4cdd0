/** `npm run bench -- steady`: memory after each half minute of full load, ten minutes long. */
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { leftAfterGc, measurable } from '../harness/left-after-gc.mjs'
import { pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

/**
 * Greatest ratio of resident memory at the end to that at the end of the first fifth, when all is compiled and every pool is
 * full.
 */
const MOST = 1.03

export async function steady({ quick }) {
  requireTools({ wrk: true })
  pinSelf()
  const [samples, seconds] = quick ? [5, 4] : [20, 30]
  const dir = folder()
  const store = await startStore()
  const upstream = await startUpstream()
  console.log(shape(store.version))
  const gateway = await startTidegate({
    dir,
    upstreamPort: upstream.port,
    redisPort: store.port,
    services: { open: `${OPEN_LIMIT}/min`, denied: '1/min' },
    nodeArgs: measurable(dir),
  })
  const rows = []
  try {
    for (let i = 0; i < samples; i++) {
      const open = { url: `${gateway.url}/open`, connections: 64, consumers: 10_000 }
      const { requests } = await wrk({ ...open, seconds: seconds - 1 })
      const denied = await wrk({ ...open, url: `${gateway.url}/denied`, seconds: 1, consumers: 1_000 })
      const left = await leftAfterGc(gateway)
      rows.push({ second: (i + 1) * seconds, requests: requests + denied.requests, ...left })
      process.stderr.write(`${i + 1} of ${samples}\n`)
    }
  } finally {
    await stop(gateway.child)
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  const mib = (n) => (n / 2 ** 20).toFixed(1)
  printTable(
    ['after s', 'requests', 'resident MiB', 'heap used MiB', 'external MiB'],
    rows.map((r) => [r.second, r.requests, mib(r.rss), mib(r.heapUsed), mib(r.external)]),
  )
  console.log()
  const [first, last] = [rows[Math.floor(samples / 5) - 1], rows.at(-1)]
  return printMarks(
    [
      ['rss', 'resident memory'],
      ['heapUsed', 'heap'],
    ].map(([key, what]) => ({
      name: `${what} at ${last.second} s ≤ ${MOST} of that at ${first.second} s`,
      figure: (last[key] / first[key]).toFixed(3),
      holds: last[key] / first[key] <= MOST,
    })),
  )
}

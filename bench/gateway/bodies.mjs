/** `npm run bench -- bodies`: CPU per request with bodies in either direction, beside node:http in front of undici. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { OPEN_LIMIT, startFloor, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { hasNginx, startNginx } from '../contenders/nginx.mjs'
import { cpuMs, pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { ask, folder, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const CONNECTIONS = 32
const MOST = 1.15
const SIZES = [
  ['10 KB', 10_240],
  ['100 KB', 102_400],
  ['1 MB', 1_048_576],
]
const JOBS = SIZES.flatMap(([size, bytes]) => [
  { what: `${size} down`, bytes, tail: `body/${bytes}` },
  { what: `${size} up`, bytes, upload: bytes },
])

async function measure(contender, { what, bytes, tail, upload }, seconds, upstream) {
  const job = { url: `${contender.url}/open`, connections: CONNECTIONS, consumers: 1000, tail, upload }
  await wrk({ ...job, seconds: Math.min(seconds, 2) })
  await sleep(200)
  const [before, from] = [await ask(upstream.child), cpuMs(contender.pid)]
  const load = await wrk({ ...job, seconds })
  const cpu = ((cpuMs(contender.pid) - from) * 1000) / load.requests
  await sleep(200)
  const after = await ask(upstream.child)
  const wrong = []
  if (load.broken + load.refused > 0) wrong.push(`${load.broken} broken, ${load.refused} above 399`)
  const hits = after.hits - before.hits
  if (hits < load.requests || hits > load.requests + CONNECTIONS)
    wrong.push(`upstream hits: ${hits}, wrk counted ${load.requests}`)
  if (upload !== undefined && after.bytes - before.bytes < load.requests * bytes)
    wrong.push(`the upstream got ${after.bytes - before.bytes} bytes of ${load.requests} bodies`)
  return { name: contender.name, what, cpu, rate: load.requests / load.seconds, wrong }
}

export async function bodies({ rounds, seconds, only, before, json }) {
  requireTools({ wrk: true })
  pinSelf()
  const store = await startStore()
  const upstream = await startUpstream()
  const machine = shape(store.version)
  console.log(`${machine}\n${CONNECTIONS} connections; ${rounds} rounds of ${seconds} s each`)
  const all = []
  try {
    for (let i = 0; i < rounds; i++) {
      const base = { dir: folder(), upstreamPort: upstream.port, redisPort: store.port }
      const services = { open: `${OPEN_LIMIT}/min` }
      const wanted = (name) => only === undefined || only.includes(name)
      const contenders = [await startTidegate({ ...base, services }), await startFloor('bare', base)]
      if (before !== undefined) {
        const cli = path.join(before, 'dist/cli/tidegate.js')
        contenders.push(await startTidegate({ ...base, services, name: 'before', cli }))
      }
      if (wanted('nginx') && hasNginx()) contenders.push(await startNginx({ ...base, services }))
      try {
        for (const job of JOBS) {
          const order = i % 2 ? [...contenders].reverse() : contenders
          for (const c of order) all.push({ round: i, ...(await measure(c, job, seconds, upstream)) })
        }
      } finally {
        for (const c of contenders) await stop(c.child)
      }
      process.stderr.write(`round ${i + 1} of ${rounds}\n`)
    }
  } finally {
    await stop(upstream.child, 'SIGKILL')
    await store.stop()
  }
  const names = [...new Set(all.map((r) => r.name))]
  const of = (what, name) => all.filter((r) => r.what === what && r.name === name)
  const ratios = (what, peer = 'bare') => of(what, 'tidegate').map((r, i) => r.cpu / of(what, peer)[i].cpu)
  const spread = (n) => `${median(n).toFixed(2)} (${Math.min(...n).toFixed(2)}–${Math.max(...n).toFixed(2)})`
  console.log('\nCPU µs per request\n')
  printTable(
    ['body', ...names, 'tidegate / bare', ...(before === undefined ? [] : ['tidegate / before'])],
    JOBS.map(({ what }) => [
      what,
      ...names.map((name) => median(of(what, name).map((r) => r.cpu)).toFixed(1)),
      spread(ratios(what)),
      ...(before === undefined ? [] : [spread(ratios(what, 'before'))]),
    ]),
  )
  console.log()
  const invalid = all.filter((r) => r.wrong.length > 0)
  for (const r of invalid) console.log(`INVALID ${r.name}, ${r.what}: ${r.wrong.join('; ')}`)
  const marks = JOBS.map(({ what }) => ({
    name: `${what}: Tidegate ≤ ${MOST} of bare`,
    figure: spread(ratios(what)),
    holds: median(ratios(what)) <= MOST,
  }))
  const hold = printMarks(marks)
  if (json) writeFileSync(json, `${JSON.stringify({ machine, rounds, seconds, all, marks }, null, 2)}\n`)
  return hold && invalid.length === 0
}

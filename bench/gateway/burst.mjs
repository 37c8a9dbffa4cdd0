/**
 * `npm run bench -- burst`: 1,000 clients that connect at once and then ask as fast as they are answered, Tidegate beside nginx + Lua.
 * What counts is how long a client waits for its first response: a gateway that accepts slowly lets some wait while it serves the others.
 */

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { OPEN_LIMIT, startTidegate, startUpstream } from '../contenders/contenders.mjs'
import { hasNginxLua, startNginx } from '../contenders/nginx.mjs'
import { LOAD_CORE, pinSelf, requireTools, shape } from '../harness/machine.mjs'
import { printMarks } from '../harness/marks.mjs'
import { folder, startScript, stop } from '../harness/process.mjs'
import { startStore } from '../harness/store.mjs'
import { median, printTable } from '../harness/table.mjs'
import { wrk } from '../harness/wrk.mjs'

const CLIENTS = 1_000
const SECONDS = 2
/** Greatest p99 of Tidegate, as a multiple of that of nginx. */
const MOST = 2

/** Returns the number of connections that the kernel has turned away because a listen backlog was full. */
function overflows() {
  const lines = readFileSync('/proc/net/netstat', 'utf8').split('\n')
  const [names, values] = lines.filter((line) => line.startsWith('TcpExt:')).map((line) => line.split(' '))
  return Number(values[names.indexOf('ListenOverflows')])
}

async function burst(load, { url }) {
  // Connections of the last burst are closed by now.
  await sleep(500)
  const before = overflows()
  load.child.send({ port: Number(new URL(url).port), path: '/open', clients: CLIENTS, seconds: SECONDS })
  const [seen] = await once(load.child, 'message')
  return { ...seen, overflows: overflows() - before }
}

export async function burstOfConnections({ rounds, node, before, json }) {
  requireTools({ wrk: true })
  if (!hasNginxLua())
    throw new Error(
      'burst compares with nginx and Lua: install nginx, libnginx-mod-http-lua and lua-nginx-redis',
    )
  pinSelf()
  // nginx opens a connection to Redis for each client.
  const store = await startStore(['--tcp-backlog', 4096])
  const upstream = await startUpstream()
  const load = await startScript(
    LOAD_CORE,
    fileURLToPath(new URL('../harness/burst-load.mjs', import.meta.url)),
  )
  console.log(shape(store.version))
  const base = { dir: folder(), upstreamPort: upstream.port, redisPort: store.port }
  const ours = { ...base, node, services: { open: `${OPEN_LIMIT}/min` } }
  const contenders = [
    await startTidegate(ours),
    await startNginx({ ...base, services: { open: OPEN_LIMIT }, limited: true }),
  ]
  if (before !== undefined) {
    const cli = path.join(before, 'dist/cli/tidegate.js')
    contenders.push(await startTidegate({ ...ours, name: 'before', cli }))
  }
  const figures = Object.fromEntries(contenders.map(({ name }) => [name, []]))
  try {
    // By then the code is compiled.
    for (const { url } of contenders)
      await wrk({ url: `${url}/open`, connections: 64, seconds: 3, consumers: 1000 })
    for (let i = 0; i < rounds; i++) {
      for (const contender of i % 2 ? [...contenders].reverse() : contenders)
        figures[contender.name].push(await burst(load, contender))
    }
  } finally {
    for (const { child } of contenders) await stop(child)
    await stop(upstream.child)
    await stop(load.child)
    await store.stop()
  }
  const sum = (name, key) => figures[name].reduce((total, round) => total + round[key], 0)
  const mid = (name, key) => median(figures[name].map((round) => round[key]))
  console.log()
  printTable(
    [
      `${CLIENTS} clients at once: first response`,
      'p50 ms',
      'p99 ms',
      'least',
      'most',
      'overflows',
      'failed',
      'req/s',
    ],
    contenders.map(({ name }) => {
      const tails = figures[name].map((round) => round.p99)
      return [
        name,
        mid(name, 'p50').toFixed(0),
        mid(name, 'p99').toFixed(0),
        Math.min(...tails).toFixed(0),
        Math.max(...tails).toFixed(0),
        sum(name, 'overflows'),
        sum(name, 'wrong') + sum(name, 'missing'),
        Math.round(mid(name, 'requests') / SECONDS),
      ]
    }),
  )
  console.log()
  if (json !== undefined) writeFileSync(json, JSON.stringify(figures))
  const share = mid('tidegate', 'p99') / mid('nginx-lua', 'p99')
  const failed = sum('tidegate', 'wrong') + sum('tidegate', 'missing')
  return printMarks([
    {
      name: `${CLIENTS} new connections at once: p99 of the first response ≤ ${MOST} times that of nginx-lua`,
      figure: share.toFixed(2),
      holds: share <= MOST,
    },
    {
      name: 'every client is answered, and none was turned away by the kernel',
      figure: `${failed} failed, ${sum('tidegate', 'overflows')} overflows`,
      holds: failed + sum('tidegate', 'overflows') === 0,
    },
  ])
}

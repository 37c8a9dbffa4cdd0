/**
 * `npm run soak`: runs a gateway under mixed load, and fits its memory after forced collections to a line: how much it gains in
 * ten minutes. Needs redis-server. See README.md.
 */
import { parseArgs } from 'node:util'
import { after, ok, reset, startBackend, status } from './chaos/backend.mjs'
import { config, folder, startGateway } from './chaos/gateway.mjs'
import { sleep, startLoad } from './chaos/load.mjs'
import { leftAfterGc, measurable } from './harness/left-after-gc.mjs'
import { printMarks } from './harness/marks.mjs'
import { startStore } from './harness/store.mjs'
import { printTable } from './harness/table.mjs'

const usage = `Usage: npm run soak -- [options]

  --minutes N   of load, after one of warming up (10)
  --rate N      requests a second (600)
`

const { values } = parseArgs({
  options: { minutes: { type: 'string' }, rate: { type: 'string' }, help: { type: 'boolean' } },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const minutes = Number(values.minutes ?? 10)
const rate = Number(values.rate ?? 600)
/** Greatest growth in ten minutes of load, in percent. */
const MOST = 1
/** Samples over the requested minutes. */
const SAMPLES = 12
const MORE_SAMPLES = 5
/** Slopes below this many MiB are noise of the collector, however short the run. */
const NOISE = 2

const kinds = [ok, ok, ok, ok, after(20), status(500), reset]
let turn = 0
const backend = await startBackend((req, res) => kinds[turn++ % kinds.length](req, res))
const store = await startStore()
const gateway = await startGateway(
  config(
    {
      api: { upstreams: [backend.origin], outliers: false, limits: { free: '100000/s' } },
      tight: { upstreams: [backend.origin], outliers: false, limits: { free: '5/min' } },
    },
    {
      store: { redis: `redis://127.0.0.1:${store.port}`, timeout: '2s' },
      consumers: [{ header: { name: 'x-user-id', from: ['127.0.0.1'] } }, { ip: {} }],
      log: { access: '/dev/null' },
    },
  ),
  { nodeArgs: measurable(folder()) },
)

/** Fits a line by least squares. Returns the growth a minute. */
function slope(points) {
  const n = points.length
  const mean = (key) => points.reduce((sum, point) => sum + point[key], 0) / n
  const [mx, my] = [mean('x'), mean('y')]
  const over = points.reduce((sum, { x, y }) => sum + (x - mx) * (y - my), 0)
  return over / points.reduce((sum, { x }) => sum + (x - mx) ** 2, 0)
}

const target = () => `${gateway.address}/${turn % 5 === 0 ? 'tight' : 'api'}/${turn % 97}`
const warm = startLoad(target, { rate })
await sleep(Math.min(60_000, minutes * 60_000))
await warm.stop()
const rows = []
let requests = 0

async function sample(i) {
  if (i > 0) {
    const load = startLoad(target, { rate })
    await sleep((minutes * 60_000) / SAMPLES)
    requests += (await load.stop()).requests
  }
  const { outsideHeap, heapPages, heapUsed } = await leftAfterGc(gateway)
  rows.push({
    x: (i * minutes) / SAMPLES,
    outside: outsideHeap / 2 ** 20,
    pages: heapPages / 2 ** 20,
    heap: heapUsed / 2 ** 20,
    requests,
  })
  process.stderr.write(`${i} of ${SAMPLES}\n`)
}

/**
 * Returns how memory grows in V8's heap and outside it. Pages that V8 holds for later come in steps, whenever its young generation
 * doubles, and are no leak. By the end of the first quarter all is compiled and every pool is full.
 */
function gains() {
  const judged = rows.slice(-Math.ceil((SAMPLES * 3) / 4) - 1)
  return ['outside', 'heap'].map((key) => {
    const perMinute = slope(judged.map((row) => ({ x: row.x, y: row[key] })))
    const percent = (perMinute * 10 * 100) / rows[0][key]
    const mib = perMinute * minutes
    return { key, percent, mib, holds: percent <= MOST || mib <= NOISE }
  })
}

for (let i = 0; i <= SAMPLES; i++) await sample(i)
// A single step of the allocator is no leak, although a line through it looks like one: a leak goes on.
for (let i = 1; i <= MORE_SAMPLES && !gains().every(({ holds }) => holds); i++) await sample(SAMPLES + i)
const alive = gateway.alive()
await gateway.stop()
backend.stop()
await store.stop()

printTable(
  ['after min', 'requests', 'outside V8, MiB', 'heap MiB', 'pages of the heap, MiB'],
  rows.map(({ x, outside, heap, pages, requests }) => [
    x.toFixed(1),
    requests,
    outside.toFixed(1),
    heap.toFixed(2),
    pages.toFixed(1),
  ]),
)
console.log()
const marks = gains().map(({ key, percent, mib, holds }) => ({
  name: `${key}: at most ${MOST} % in ten minutes, or ${NOISE} MiB over the run`,
  figure: `${percent.toFixed(2)} %, ${mib.toFixed(2)} MiB over ${minutes} min`,
  holds: alive && holds,
}))
process.exit(printMarks(marks) ? 0 : 1)

/** A gateway of the check: a limiter with its own connections, which gets its requests at their moments. */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { connectStore } from '../../dist/limiter/redis/connect.js'
import { createRedisLimiter } from '../../dist/limiter/redis/redis.js'
import { idOf } from './population.mjs'
import { serviceOf } from './service.mjs'

const { scenario, port, events } = workerData
/** Ms for which a decision may wait: on a busy machine, too, none may be made without Redis. */
const PATIENT = 10_000
const LATE = 100
const FIELDS = 3
const FIRST = 5000

const quiet = { info() {}, warn() {}, error() {} }
const store = connectStore({ redis: `redis://127.0.0.1:${port}` }, quiet)
const limiter = createRedisLimiter({ store, timeoutMs: PATIENT, log: quiet })
const { service, policies } = serviceOf(scenario)
const byNumber = Object.values(policies)
const seen = { store: 0, cache: 0, degraded: 0, allowed: 0, late: 0 }
const waiting = new Set()

function count({ allowed, decidedBy }) {
  if (decidedBy === 'store' || decidedBy === 'cache') seen[decidedBy]++
  else seen.degraded++
  if (allowed) seen.allowed++
}

function send(at) {
  const [due, rank, tier] = [events[at], events[at + 1], events[at + 2]]
  if (Date.now() - epoch - due > LATE) seen.late++
  const decision = limiter.take(service, byNumber[tier], idOf(rank, scenario.idLength), 1)
  if (!(decision instanceof Promise)) {
    count(decision)
    return
  }
  waiting.add(decision)
  decision.then(count).finally(() => waiting.delete(decision))
}

let epoch = 0
let next = 0

await limiter.ready
// What the first calls allocate in Redis stays: scripts, buffers.
await Promise.all(
  Array.from({ length: FIRST }, (_, i) => limiter.take(service, byNumber[0], `first-${i}`, 1)),
)
parentPort.postMessage({ event: 'ready' })
const [start] = await once(parentPort, 'message')
epoch = start.epoch
const timer = setInterval(async () => {
  const passed = Date.now() - epoch
  for (; next < events.length && events[next] <= passed; next += FIELDS) send(next)
  if (next < events.length || passed < scenario.runMs) return
  clearInterval(timer)
  await Promise.all(waiting)
  parentPort.postMessage({ event: 'done', ...seen })
}, 1)

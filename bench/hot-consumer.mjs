/**
 * `npm run bench:hot`: measures one consumer with 50,000 requests a second, whose count is one key of one Redis: what
 * merged requests and remembered denials save, by number of gateways. See docs/capacity.md.
 */
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { GATEWAY_CORE, pinSelf, requireTools, shape } from './harness/machine.mjs'
import { startScript, stop } from './harness/process.mjs'
import { startStore } from './harness/store.mjs'

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '50000' },
    gateways: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
  },
})
const rate = Number(values.rate)
const seconds = Number(values.seconds)
const worker = fileURLToPath(new URL('limiter/hot-worker.mjs', import.meta.url))

const PLENTY = { algorithm: 'sliding', amount: 33_554_431, windowMs: 1000 }
const RATE = { algorithm: 'sliding', amount: 1000, windowMs: 1000 }
const QUOTA = { algorithm: 'fixed', amount: 10_000, windowMs: 86_400_000 }
const ONE_BY_ONE = { denials: 0, merge: false, batch: 1, gatherMs: 0 }
const CASES = [
  { name: 'all within the limit', limit: PLENTY, options: {} },
  { name: 'the same, not merged', limit: PLENTY, options: { merge: false } },
  { name: 'the same, one call each', limit: PLENTY, options: ONE_BY_ONE },
  { name: '1,000 a second', limit: RATE, options: {} },
  { name: 'the same, one call each', limit: RATE, options: ONE_BY_ONE },
  { name: 'a used up quota by day', limit: QUOTA, options: {} },
  { name: 'the same, no denial remembered', limit: QUOTA, options: { denials: 0 } },
]

async function measure({ limit, options }, gateways, store) {
  await store.clear()
  const argument = JSON.stringify({ port: store.port, ...options })
  const children = await Promise.all(
    Array.from({ length: gateways }, () => startScript(GATEWAY_CORE, worker, [argument])),
  )
  const run = (seconds) =>
    Promise.all(
      children.map(async ({ child }) => {
        child.send({ rate: rate / gateways, limit, seconds })
        return (await once(child, 'message'))[0]
      }),
    )
  try {
    await run(1)
    await store.resetCalls()
    const [cpu, from] = [await store.cpuUs(), performance.now()]
    const figures = await run(seconds)
    const tookMs = performance.now() - from
    const redis = ((await store.cpuUs()) - cpu) / 1000 / tookMs
    const { evalsha = 0 } = await store.calls()
    const sum = (key) => figures.reduce((total, one) => total + one[key], 0)
    return {
      redis: 100 * redis,
      calls: evalsha / (tookMs / 1000),
      allowed: sum('allowed') / (tookMs / 1000),
      rate: sum('total') / (tookMs / 1000),
      cpu: sum('cpuUs') / sum('total'),
      p50: Math.max(...figures.map(({ p50 }) => p50)),
      p99: Math.max(...figures.map(({ p99 }) => p99)),
      without: (100 * sum('without')) / sum('total'),
      cache: (100 * sum('cache')) / sum('total'),
    }
  } finally {
    await Promise.all(children.map(({ child }) => stop(child)))
  }
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]

requireTools({ wrk: false })
pinSelf()
const store = await startStore()
console.log(
  `${shape(store.version)}\n${rate} requests a second of one consumer, ${values.rounds} rounds of ${seconds} s\n`,
)
console.log(
  '| gateways | | Redis, % of a core | calls a second | requests a second | allowed a second | gateways, µs a request | p50, p99 in ms | from memory | without the store |',
)
console.log('| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
try {
  for (const gateways of values.gateways.split(',').map(Number)) {
    for (const one of CASES) {
      const rounds = []
      for (let i = 0; i < Number(values.rounds); i++) rounds.push(await measure(one, gateways, store))
      const of = (key, digits = 0) => median(rounds.map((round) => round[key])).toFixed(digits)
      console.log(
        `| ${gateways} | ${one.name} | ${of('redis', 1)} | ${of('calls')} | ${of('rate')} | ${of('allowed')} | ${of('cpu', 1)} | ${of('p50', 1)}, ${of('p99', 1)} | ${of('cache')} % | ${of('without', 1)} % |`,
      )
    }
  }
} finally {
  await store.stop()
}

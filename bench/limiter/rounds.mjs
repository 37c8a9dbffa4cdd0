/** Measures one limiter at a time, each in a new process on the gateway's core, all on one Redis on the other. */
import { fileURLToPath } from 'node:url'
import { GATEWAY_CORE, LOAD_CORE, watchCore } from '../harness/machine.mjs'
import { startScript, stop } from '../harness/process.mjs'

const worker = fileURLToPath(new URL('worker.mjs', import.meta.url))

export const IN_FLIGHT = [64, 256, 1024]
/** Parallelism of the parts that have only one. */
const USUAL = 256
export const RATE = 4000

const PEERS = ['@upstash/ratelimit', 'rate-limiter-flexible', '@fastify/rate-limit']

/** Parts of a round. */
export const PARTS = {
  rate: ['tidegate', ...PEERS, 'the harness alone'].map((subject) => ({
    subject,
    shape: 'one',
    jobs: IN_FLIGHT.map((inFlight) => ({ job: 'closedLoop', inFlight })),
  })),
  shapes: [
    ...['three', 'strict', 'token_bucket', 'fixed', 'calendar', 'concurrency'].map((shape) => [
      'tidegate',
      shape,
    ]),
    ['rate-limiter-flexible', 'three'],
  ].map(([subject, shape]) => ({ subject, shape, jobs: [{ job: 'closedLoop', inFlight: USUAL }] })),
  denied: ['tidegate', ...PEERS].map((subject) => ({
    subject,
    shape: 'denied',
    jobs: [{ job: 'closedLoop', inFlight: IN_FLIGHT[0] }],
  })),
  latency: ['tidegate', 'tidegate, gather: 0', 'tidegate, gathering', ...PEERS, 'the harness alone'].map(
    (subject) => ({
      subject,
      shape: 'one',
      jobs: [{ job: 'paced', rate: RATE }],
    }),
  ),
}

const CONSUMERS = 10_000
const CONSUMERS_DENIED = 1000

/** Ms that a job may take beyond its planned time. */
const PATIENCE = 30_000

function ask(child, job) {
  child.send(job)
  return new Promise((resolve, reject) => {
    const failed = (what) => reject(new Error(`the process under test ${what} in the middle of ${job.job}`))
    const ended = (code) => failed(`ended with ${code}`)
    const late = setTimeout(
      () => failed('did not come back'),
      (job.ms ?? (job.seconds ?? 0) * 1000) + PATIENCE,
    )
    child.once('exit', ended)
    child.on('message', function listen({ event, figures }) {
      if (event !== 'done') return
      clearTimeout(late)
      child.off('message', listen)
      child.off('exit', ended)
      resolve(figures)
    })
  })
}

/** @returns the figures of each job: the worker's, and those of the two cores and of Redis */
export async function measure({ subject, shape, jobs }, { store, seconds, warmup }) {
  await store.clear()
  const consumers = shape === 'denied' ? CONSUMERS_DENIED : CONSUMERS
  const argument = JSON.stringify({ subject, shape, port: store.port, consumers })
  const { child } = await startScript(GATEWAY_CORE, worker, [argument])
  try {
    await ask(child, { job: 'closedLoop', inFlight: USUAL, ms: warmup * 1000 })
    const results = []
    for (const job of jobs) results.push(await measureOne(child, job, { store, seconds }))
    const invalid = await problems({ child, subject, shape, results, consumers, store })
    return results.map((result) => ({ subject, shape, invalid, ...result }))
  } finally {
    await stop(child)
  }
}

async function measureOne(child, job, { store, seconds }) {
  let disturbedGateway
  let disturbedRedis
  let cpu
  let from
  const begin = async () => {
    await store.resetCalls()
    cpu = await store.cpuUs()
    disturbedGateway = watchCore(GATEWAY_CORE)
    disturbedRedis = watchCore(LOAD_CORE)
    from = performance.now()
  }
  let figures
  if (job.job === 'paced') {
    const counting = async ({ event }) => event === 'counting' && begin()
    child.on('message', counting)
    figures = await ask(child, { ...job, seconds, warmup: 1 })
    child.off('message', counting)
  } else {
    await begin()
    figures = await ask(child, { ...job, ms: seconds * 1000 })
  }
  const tookMs = performance.now() - from
  const redisUs = (await store.cpuUs()) - cpu
  const { evalsha = 0, eval: evals = 0 } = await store.calls()
  return {
    ...job,
    ...figures,
    redisUs,
    redisShare: redisUs / 1000 / tookMs,
    calls: evalsha + evals,
    // In a paced run the gateway's own CPU cannot be told apart from the pacer's.
    othersOnGateway: figures.cpuUs === undefined ? undefined : disturbedGateway(figures.cpuUs / 1000),
    othersOnRedis: disturbedRedis(redisUs / 1000),
  }
}

/** Checks that the work of a figure was done. @returns the fault, or undefined */
async function problems({ child, subject, shape, results, consumers, store }) {
  if (subject === 'the harness alone') return undefined
  for (const { job, allowed, denied, decidedBy, decisions, calls } of results) {
    const { open = 0, local = 0, closed = 0 } = decidedBy
    if (open + local + closed > 0) return `decided without the store: ${JSON.stringify(decidedBy)}`
    if (job !== 'closedLoop') continue
    if (shape === 'denied' && allowed > 0) return `${allowed} were allowed that are over the limit`
    if (shape !== 'denied' && denied > 0) return `${denied} were denied that are within the limit`
    if (subject !== 'tidegate' && shape === 'one' && Math.abs(calls - decisions) > 1024)
      return `${calls} script calls for ${decisions} decisions`
  }
  const keys = await store.keys()
  // A bucket is full again within milliseconds, and a slot is given back: both leave no key.
  const lasting = !['concurrency', 'token_bucket'].includes(shape)
  if (keys < consumers && lasting) return `${keys} keys for ${consumers} consumers`
  if (subject !== 'tidegate' || shape === 'denied' || !lasting) return undefined
  const off = await ask(child, { job: 'check' })
  return off <= 2 ? undefined : `a consumer's count in the store is off by ${off}`
}

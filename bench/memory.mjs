/**
 * `npm run bench:memory`: measures the Redis memory of a consumer, by loading consumers for real through the limiter and its
 * scripts. See README.md.
 */
import os from 'node:os'
import { parseArgs } from 'node:util'
import { policyOf } from '../dist/config/snapshot/policy.js'
import { connectStore } from '../dist/limiter/redis/connect.js'
import { createRedisLimiter } from '../dist/limiter/redis/redis.js'
import { requireTools, shape } from './harness/machine.mjs'
import { printMarks } from './harness/marks.mjs'
import { startStore } from './harness/store.mjs'
import { printTable } from './harness/table.mjs'

const usage = `Usage: npm run bench:memory -- [options]

  --consumers N   of the rows with marks (1000000)
  --few N         of the row of each algorithm (100000)
`

const HOUR = 3_600_000
const AMOUNT = 1000
const TEN_MILLION = 10_000_000
/** Redis memory that the design allows for 10 million consumers, in bytes. */
const DESIGN = 2e9
const IN_FLIGHT = 2048
/** Ms until Redis has freed the buffers of a busy connection. */
const SETTLE = 4000

const short = (i) => `u${1_000_000_000 + i}`
const uuid = (i) => `${i.toString(16).padStart(8, '0')}-9c3e-4f1a-8b2d-6e5f7a8b9c0d`

const limit = (algorithm, windowMs) => ({
  name: `${algorithm}-${windowMs}`,
  algorithm,
  by: 'consumer',
  amount: AMOUNT,
  windowMs,
  burst: AMOUNT,
  calendar: algorithm === 'calendar' ? { period: 'month', timeZone: 'Europe/Berlin' } : undefined,
})
const THREE = [limit('sliding', HOUR), limit('sliding', 2 * HOUR), limit('sliding', 24 * HOUR)]

const MARKED = [
  {
    name: 'one limit, ids of 11 characters',
    limits: [limit('sliding', HOUR)],
    id: short,
    most: 140,
    mostOfAll: 1.4e9,
  },
  {
    name: 'one limit, ids of 36 characters',
    limits: [limit('sliding', HOUR)],
    id: uuid,
    most: 172,
    mostOfAll: 1.75e9,
  },
  { name: 'three limits, ids of 11 characters', limits: THREE, id: short, most: 190 },
]
const ALGORITHMS = ['sliding', 'strict', 'token_bucket', 'fixed', 'calendar', 'concurrency'].map(
  (algorithm) => ({
    name: algorithm,
    limits: [limit(algorithm, algorithm === 'calendar' ? 31 * 24 * HOUR : HOUR)],
    id: short,
    // A bucket's key goes when it is full again; emptied, it stays for the hour.
    cost: algorithm === 'token_bucket' ? AMOUNT : 1,
  }),
)

async function usedMemory(redis) {
  await new Promise((resolve) => setTimeout(resolve, SETTLE))
  return Number(/used_memory:(\d+)/.exec(await redis.info('memory'))[1])
}

/** Sends one request of each consumer. */
async function load(limiter, { limits, id, cost = 1 }, consumers) {
  const policy = policyOf(limits, { refunds: false, candidate: undefined })
  const service = { index: 0, name: 'orders', upstreams: [], onFailure: 'closed', policies: [policy] }
  let next = 0
  async function caller() {
    while (next < consumers) {
      const i = next++
      const { allowed, decidedBy } = await limiter.take(service, policy, id(i), cost)
      if (!allowed || decidedBy !== 'store') throw new Error(`consumer ${id(i)}: decided by ${decidedBy}`)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller))
}

async function measure({ store, limiter }, row, consumers) {
  await store.clear()
  const before = await usedMemory(store.redis)
  await load(limiter, row, consumers)
  const after = await usedMemory(store.redis)
  const keys = await store.keys()
  if (keys !== consumers) throw new Error(`${row.name}: ${keys} keys for ${consumers} consumers`)
  return { ...row, consumers, before, after, bytes: (after - before) / consumers }
}

/**
 * Bytes of Redis' two hash tables (keys, expiries): 8 for each place, and the number of places is a power of two. At a million
 * they are nearly all taken and at ten million not, so a consumer costs more there than multiplying says.
 */
const tables = (keys) => 2 * 8 * 2 ** Math.ceil(Math.log2(keys))

const tenMillion = ({ bytes, consumers }) => ({
  multiplied: bytes * TEN_MILLION,
  withTables: (bytes - tables(consumers) / consumers) * TEN_MILLION + tables(TEN_MILLION),
})

const gigabytes = (n) => `${(n / 1e9).toFixed(2)} GB`
const thousands = (n) => Math.round(n).toLocaleString('en')

function report(marked, algorithms) {
  const row = (r) => [
    r.name,
    thousands(r.consumers),
    thousands(r.before),
    thousands(r.after),
    r.bytes.toFixed(1),
  ]
  printTable(
    [
      '',
      'consumers',
      'used_memory before',
      'after',
      'bytes each',
      '10 million: × 10',
      'with hash tables of their size',
    ],
    marked.map((r) => {
      const { multiplied, withTables } = tenMillion(r)
      return [...row(r), gigabytes(multiplied), gigabytes(withTables)]
    }),
  )
  console.log(
    '\nEach algorithm, one limit, ids of 11 characters (what is stored is as long after many requests)\n',
  )
  printTable(['', 'consumers', 'used_memory before', 'after', 'bytes each'], algorithms.map(row))
  const marks = marked.flatMap((r) => {
    const { multiplied, withTables } = tenMillion(r)
    const each = {
      name: `${r.name}: ≤ ${r.most} bytes`,
      figure: r.bytes.toFixed(1),
      holds: r.bytes <= r.most,
    }
    if (r.mostOfAll === undefined) return [each]
    return [
      each,
      {
        name: `${r.name}: 10 million, multiplied, ≤ ${gigabytes(r.mostOfAll)}`,
        figure: gigabytes(multiplied),
        holds: multiplied <= r.mostOfAll,
      },
      {
        name: `${r.name}: 10 million within the design's ${gigabytes(DESIGN)}`,
        figure: gigabytes(withTables),
        holds: withTables <= DESIGN,
      },
    ]
  })
  console.log()
  return printMarks(marks)
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      consumers: { type: 'string', default: '1000000' },
      few: { type: 'string', default: '100000' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const number = (name) => {
    const n = Number(values[name])
    if (!Number.isInteger(n) || n < 1) throw new Error(`--${name} takes a whole number above 0`)
    return n
  }
  return { help: values.help, consumers: number('consumers'), few: number('few') }
}

async function main({ consumers, few }) {
  requireTools({ wrk: false })
  const store = await startStore()
  const quiet = { info() {}, warn() {}, error() {} }
  const client = connectStore({ redis: `redis://127.0.0.1:${store.port}` }, quiet)
  // The load has to be complete, not quick: on a busy machine no decision may pass uncounted.
  const limiter = createRedisLimiter({ store: client, timeoutMs: 10_000, log: quiet })
  try {
    await limiter.ready
    console.log(
      `${shape(store.version)}\nload average ${os.loadavg()[0].toFixed(2)}, which does not change bytes\n`,
    )
    // The first keys and calls allocate what stays: scripts, buffers.
    await load(limiter, MARKED[0], 10_000)
    const marked = []
    for (const row of MARKED) marked.push(await measure({ store, limiter }, row, consumers))
    const algorithms = []
    for (const row of ALGORITHMS) algorithms.push(await measure({ store, limiter }, row, few))
    return report(marked, algorithms)
  } finally {
    await limiter.close()
    client.disconnect()
    await store.stop()
  }
}

let options
try {
  options = readOptions()
} catch (error) {
  console.error(`${error.message}\n\n${usage}`)
  process.exit(2)
}
if (options.help) {
  console.log(usage)
  process.exit(0)
}
try {
  process.exit((await main(options)) ? 0 : 1)
} catch (error) {
  console.error(`bench:memory: ${error.stack}`)
  process.exit(1)
}

/** Runs one gateway's limiter in a process of its own, and sends it requests of one consumer at a steady rate. */
const { port, ...options } = JSON.parse(process.argv[2])
const { connectStore } = await import('../../dist/limiter/redis/connect.js')
const { createRedisLimiter } = await import('../../dist/limiter/redis/redis.js')
const { policyOf } = await import('../../dist/config/snapshot/policy.js')

const quiet = { info() {}, warn() {} }
const store = connectStore({ redis: `redis://127.0.0.1:${port}` }, quiet)
const limiter = createRedisLimiter({ store, timeoutMs: 100, log: quiet, ...options })
await limiter.ready

function policyFor({ algorithm, amount, windowMs }) {
  const limit = { name: 'hot', algorithm, by: 'consumer', amount, windowMs, burst: amount }
  return policyOf([{ ...limit, calendar: undefined }], { refunds: false, candidate: undefined })
}

/**
 * Sends `rate` requests a second. Those that are due in the same millisecond come together, as they do in a busy event
 * loop. The latency of each counts from when it was due.
 */
async function serve({ rate, limit, seconds }) {
  const policy = policyFor(limit)
  const service = { index: 0, name: 'hot', upstreams: [], onFailure: 'open', policies: [policy] }
  const total = Math.round(rate * seconds)
  const latency = new Float64Array(total)
  const counts = { allowed: 0, store: 0, cache: 0, without: 0 }
  const cpu = process.cpuUsage()
  const startAt = performance.now() + 5
  let sent = 0
  let answered = 0
  await new Promise((finish) => {
    function note(i, { allowed, decidedBy }) {
      latency[i] = performance.now() - startAt - (i * 1000) / rate
      if (allowed) counts.allowed++
      if (decidedBy === 'store' || decidedBy === 'cache') counts[decidedBy]++
      else counts.without++
      if (++answered === total) finish()
    }
    const timer = setInterval(() => {
      const due = Math.min(total, Math.floor(((performance.now() - startAt) * rate) / 1000))
      for (; sent < due; sent++) {
        const i = sent
        const answer = limiter.take(service, policy, 'hot', 1)
        if (answer instanceof Promise) answer.then((decision) => note(i, decision))
        else note(i, answer)
      }
      if (sent === total) clearInterval(timer)
    }, 1)
  })
  const { user, system } = process.cpuUsage(cpu)
  latency.sort()
  const at = (p) => latency[Math.floor(p * (total - 1))]
  return { ...counts, total, cpuUs: user + system, p50: at(0.5), p99: at(0.99) }
}

process.on('message', async (job) => process.send(await serve(job)))
process.on('disconnect', () => process.exit(0))
process.send({ port: 0 })

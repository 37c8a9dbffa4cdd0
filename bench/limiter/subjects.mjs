/**
 * The limiters, each behind the same interface: `take(i)` decides a request of cost 1 of consumer i and tells whether it is
 * allowed, at once or by a promise. Every one has a Redis connection of its own, with the client's default settings.
 */
import { createHash } from 'node:crypto'

/** 11 characters each, the length of the shorter ids that memory is measured with. */
export const consumerId = (i) => `u${String(1_000_000_000 + i)}`

const HOUR = 3_600_000
/** So much that nothing is denied, unless a shape needs denials. */
const PLENTY = 1_000_000

const limit = (algorithm, windowMs, amount = PLENTY) => ({
  name: `${algorithm}-${windowMs}`,
  algorithm,
  by: 'consumer',
  amount,
  windowMs,
  burst: amount,
  calendar: algorithm === 'calendar' ? { period: 'day', timeZone: 'Europe/Berlin' } : undefined,
})

/** Limits of a consumer, by shape. Peers know `one`, `three` or `denied` only. */
export const SHAPES = {
  one: [limit('sliding', HOUR)],
  three: [limit('sliding', 1000), limit('sliding', 60_000), limit('sliding', HOUR)],
  strict: [limit('strict', HOUR)],
  token_bucket: [limit('token_bucket', HOUR)],
  fixed: [limit('fixed', HOUR)],
  calendar: [limit('calendar', 24 * HOUR)],
  concurrency: [limit('concurrency', 60_000, 1000)],
  denied: [limit('sliding', HOUR, 1)],
}

const quiet = { info() {}, warn() {}, error() {} }

async function tidegate({ port, shape, consumers }, gatherMs = 'auto') {
  const { connectStore } = await import('../../dist/limiter/redis/connect.js')
  const { createRedisLimiter } = await import('../../dist/limiter/redis/redis.js')
  const { policyOf } = await import('../../dist/config/snapshot/policy.js')
  const store = connectStore({ redis: `redis://127.0.0.1:${port}` }, quiet)
  const limiter = createRedisLimiter({ store, timeoutMs: 100, log: quiet, gatherMs })
  await limiter.ready
  const policy = policyOf(SHAPES[shape], { refunds: false, candidate: undefined })
  const service = { index: 0, name: 'orders', upstreams: [], onFailure: 'open', policies: [policy] }
  const ids = consumers.map(consumerId)
  const decidedBy = {}

  const note = (decision) => {
    decidedBy[decision.decidedBy] = (decidedBy[decision.decidedBy] ?? 0) + 1
    return decision.allowed
  }
  const plain = (i) => {
    const decision = limiter.take(service, policy, ids[i], 1)
    return decision instanceof Promise ? decision.then(note) : note(decision)
  }
  /** A request that comes and goes: its slot is given back at once. */
  const held = async (i) => {
    const consumer = ids[i]
    const decision = await limiter.take(service, policy, consumer, 1)
    if (decision.allowed) {
      const charge = { service, policy, consumer, levels: undefined, cost: 1, ...decision }
      await limiter.settle(charge, 0, 'release')
    }
    return note(decision)
  }

  return {
    take: shape === 'concurrency' ? held : plain,
    decidedBy: () => ({ ...decidedBy }),
    /** Returns how much of the last limit a consumer has used, by the store. */
    used: async (i) => (await limiter.usage(service, policy, ids[i])).at(-1).used,
  }
}

/**
 * The class as its README shows it, on ioredis in place of its own HTTP client. Its scripts begin with a flag that only
 * Upstash's Redis knows (`Unexpected flag in script shebang: allow-key-locking`), so that line is taken out.
 */
async function upstash({ port, shape, consumers }) {
  const { Ratelimit } = await import('@upstash/ratelimit')
  const { Redis } = await import('ioredis')
  const redis = new Redis({ port })
  const withoutFlag = new Map()
  const ratelimit = new Ratelimit({
    redis: {
      evalsha(sha, keys, args) {
        const own = withoutFlag.get(sha)
        if (own === undefined) return Promise.reject(new Error('NOSCRIPT'))
        return redis.evalsha(own, keys.length, ...keys, ...args)
      },
      async eval(script, keys, args) {
        const bare = script.replace(/^#!lua[^\n]*\n/, '')
        withoutFlag.set(sha1(script), await redis.script('LOAD', bare))
        return redis.eval(bare, keys.length, ...keys, ...args)
      },
    },
    limiter: Ratelimit.slidingWindow(SHAPES[shape][0].amount, '1 h'),
  })
  const ids = consumers.map(consumerId)
  return { take: async (i) => (await ratelimit.limit(ids[i])).success }
}

const sha1 = (text) => createHash('sha1').update(text).digest('hex')

/** Fixed windows. Three limits are its union, which is not atomic. Denials are cached as its README advises. */
async function flexible({ port, shape, consumers }) {
  const { default: rlf } = await import('rate-limiter-flexible')
  const { Redis } = await import('ioredis')
  const storeClient = new Redis({ port })
  const limiters = SHAPES[shape].map(
    ({ amount, windowMs }) =>
      new rlf.RateLimiterRedis({
        storeClient,
        keyPrefix: `orders-${windowMs}`,
        points: amount,
        duration: windowMs / 1000,
        inMemoryBlockOnConsumed: amount,
      }),
  )
  const limiter = limiters.length === 1 ? limiters[0] : new rlf.RateLimiterUnion(...limiters)
  const ids = consumers.map(consumerId)
  const denied = (reason) => {
    if (reason instanceof Error) throw reason
    return false
  }
  return { take: (i) => limiter.consume(ids[i], 1).then(() => true, denied) }
}

/** The plugin's store, called as the plugin calls it. Fixed windows, one limit, no memory of denials. */
async function fastify({ port, shape, consumers }) {
  const { default: RedisStore } = await import('@fastify/rate-limit/store/RedisStore.js')
  const { Redis } = await import('ioredis')
  const store = new RedisStore(false, false, new Redis({ port }), 'fastify-rate-limit-')
  const [{ amount, windowMs }] = SHAPES[shape]
  const ids = consumers.map(consumerId)
  const answerOf = (i) =>
    new Promise((resolve, reject) => {
      store.incr(ids[i], (error, answer) => (error ? reject(error) : resolve(answer)), windowMs, amount)
    })
  return { take: async (i) => (await answerOf(i)).current <= amount }
}

/** Decides nothing, and so measures the harness itself, in the same turns of the event loop. */
async function nothing() {
  let waiting = []
  const flush = () => {
    const all = waiting
    waiting = []
    for (const resolve of all) resolve(true)
  }
  return {
    take: () =>
      new Promise((resolve) => {
        if (waiting.push(resolve) === 1) setImmediate(flush)
      }),
  }
}

export const SUBJECTS = {
  tidegate,
  'tidegate, gather: 0': (options) => tidegate(options, 0),
  /** `store.gather: 1ms` */
  'tidegate, gathering': (options) => tidegate(options, 1),
  '@upstash/ratelimit': upstash,
  'rate-limiter-flexible': flexible,
  '@fastify/rate-limit': fastify,
  'the harness alone': nothing,
}

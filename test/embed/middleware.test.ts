import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { type EmbeddedLimiter, type LimiterSettings, openLimiter } from '../../src/embed/limiter.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

t.jobs = 4

/** The part of Express that the tests use, so that nothing else needs its types. */
interface Express extends RequestListener {
  set(name: string, value: unknown): void
  use(...handlers: unknown[]): void
  get(path: string, ...handlers: unknown[]): void
}
const express = (await import('express' as string)).default as () => Express

type Asking = IncomingMessage & { ip?: string; rateLimit?: unknown }

function limiterOf(t: Test, settings: Partial<LimiterSettings> = {}): EmbeddedLimiter {
  const limiter = openLimiter({ limits: { free: '2/min' }, ...settings })
  t.teardown(limiter.close)
  return limiter
}

/** Serves, and returns a function that asks. */
async function serve(t: Test, server: Server) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return async (path = '/', headers: Record<string, string> = {}) => {
    const { statusCode: status, headers: fields, body } = await request(origin + path, { headers })
    return { status, headers: fields, text: await body.text() }
  }
}

const OK = { status: 200, text: 'ok' }
const DENIED = {
  status: 429,
  headers: { 'content-type': 'application/problem+json', 'retry-after': /^\d+$/ },
}

t.test(
  'Express 5: RateLimit fields, 429 as problem+json, and what express-rate-limit puts on the request',
  async (t) => {
    const limiter = limiterOf(t)
    const app = express()
    app.set('trust proxy', true)
    app.use(limiter.middleware())
    let seen: unknown
    app.get('/', (req: Asking, res: ServerResponse) => {
      seen = req.rateLimit
      res.end('ok')
    })
    const ask = await serve(t, createServer(app))
    t.match(await ask(), {
      ...OK,
      headers: {
        ratelimit: /^"minute";r=1;t=\d+$/,
        'ratelimit-policy': '"minute";q=2;w=60',
        'x-ratelimit-limit': '2',
        'x-ratelimit-remaining': '1',
        'x-ratelimit-reset': /^\d+$/,
      },
    })
    t.match(seen, { limit: 2, used: 1, remaining: 1, resetTime: Date })
    t.match(await ask(), OK)
    const denied = await ask()
    t.match(denied, { ...DENIED, headers: { ...DENIED.headers, 'x-ratelimit-remaining': '0' } })
    const problem = JSON.parse(denied.text)
    t.match(problem, { status: 429, code: 'quota_exceeded', 'violated-policies': ['minute'] })
    t.match(
      problem.detail,
      /^The quota "minute" \(2 per 60 s\) of tier free on api is used up; try again in \d+ s\.$/,
    )
    t.notOk('request_id' in problem)
    t.match(await ask('/', { 'x-forwarded-for': '192.0.2.9' }), OK, 'req.ip follows trust proxy')
    t.match(await ask('/', { 'x-forwarded-for': '2001:db8::1' }), OK)
    t.match(await ask('/', { 'x-forwarded-for': '2001:db8::2' }), OK)
    t.match(await ask('/', { 'x-forwarded-for': '2001:db8::3' }), DENIED, 'one /64 is one client')
  },
)

t.test('node:http: tier, key, cost, skip, exempt; an error of theirs reaches next', async (t) => {
  const limiter = limiterOf(t, { limits: { free: '10/min', pro: '100/min' } })
  t.throws(() => limiter.middleware(), { message: 'give a tier; the tiers are free, pro' })
  t.throws(() => limiter.middleware({ tier: 'free', keyGenrator: () => '' } as never), {
    message: /unknown setting "keyGenrator"; did you mean "keyGenerator"/,
  })
  const limit = limiter.middleware({
    tier: async ({ headers }) => String(headers['x-tier'] ?? 'free'),
    keyGenerator: ({ headers }) => headers['x-user'] as string | undefined,
    cost: ({ url }) => (url === '/heavy' ? 4 : 1),
    skip: ({ url }) => url === '/health',
    exempt: { consumers: ['staff'], addresses: ['192.0.2.0/24'] },
    address: ({ headers }) => String(headers['x-address'] ?? '127.0.0.1'),
    legacyHeaders: false,
  })
  const ask = await serve(
    t,
    createServer((req, res) =>
      limit(req, res, (error) => {
        res.statusCode = error === undefined ? 200 : 500
        res.end(error === undefined ? 'ok' : (error as Error).message)
      }),
    ),
  )
  const left = async (...asked: Parameters<typeof ask>) =>
    /r=(\d+)/.exec(String((await ask(...asked)).headers.ratelimit))?.[1]
  t.equal(await left(), '9')
  t.equal(await left('/heavy'), '5')
  t.equal(await left('/', { 'x-user': 'ann' }), '9', 'another consumer')
  t.equal(await left('/', { 'x-user': 'ann', 'x-tier': 'pro' }), '98', 'the same counts in another tier')
  t.equal(await left('/health'), undefined)
  t.equal(await left('/', { 'x-user': 'staff' }), undefined)
  t.equal(await left('/', { 'x-address': '192.0.2.7' }), undefined)
  t.notOk((await ask()).headers['x-ratelimit-limit'])
  t.match(await ask('/', { 'x-tier': 'gold' }), { status: 500, text: /no tier "gold"/ })
})

t.test('functions may be async, and what they throw reaches next', async (t) => {
  const limiter = limiterOf(t, { limits: { free: '2/min' } })
  t.throws(() => limiter.middleware({ exempt: { adresses: [] } } as never), {
    message: /did you mean "addresses"/,
  })
  t.throws(() => limiter.middleware({ exempt: { addresses: ['10.0.0.0/99'] } }), {
    message: 'exempt: "10.0.0.0/99" is no address or block; write 192.0.2.0/24',
  })
  const limit = limiter.middleware({
    address: async ({ headers }) => String(headers['x-address'] ?? '192.0.2.1'),
    keyGenerator: async ({ headers }) => (headers['x-user'] === undefined ? null : Number(headers['x-user'])),
    exempt: { consumers: ['42'], addresses: ['198.51.100.0/24'] },
    handler: async () => {
      throw new Error('no handler')
    },
  })
  let early = false
  const ask = await serve(
    t,
    createServer((req, res) => {
      limit(req, res, (error) => {
        res.end(error === undefined ? 'ok' : (error as Error).message)
      })
      if (early) res.end('early')
    }),
  )
  for (let i = 0; i < 3; i++) t.match(await ask('/', { 'x-user': '42' }), OK)
  for (let i = 0; i < 3; i++) t.match(await ask('/', { 'x-address': '198.51.100.1' }), OK)
  // Null counts by address, an IPv6 one by its /64.
  for (const [i, text] of ['ok', 'ok', 'no handler'].entries())
    t.match(await ask('/', { 'x-address': `2001:db8::${i}` }), { text })
  early = true
  t.match(await ask('/', { 'x-address': '192.0.2.9' }), { text: 'early' }, 'the process goes on')
})

t.test('message, status and handler of a denial are yours', async (t) => {
  const limiter = limiterOf(t, { limits: { free: '1/min' } })
  for (const [message, type, text] of [
    ['slow down', 'text/plain; charset=utf-8', 'slow down'],
    [{ error: 'slow' }, 'application/json; charset=utf-8', '{"error":"slow"}'],
    [
      (_req: unknown, _res: unknown, { limit, retryMs }: { limit?: { name: string }; retryMs: number }) =>
        `${limit?.name} ${retryMs > 0}`,
      'text/plain; charset=utf-8',
      'minute true',
    ],
  ] as const) {
    const limit = limiter.middleware({ message: message as string, statusCode: 420, standardHeaders: false })
    const ask = await serve(
      t,
      createServer((req, res) => limit(req, res, () => res.end('ok'))),
    )
    await ask()
    const denied = await ask()
    t.match(denied, { status: 420, text, headers: { 'content-type': type, 'retry-after': /^\d+$/ } })
    t.notOk(denied.headers.ratelimit)
  }
  const own = limiter.middleware({
    handler: (_req, res, _next, { remaining }) => res.writeHead(503).end(`left: ${remaining}`),
  })
  const ask = await serve(
    t,
    createServer((req, res) => own(req, res, () => res.end('ok'))),
  )
  t.match(await ask(), { status: 503, text: 'left: 0', headers: { 'retry-after': /^\d+$/ } })
})

t.test('failed or successful responses are given back, and slots when the response ends', async (t) => {
  const limiter = limiterOf(t, {
    limits: { free: '10/min', slots: { amount: 1, algorithm: 'concurrency', lease: '5s' } },
  })
  const used = async () => (await limiter.usage('free', '127.0.0.1', { byAddress: true }))[0]!.used
  for (const [options, afterGood, afterBad] of [
    [{}, 1, 2],
    [{ skipFailedRequests: true }, 1, 1],
    [{ skipSuccessfulRequests: true }, 0, 1],
    [{ skipFailedRequests: true, requestWasSuccessful: () => true }, 1, 2],
    [{ skipFailedRequests: true, requestWasSuccessful: async () => false }, 0, 0],
    [{ skipFailedRequests: true, requestWasSuccessful: () => Promise.reject(new Error('a fault')) }, 1, 2],
  ] as const) {
    await limiter.reset('127.0.0.1', { byAddress: true })
    const limit = limiter.middleware({ tier: 'free', ...options })
    const ask = await serve(
      t,
      createServer((req, res) =>
        limit(req, res, () => res.writeHead(req.url === '/bad' ? 500 : 200).end('ok')),
      ),
    )
    await ask()
    await eventually('settled', async () => (await used()) === afterGood)
    await ask('/bad')
    await eventually('settled', async () => (await used()) === afterBad)
  }
  const limit = limiter.middleware({ tier: 'slots' })
  const held: ServerResponse[] = []
  const ask = await serve(
    t,
    createServer((req, res) => limit(req, res, () => void held.push(res))),
  )
  const first = ask()
  await eventually('the first is under way', () => held.length === 1)
  await new Promise((resolve) => setTimeout(resolve, 7000))
  t.match(
    await ask(),
    { status: 429, text: /1 request at once/ },
    'the slot is held for longer than its lease',
  )
  held[0]!.end('ok')
  t.match(await first, OK)
  await eventually(
    'the slot is free',
    async () => (await limiter.usage('slots', '127.0.0.1', { byAddress: true }))[0]!.used === 0,
  )
})

t.test('Fastify: a plugin for all routes, with other options or none for some', async (t) => {
  const limiter = limiterOf(t, { limits: { free: '2/min', pro: '100/min' } })
  const app: FastifyInstance = Fastify()
  await app.register(limiter.plugin, {
    tier: 'free',
    hook: 'preHandler',
    keyGenerator: ({ headers }) => headers['x-user'] as string | undefined,
  })
  app.get('/', async () => 'ok')
  app.get('/free', { config: { rateLimit: false } }, async () => 'ok')
  app.get(
    '/heavy',
    { config: { rateLimit: { tier: 'pro', cost: 60, message: 'too much' } } },
    async () => 'ok',
  )
  const ask = async (url: string, user = 'ann') => app.inject({ url, headers: { 'x-user': user } })
  t.match(await ask('/'), { statusCode: 200, body: 'ok', headers: { 'x-ratelimit-remaining': '1' } })
  t.match(await ask('/'), { statusCode: 200 })
  t.match(await ask('/'), { statusCode: 429, headers: DENIED.headers })
  t.match(await ask('/free'), { statusCode: 200, headers: { 'x-ratelimit-limit': undefined } })
  t.match(await ask('/heavy', 'bob'), { statusCode: 200, headers: { 'x-ratelimit-remaining': '40' } })
  t.match(await ask('/heavy', 'bob'), { statusCode: 429, body: 'too much' })
  await app.close()

  const few: FastifyInstance = Fastify()
  await few.register(limiter.plugin, { global: false })
  few.get('/', async () => 'ok')
  few.get('/one', { config: { rateLimit: { tier: 'free' } } }, async () => 'ok')
  t.match(await few.inject('/'), { statusCode: 200, headers: { ratelimit: undefined } })
  t.match(await few.inject('/one'), { statusCode: 200, headers: { 'x-ratelimit-remaining': '1' } })
  await few.close()
  await t.rejects(async () => Fastify().register(limiter.plugin, {}), { message: /give a tier/ })
})

t.test('charge, refund and block work by key, without a take', async (t) => {
  const redis = await startRedis(t)
  for (const store of [{}, { redis: redis.url, timeout: '5s' as const }]) {
    const settings = { limits: { free: '10/min', staff: 'unlimited' } as const, store, blocks: true }
    const limiter = limiterOf(t, settings)
    const other = store.redis === undefined ? limiter : limiterOf(t, settings)
    await Promise.all([limiter.ready, other.ready])
    const used = async () => (await other.usage('free', 'ann'))[0]!.used
    await limiter.charge('free', 'ann', 12)
    t.equal(await used(), 12)
    t.match(await limiter.take('free', 'ann'), { allowed: false, blockedUntil: undefined })
    await limiter.refund('free', 'ann', 5)
    t.equal(await used(), 7)
    await limiter.charge('staff', 'ann', 5)
    for (const quota of [0, -1, 0.5]) await t.rejects(limiter.charge('free', 'ann', quota), RangeError)

    await limiter.block('bob', '10m')
    await eventually(
      'the block holds in the other process',
      async () => !(await other.take('free', 'bob')).allowed,
    )
    const before = (await other.usage('free', 'bob'))[0]!.used
    await other.take('free', 'bob')
    const blocked = await other.take('staff', 'bob')
    t.match(blocked, { allowed: false, limit: undefined, remaining: 0 }, 'in every tier')
    t.ok(blocked.retryMs > 500_000 && blocked.retryMs <= 600_000)
    t.ok((await other.take('free', 'bob', { byAddress: true })).allowed, 'an address of that name is another')
    t.equal((await other.usage('free', 'bob'))[0]!.used, before, 'nothing is charged')

    const limit = other.middleware({ tier: 'free', keyGenerator: () => 'bob' })
    const ask = await serve(
      t,
      createServer((req, res) => limit(req, res, () => res.end('ok'))),
    )
    t.match(await ask(), { ...DENIED, text: /This caller is blocked on api; try again in \d+ s\./ })
    await limiter.block('bob', '0')
    await eventually('the block is lifted', async () => (await other.take('free', 'bob')).allowed)
    await limiter.block('bob', '20ms')
    await eventually('the block has ended', async () => (await other.take('free', 'bob')).allowed)
  }
  const without = limiterOf(t)
  await t.rejects(without.block('bob', '1m'), { message: /blocks: true/ })
  await t.rejects(without.block('bob', 'soon' as never), { message: /"soon" is no duration/ })
})

t.test('while the store is away, on_failure decides, and a denial is 503', async (t) => {
  const limiter = limiterOf(t, {
    store: { redis: 'redis://127.0.0.1:1', timeout: '10ms' },
    on_failure: 'closed',
  })
  const limit = limiter.middleware({ statusCode: 420 })
  const ask = await serve(
    t,
    createServer((req, res) => limit(req, res, () => res.end('ok'))),
  )
  t.match(await ask(), { status: 503, text: /store_unavailable/, headers: { 'retry-after': '1' } })
})

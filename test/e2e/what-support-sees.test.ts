// Tests src/telemetry/decisions/{all-gateways-seen,last-seen}.ts
import { createSecretKey } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { tokenOf } from '../support/credentials/issuer.js'
import { eventually } from '../support/eventually.js'
import { startBackend } from '../support/gateway/process.js'
import { startWhole, type WholeGateway } from '../support/gateway/whole-gateway.js'
import { ownRedis } from '../support/redis/redis.js'

const SECRET = 'a-secret-of-the-issuer-that-is-long-enough'
const hmacToken = (claims: object) => tokenOf({ alg: 'HS256' }, claims, createSecretKey(Buffer.from(SECRET)))
const SERVICES = ['open', 'closed', 'local'] as const
const RUNS = Number(process.env.CONTRACT_RUNS ?? 12)

// Each test has gateways of its own, and mostly waits.
t.jobs = 3

function yamlFor(redis: string, upstream: string, source: string): string {
  const service = (name: string) => `
  ${name}:
    upstreams: [${upstream}]
    on_failure: ${name}
    limits:
      free: [4/day, { amount: 30, window: 1d, by: tenant }]
      pro: [{ amount: 40, window: 1d, algorithm: strict }, { amount: 9, window: 1d, by: tenant, algorithm: fixed }]
      max: { amount: 1000, window: 1d, algorithm: token_bucket }`
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro, max]
consumers:
  - api_key:
      store: true
      keys: [{ key: key-of-ann, consumer: ann, tier: pro }, { key: key-of-bob, consumer: bob, tenant: acme }]
  - jwt: { secret: ${SECRET}, issuer: https://id.example.com, tier: plan, tenant: org }
  - header: { name: x-user-id, tenant: x-org }
  - ip: {}
tier_sources: [{ http: { name: billing, url: "${source}/plans/{consumer}", timeout: 5s } }]
services:${SERVICES.map(service).join('')}
routes: [${SERVICES.map((name) => `{ path: /${name}, service: ${name} }`).join(', ')}]
decisions: { sample: 1 }
server: { shed: { event_loop_delay: 0 }, shutdown_delay: 0 }
log: { access: off }
`
}

/** Answers with the tier and tenant that the consumer's id spells: `u7.pro.acme`. */
async function startBilling(t: Test): Promise<string> {
  const server = createServer((req, res) => {
    const [, tier, tenant] = decodeURIComponent(req.url!.split('/').at(-1)!).split('.')
    if (tier === undefined || tier === 'none') res.writeHead(404).end()
    else res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ tier, tenant }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Caller {
  readonly consumer: string
  readonly headers: Readonly<Record<string, string>>
}

/** Each id is used once, as the gateway remembers what a source said of it. */
let count = 0

const TIERS = ['free', 'pro', 'max', 'platinum'] as const
const maybe = <T>(values: readonly T[]) => fc.option(fc.constantFrom(...values), { nil: undefined })

const callers: fc.Arbitrary<() => Caller> = fc.oneof(
  fc.constant(() => ({ consumer: 'ann', headers: { 'x-api-key': 'key-of-ann' } })),
  fc.constant(() => ({ consumer: 'bob', headers: { 'x-api-key': 'key-of-bob' } })),
  fc.constant(() => ({ consumer: '127.0.0.1', headers: {} })),
  fc.tuple(maybe(TIERS), maybe(['acme', 'umbrella']), maybe(TIERS)).map(([plan, org, billed]) => () => {
    const sub = `u${count++}.${billed ?? 'none'}.acme`
    const claims = { iss: 'https://id.example.com', exp: Date.now() / 1000 + 600, sub, plan, org }
    return { consumer: sub, headers: { authorization: `Bearer ${hmacToken(claims)}` } }
  }),
  fc.tuple(maybe(['acme', 'umbrella']), maybe(TIERS)).map(([org, billed]) => () => {
    const id = `h${count++}.${billed ?? 'none'}.umbrella`
    return { consumer: id, headers: { 'x-user-id': id, ...(org === undefined ? {} : { 'x-org': org }) } }
  }),
)

async function json(gateway: WholeGateway, path: string, method = 'GET', body?: object) {
  const response = await fetch(`${gateway.admin}${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  })
  // biome-ignore lint/suspicious/noExplicitAny: it is looked into
  return (await response.json()) as any
}

async function send(gateway: WholeGateway, service: string, { headers }: Caller): Promise<string> {
  const id = `r${count++}`
  const response = await fetch(`${gateway.address}/${service}`, {
    headers: { ...headers, 'x-request-id': id },
  })
  await response.arrayBuffer()
  return id
}

/** Asks usage, tier and explain about a caller's next request, sends it, and compares the answers with what happened. */
async function holds(gateway: WholeGateway, service: string, caller: Caller): Promise<void> {
  const id = encodeURIComponent(caller.consumer)
  const headers = Object.entries(caller.headers)
  // A gateway asks others ten times a second at most. Where it did not ask, the answer says so.
  // biome-ignore lint/suspicious/noExplicitAny: it is looked into
  const whole = ({ tier_notes: notes = [] }: any) => !String(notes).includes('too many questions')
  const usage = await eventuallyOf(() => json(gateway, `/usage/${service}/${id}`), whole)
  const tier = await eventuallyOf(() => json(gateway, `/consumers/${id}/tier`), whole)
  const explained = await json(gateway, '/explain', 'POST', { url: `/${service}`, headers })
  const sent = await send(gateway, service, caller)
  const found = await eventuallyOf(
    () => json(gateway, `/decisions/${sent}`),
    ({ request_id: is }) => is === sent,
  )
  const got = { tier: found.tier, tier_from: found.tier_from }
  const told = ({ tier, tier_from }: typeof got) => ({ tier, tier_from })
  same(told(usage), got, 'usage')
  same(told(tier), got, 'tier')
  same(told(explained), got, 'explain')
  same([usage.tenant ?? null, explained.tenant], [found.tenant, found.tenant], 'tenant')
  const { decided_by: by, allowed } = found.decision
  same(
    [usage.decided_by ?? 'store', explained.decision.decided_by],
    [by === 'cache' ? 'store' : by, by === 'cache' ? 'store' : by],
    'decided by',
  )
  same([explained.decision.allowed, explained.error], [allowed, found.error], 'explain: what becomes of it')
  if (by === 'open' || by === 'closed') return
  type Limit = { name: string; amount: number; remaining: number; used: number }
  const named = (limits: readonly Limit[]) => limits.map(({ name, amount }) => [name, amount])
  same(named(usage.limits), named(found.limits), 'limits')
  same(
    explained.limits.map(({ remaining }: Limit) => remaining),
    usage.limits.map(({ remaining }: Limit) => remaining),
    'remaining',
  )
  const least = Math.min(...usage.limits.map(({ remaining }: Limit) => remaining))
  same([least >= 1, allowed ? least - 1 : least], [allowed, found.decision.remaining], 'the next request')
}

async function eventuallyOf<T>(ask: () => Promise<T>, good: (found: T) => unknown): Promise<T> {
  let found: T | undefined
  await eventually('it is there', async () => {
    found = await ask()
    return Boolean(good(found))
  })
  return found!
}

function same(actual: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)]
  if (a !== b) throw new Error(`${what}: said ${a}, got ${b}`)
}

async function startTwo(t: Test) {
  const [redis, backend, billing] = await Promise.all([ownRedis(t), startBackend(t), startBilling(t)])
  const yaml = yamlFor(redis.url, backend.origin, billing)
  return { redis, gateways: [await startWhole(t, yaml), await startWhole(t, yaml)] as const }
}

const anyService = fc.constantFrom(...SERVICES)

t.test('usage, tier, explain and why agree with what the next request gets', async (t) => {
  const { gateways } = await startTwo(t)

  /** Applies an operator's change, and waits until every gateway knows it. */
  async function change(consumer: string, to: Changes): Promise<void> {
    const id = encodeURIComponent(consumer)
    const { assigned = null, boost, override } = to
    if (assigned !== null) await json(gateways[0], `/consumers/${id}/tier`, 'PUT', { tier: assigned })
    for (const service of SERVICES) {
      if (boost !== undefined)
        await json(gateways[1], `/boosts/${service}/day/consumer/${id}`, 'PUT', { by: boost, for: '1h' })
      if (override !== undefined)
        await json(gateways[0], `/overrides/${service}/tenant-day/tenant/acme`, 'PUT', { amount: override })
    }
    for (const gateway of gateways) {
      await eventually('it holds', async () => {
        const { boosts } = await json(gateway, `/boosts?consumer=${id}`)
        const { overrides } = await json(gateway, '/overrides?tenant=acme')
        const found = await json(gateway, `/consumers/${id}/tier`)
        return (
          (assigned === null || found.assigned === assigned) &&
          (boost === undefined ||
            boosts.filter(({ by }: { by: number }) => by === boost).length === SERVICES.length) &&
          (override === undefined ||
            overrides.filter(({ amount }: { amount: number }) => amount === override).length ===
              SERVICES.length)
        )
      })
    }
  }

  interface Changes {
    readonly assigned: string | undefined
    readonly boost: number | undefined
    readonly override: number | undefined
  }
  const changes = fc.record({
    assigned: maybe(['free', 'pro', 'max']),
    boost: maybe([1, 50]),
    override: maybe([2, 70]),
  })
  const gateway = fc.constantFrom(...gateways)

  await fc.assert(
    fc.asyncProperty(
      callers,
      changes,
      anyService,
      gateway,
      gateway,
      async (make, to, service, first, second) => {
        const caller = make()
        await change(caller.consumer, to)
        await send(first, service, caller)
        for (let i = 0; i < 3; i++) await holds(second, service, caller)
      },
    ),
    { numRuns: RUNS },
  )
  t.pass(`${RUNS} runs`)
})

t.test('they agree during an outage too, without waiting for Redis', async (t) => {
  const { redis, gateways } = await startTwo(t)
  await redis.stop()
  for (const { admin } of gateways) {
    await eventually('it is known to be away', async () => {
      const { reasons = [] } = await json({ admin } as WholeGateway, '/readyz')
      return reasons.some((reason: string) => reason.includes('store'))
    })
  }
  // Each gateway counts by itself now, so the two are asked at the same time.
  const numRuns = Math.ceil(RUNS / gateways.length)
  await Promise.all(
    gateways.map((gateway) =>
      fc.assert(
        fc.asyncProperty(callers, anyService, async (make, service) => {
          const caller = make()
          await send(gateway, service, caller)
          const began = performance.now()
          await holds(gateway, service, caller)
          await holds(gateway, service, caller)
          if (performance.now() - began > 8_000) throw new Error('it waits for the store')
        }),
        { numRuns },
      ),
    ),
  )
  t.pass(`${numRuns} runs on each`)
})

t.test('the tier of a token is shown as last seen, or with a note that none was seen', async (t) => {
  const {
    gateways: [one, two],
  } = await startTwo(t)
  const token = (plan: string) =>
    hmacToken({ iss: 'https://id.example.com', exp: Date.now() / 1000 + 600, sub: 'cat', plan })
  const come = (plan: string) =>
    send(one, 'open', { consumer: 'cat', headers: { authorization: `Bearer ${token(plan)}` } })
  t.match(await json(two, '/consumers/cat/tier'), {
    tier: 'free',
    tier_from: 'default',
    tier_notes: ['no recent request of it is known, and its token may name another'],
  })
  await come('pro')
  await eventually('the other gateway asks the one that has seen it', async () => {
    const found = await json(two, '/consumers/cat/tier')
    return found.tier === 'pro' && found.identified_by === 'jwt' && !Number.isNaN(Date.parse(found.seen_at))
  })
  await come('max')
  await eventually('the latest counts', async () => (await json(two, '/usage/open/cat')).tier === 'max')
})

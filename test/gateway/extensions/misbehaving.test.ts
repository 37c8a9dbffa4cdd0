// Tests src/gateway/extensions/{runner,results,on-denied}.ts src/gateway/stages/extensions.ts src/gateway/forward/{read-body,hooked-response}.ts
import { Readable } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { Agent, request } from 'undici'
import type { ExtensionRequest, HookName } from '../../../src/extension/define.js'
import { respond } from '../../../src/extension/respond.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { createShares } from '../../../src/shares.js'
import { eventually } from '../../support/eventually.js'
import { instances } from '../../support/gateway/hooks.js'
import { startSite } from '../../support/gateway/site.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/** Whatever hooks throw, return or never settle: each request ends once, and leaves nothing behind. */

const SITE = `
tiers: [free]
extensions:
  - { name: deny, module: ./deny.js, timeout: 5ms, on_error: deny }
  - { name: skip, module: ./skip.js, timeout: 5ms, on_error: skip }
consumers: [{ extension: deny }, { extension: skip }, { ip: {} }]
services:
  payments: { upstreams: [PAYMENTS], concurrency: { min: 10, max: 1000 }, limits: { free: [30000000/min, { amount: 7, algorithm: concurrency }] }, use: [deny] }
routes: [{ path: /*, service: payments, use: [skip] }]
`

const boom = () => {
  throw new Error('boom')
}
const thenable = (then: () => unknown) => Object.defineProperty({}, 'then', { get: then })

/** Values that no hook should return, and some that one hook may and another may not. */
const VALUES: readonly (() => unknown)[] = [
  ...[undefined, null, true, 0, 1, -1, 1.5, 3, 2 ** 25, Number.NaN, 7n, '', 'text', Symbol('s'), [], {}].map(
    (value) => () => value,
  ),
  () => boom,
  () => 'x'.repeat(1_000_000),
  () => ({ headers: { 'x-a': 'x'.repeat(1_000_000) } }),
  () => ({ headers: Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`x-${i}`, 'a'])) }),
  () => ({ headers: { 'x-a': 'a\r\nContent-Length: 0\r\n\r\n', 'x-b': null } }),
  () => ({ headers: { 'x-a': 'fine', 'x-b': ['two', 'of them'], 'x-c': null } }),
  () => ({ headers: { Host: 'other', 'Content-Length': '7', 'Transfer-Encoding': 'chunked' } }),
  () => ({ headers: 7, detail: {}, status: 'x' }),
  () => ({ detail: 'Later.' }),
  () => ({ body: 'another', status: 418 }),
  () => ({ body: new Uint8Array(100_000) }),
  () => ({ body: boom, status: 204 }),
  () => ({ body: new Proxy(new Uint8Array(9), { get: boom }) }),
  () => ({ consumer: 'acme' }),
  () => ({ consumer: 'acme', tier: 'free', tenant: 'group', scopes: ['a'] }),
  () => ({ consumer: 'x'.repeat(1_000_000) }),
  () => ({ consumer: 'acme', scopes: new Array(100_000).fill('s') }),
  () => respond(200, 'fine'),
  () => respond(403),
  () => respond(500, { title: 'x'.repeat(100_000) }),
  () => respond(204),
  () => Object.assign(Object.create(Object.getPrototypeOf(respond(200))), { status: 99, headers: ['a'] }),
  () => new Proxy({}, { get: boom, ownKeys: boom, has: boom, getPrototypeOf: boom }),
  () => new Proxy(respond(200), { get: boom }),
  () => Object.defineProperty({}, 'headers', { enumerable: true, get: boom }),
  () => thenable(boom),
  () => thenable(() => boom),
  () => thenable(() => () => {}),
  () => Object.create(Promise.prototype),
  () => Object.assign(Promise.resolve(), { constructor: thenable(boom) }),
  () => Object.freeze(new Date(Number.NaN)),
]

/** Ways in which a hook ends. */
const WAYS: readonly ((value: () => unknown) => unknown)[] = [
  (value) => value(),
  (value) => value(),
  () => boom(),
  (value) => {
    throw value()
  },
  async (value) => value(),
  async (value) => {
    throw value()
  },
  () => new Promise(() => {}),
  (value) => new Promise((resolve) => setTimeout(() => resolve(value()), 1)),
  (value) => new Promise((resolve) => setTimeout(() => resolve(value()), 20)),
  (value) => new Promise((_, reject) => setTimeout(() => reject(value()), 20)),
  (value) =>
    thenable(() => (one: (value: unknown) => void, other: (value: unknown) => void) => {
      other(value())
      one(value())
      one(1)
    }),
]

const KINDS: readonly HookName[] = [
  'identify',
  'onRequest',
  'cost',
  'onUpstreamRequest',
  'onResponse',
  'onDenied',
]
/** Bodies that hooks want: shorter than some requests and responses. */
const WANTED = { onRequest: 8, cost: 12, onUpstreamRequest: 16, onResponse: 20 } as Record<
  HookName,
  number | undefined
>
const hook = fc.record({
  way: fc.nat(WAYS.length - 1),
  value: fc.nat(VALUES.length - 1),
  misbehaves: fc.boolean(),
})
const hooks = fc.record(
  Object.fromEntries(KINDS.map((kind) => [kind, hook])) as Record<HookName, typeof hook>,
)
const plan = fc.record({
  deny: hooks,
  skip: hooks,
  leaves: fc.integer({ min: 0, max: 30 }),
  bytes: fc.nat(20),
  chunked: fc.boolean(),
})
type Plan = typeof plan extends fc.Arbitrary<infer P> ? P : never

/** Hooks of `skip` want bodies, and so does `onResponse` of both. */
function hookOf(extension: 'deny' | 'skip', kind: HookName, run: (...args: never[]) => unknown) {
  const max = extension === 'skip' || kind === 'onResponse' ? WANTED[kind] : undefined
  return { run, body: max === undefined ? undefined : ({ max, as: 'text' } as const) }
}

const HOOKS = Number(process.env.CONTRACT_RUNS ?? 10_000)
/** Requests at once. */
const AT_ONCE = 50

t.test(`${HOOKS} misbehaving hooks: each request ends once, and nothing is left behind`, async (t) => {
  const plans = new Map<string, Plan>()
  const unhandled: unknown[] = []
  const note = (error: unknown) => void unhandled.push(error)
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))
  const misbehaving = (extension: 'deny' | 'skip') =>
    Object.fromEntries(
      KINDS.map((kind) => [
        kind,
        hookOf(extension, kind, (seen: ExtensionRequest, given: unknown) => {
          const { way, value, misbehaves } = plans.get(seen.header('x-plan')!)![extension][kind]!
          for (const target of [seen, given, Object.getPrototypeOf(seen), seen.limits, seen.params])
            Reflect.set(Object(target), 'consumer', 'forged')
          if (misbehaves) {
            ran++
            return WAYS[way]!(VALUES[value]!)
          }
          return kind === 'cost' ? 2 : undefined
        }),
      ]),
    )
  const limiter = createMemoryLimiter()
  const shares = createShares()
  const payments = await recordingUpstream(t, (req, res) => {
    req.on('end', () => res.end('x'.repeat(Number(req.headers['x-bytes']))))
  })
  let ran = 0
  let decisions = 0
  let held = 0
  const made = await startSite(
    t,
    SITE,
    { payments },
    {
      shares,
      limiter: {
        ...limiter,
        decide(taking) {
          decisions++
          const decision = limiter.decide(taking)
          if (decision.allowed) held++
          return decision
        },
        settle(charge, quota, slot) {
          if (slot === 'release') held--
          return limiter.settle(charge, quota, slot)
        },
      },
      extensions: instances({ deny: misbehaving('deny'), skip: misbehaving('skip') }),
    },
  )
  const { gateway } = made
  const agent = new Agent({ connections: AT_ONCE, pipelining: 1 })
  t.teardown(() => agent.destroy())
  let sent = 0
  let left = 0
  await fc.assert(
    fc.asyncProperty(fc.array(plan, { minLength: AT_ONCE, maxLength: AT_ONCE }), async (several) => {
      if (ran >= HOOKS) return
      await Promise.all(
        several.map(async (one) => {
          const id = `plan-${sent++}`
          plans.set(id, one)
          const leaving = new AbortController()
          const timer = one.leaves < 5 ? setTimeout(() => leaving.abort(), one.leaves) : undefined
          try {
            const { statusCode, body } = await request(gateway.origin, {
              dispatcher: agent,
              method: 'POST',
              headers: { 'x-plan': id, 'x-request-id': id, 'x-bytes': String(one.bytes + 5) },
              body: one.chunked ? Readable.from(['x', 'x'.repeat(one.bytes)]) : 'x'.repeat(one.bytes),
              signal: leaving.signal,
            })
            await body.dump()
            if (![200, 204, 403, 418, 429, 500, 503].includes(statusCode))
              throw new Error(`status ${statusCode}`)
          } catch (error) {
            if (!leaving.signal.aborted) throw error
            left++
          } finally {
            clearTimeout(timer)
          }
        }),
      )
    }),
    { numRuns: (2 * HOOKS) / AT_ONCE },
  )
  await eventually('every slot is free', () => held === 0)
  await eventually('every share is given back', () => [...shares.all()].every((one) => one.held === 0))
  await eventually('every request is over', () => made.gateway.watchdog.size() === 0)
  const ids = gateway.records.map(({ requestId }) => requestId)
  t.equal(new Set(ids).size, ids.length, 'each request is recorded once')
  t.ok(ids.length >= sent - left, 'and none is missing')
  t.equal(gateway.records.filter(({ decision }) => decision !== undefined).length, decisions, 'charged once')
  t.equal(gateway.guards.describe(gateway.snapshot())[0]?.concurrency?.in_flight, 0)
  t.equal(gateway.internalErrors(), 0)
  t.same(unhandled, [])
  t.ok(ran >= HOOKS, `${ran} misbehaved`)
  t.ok(gateway.extensionErrors.length > ran / 4, `${gateway.extensionErrors.length} of them are errors`)
  t.notOk(gateway.records.some(({ consumer }) => consumer === 'forged'))
})

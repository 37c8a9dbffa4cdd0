import t from 'tap'
import type { Service } from '../../src/config/snapshot.js'
import { createUpstreams, type Target } from '../../src/upstream/pool.js'
import { snapshotOf } from '../support/gateway.js'

function snapshotWith(services: Record<string, readonly string[]>) {
  const lines = Object.entries(services).map(
    ([name, upstreams]) => `  ${name}: { upstreams: [${upstreams.map((one) => `'${one}'`).join(', ')}] }`,
  )
  const [first] = Object.keys(services)
  return snapshotOf(`
tiers: [free]
services:
${lines.join('\n')}
routes: [{ path: /*, service: ${first} }]
`)
}

/** Upstreams whose clock stands still until a test moves it. */
function upstreamsOf(
  services: Record<string, readonly string[]>,
  limits = { connections: 4, inFlight: 100 },
) {
  const snapshot = snapshotWith(services)
  const clock = { now: 1_000 }
  const upstreams = createUpstreams(snapshot, limits, () => clock.now)
  t.teardown(() => upstreams.close())
  return {
    snapshot,
    upstreams,
    clock,
    service: (name: string) => snapshot.services.find((s) => s.name === name)!,
  }
}

const A = 'http://127.0.0.1:9001'
const B = 'http://127.0.0.1:9002'
const C = 'http://127.0.0.1:9003'
const originOf = (target: Target | undefined) => target?.upstream.origin

t.test('the addresses of a service take turns', async (t) => {
  const { upstreams, service } = upstreamsOf({ api: [A, B, C] })
  const picked = Array.from({ length: 7 }, () => originOf(upstreams.pick(service('api'))))
  t.strictSame(picked, [A, B, C, A, B, C, A])
})

t.test('one that failed is passed over for a second, then tried by one request a second', async (t) => {
  const { upstreams, service, clock } = upstreamsOf({ api: [A, B] })
  const next = () => originOf(upstreams.pick(service('api')))
  upstreams.failed(upstreams.pick(service('api'))!)
  t.strictSame([next(), next(), next(), next()], [B, B, B, B])
  clock.now += 1_000
  t.strictSame([next(), next(), next(), next()].sort(), [A, B, B, B], 'one finds out')
  clock.now += 999
  t.strictSame([next(), next()], [B, B])
  clock.now += 1
  const probe = [upstreams.pick(service('api'))!, upstreams.pick(service('api'))!].find(
    (p) => originOf(p) === A,
  )!
  upstreams.answered(probe)
  t.strictSame([next(), next(), next(), next()].sort(), [A, A, B, B], 'it is back')
})

t.test('when all have failed they take turns again', async (t) => {
  const { upstreams, service } = upstreamsOf({ api: [A, B, C] })
  for (let i = 0; i < 3; i++) upstreams.failed(upstreams.pick(service('api'))!)
  const picked = Array.from({ length: 3 }, () => originOf(upstreams.pick(service('api'))))
  t.strictSame(picked.sort(), [A, B, C])
})

t.test('a request is not sent where it has been', async (t) => {
  const { upstreams, service } = upstreamsOf({ api: [A, B, C] })
  const tried: Target[] = []
  for (let i = 0; i < 3; i++) {
    const target = upstreams.pick(service('api'), tried)!
    upstreams.failed(target)
    tried.push(target)
  }
  t.strictSame(tried.map(originOf).sort(), [A, B, C])
  t.equal(upstreams.pick(service('api'), tried), undefined)
})

t.test(
  'an address with too many requests under way is passed over, and nothing is left when all have',
  async (t) => {
    const { upstreams, service } = upstreamsOf({ api: [A, B] }, { connections: 1, inFlight: 2 })
    const first = upstreams.pick(service('api'))!
    upstreams.begun(first)
    upstreams.begun(first)
    t.strictSame(
      [1, 2, 3].map(() => originOf(upstreams.pick(service('api')))),
      [B, B, B],
    )
    const second = upstreams.pick(service('api'))!
    upstreams.begun(second)
    upstreams.begun(second)
    t.equal(upstreams.pick(service('api')), undefined)
    upstreams.ended(first)
    t.equal(originOf(upstreams.pick(service('api'))), A)
  },
)

t.test('services that name one address share it, with base paths of their own', async (t) => {
  const { upstreams, service } = upstreamsOf({ one: [`${A}/one`], two: [`${A}/two`] })
  const [one, two] = [upstreams.pick(service('one'))!, upstreams.pick(service('two'))!]
  t.equal(one.upstream.basePath, '/one')
  t.equal(two.upstream.basePath, '/two')
  t.equal(upstreams.begun(one), upstreams.begun(two))
  upstreams.failed(one)
  t.strictSame(
    [...upstreams.health()],
    [
      { service: 'one', upstream: A, healthy: false },
      { service: 'two', upstream: A, healthy: false },
    ],
  )
})

t.test('health names every configured address, and is down until it has answered again', async (t) => {
  const { upstreams, service, clock } = upstreamsOf({ api: [A, B], other: [C] })
  const down = () => [...upstreams.health()].filter(({ healthy }) => !healthy).map(({ upstream }) => upstream)
  t.equal([...upstreams.health()].length, 3)
  t.strictSame(down(), [])
  const target = upstreams.pick(service('api'))!
  upstreams.failed(target)
  clock.now += 60_000
  t.strictSame(down(), [A])
  upstreams.answered(target)
  t.strictSame(down(), [])
})

t.test('a reload', async (t) => {
  const service = (snapshot: ReturnType<typeof snapshotWith>): Service => snapshot.services[0]!

  t.test('keeps what the new snapshot names, with what is known of it', async (t) => {
    const { upstreams, snapshot } = upstreamsOf({ api: [A, B] })
    const [a, b] = [upstreams.pick(service(snapshot))!, upstreams.pick(service(snapshot))!]
    const pool = upstreams.begun(a)
    upstreams.failed(b)
    const next = snapshotWith({ api: [B, A, C] })
    upstreams.retain(next)
    t.strictSame(
      [...upstreams.health()],
      [
        { service: 'api', upstream: B, healthy: false },
        { service: 'api', upstream: A, healthy: true },
        { service: 'api', upstream: C, healthy: true },
      ],
    )
    const picked = [1, 2].map(() => upstreams.pick(service(next))!)
    t.strictSame(picked.map(originOf), [A, C])
    t.equal(upstreams.begun(picked[0]!), pool)
    t.equal(pool.closed, false)
  })

  t.test('closes what no snapshot names any more, once the last request is through', async (t) => {
    const { upstreams, snapshot } = upstreamsOf({ api: [A, B] })
    const [a, b] = [upstreams.pick(service(snapshot))!, upstreams.pick(service(snapshot))!]
    const [poolA, poolB] = [upstreams.begun(a), upstreams.begun(b)]
    upstreams.ended(b)
    upstreams.retain(snapshotWith({ api: [C] }))
    t.equal(poolB.closed, true)
    t.equal(poolA.closed, false)
    upstreams.ended(a)
    t.equal(poolA.closed, true)
  })

  t.test('does not strand a request that captured the snapshot before', async (t) => {
    const { upstreams, snapshot } = upstreamsOf({ api: [A] })
    const target = upstreams.pick(service(snapshot))!
    const before = upstreams.begun(target)
    upstreams.ended(target)
    upstreams.retain(snapshotWith({ api: [C] }))
    t.equal(before.closed, true)
    const late = upstreams.pick(service(snapshot))!
    const pool = upstreams.begun(late)
    t.equal(pool.closed, false)
    upstreams.ended(late)
    t.equal(pool.closed, true)
  })

  t.test('opens an address again that comes back', async (t) => {
    const { upstreams, snapshot } = upstreamsOf({ api: [A] })
    const first = upstreams.pick(service(snapshot))!
    upstreams.begun(first)
    upstreams.ended(first)
    upstreams.retain(snapshotWith({ api: [C] }))
    const back = snapshotWith({ api: [A] })
    upstreams.retain(back)
    const target = upstreams.pick(service(back))!
    t.equal(upstreams.begun(target).closed, false)
  })
})

t.test('connections to a name are made anew after 30 s, those to an address are kept', async (t) => {
  const NAMED = 'http://localhost:9001'
  const { upstreams, clock, service } = upstreamsOf({ name: [NAMED], ipv4: [A], ipv6: ['http://[::1]:9001'] })
  const poolOf = (name: string) => {
    const target = upstreams.pick(service(name))!
    const pool = upstreams.begun(target)
    upstreams.ended(target)
    return pool
  }
  const first = [poolOf('name'), poolOf('ipv4'), poolOf('ipv6')]
  clock.now += 29_999
  t.strictSame(
    [poolOf('name'), poolOf('ipv4'), poolOf('ipv6')].map((pool, i) => pool === first[i]),
    [true, true, true],
  )
  clock.now += 1
  t.strictSame(
    [poolOf('name'), poolOf('ipv4'), poolOf('ipv6')].map((pool, i) => pool === first[i]),
    [false, true, true],
  )
  t.equal(first[0]!.closed, true)
})

t.test('close ends every pool, also those that were on their way out', async (t) => {
  const { upstreams, snapshot } = upstreamsOf({ api: [A, B] })
  const targets = [1, 2].map(() => upstreams.pick(snapshot.services[0]!)!)
  const pools = targets.map((target) => upstreams.begun(target))
  upstreams.retain(snapshotWith({ api: [B] }))
  await upstreams.close()
  t.strictSame(
    pools.map((pool) => pool.destroyed),
    [true, true],
  )
})

// Tests src/upstream/pool/{connections,endpoint,groups,transitions}.ts
import t from 'tap'
import type { Service } from '../../../src/config/snapshot/snapshot.js'
import { createShares, give } from '../../../src/shares.js'
import type { Asking, NoTarget, Target } from '../../../src/upstream/pool/choose.js'
import type { Names } from '../../../src/upstream/pool/dns.js'
import { createUpstreams, type UpstreamsOptions } from '../../../src/upstream/pool/pool.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

function snapshotWith(services: Record<string, readonly string[]>, more = '') {
  const lines = Object.entries(services).map(
    ([name, upstreams]) => `  ${name}: { upstreams: [${upstreams.join(', ')}]${more} }`,
  )
  const [first] = Object.keys(services)
  return snapshotOf(`
tiers: [free]
services:
${lines.join('\n')}
routes: [{ path: /*, service: ${first} }]
`)
}

/** Creates upstreams whose clock stands still until a test moves it. */
function upstreamsOf(services: Record<string, readonly string[]>, more = '', options: UpstreamsOptions = {}) {
  const snapshot = snapshotWith(services, more)
  const clock = { now: 1_000 }
  const moved = new Map<string, () => void>()
  const names: Names = {
    lookup: (_name, _options, callback) => callback(null, '127.0.0.1', 4),
    watch(name, changed) {
      moved.set(name, changed)
      return () => void moved.delete(name)
    },
    state: () => ({ addresses: ['127.0.0.1'], error: undefined }),
    close() {},
  }
  const logged: { fields: object; message: string }[] = []
  const note = (fields: object, message: string) => void logged.push({ fields, message })
  const upstreams = createUpstreams(snapshot, {
    now: () => clock.now,
    names,
    ...options,
    log: { info: note, warn: note },
  })
  t.teardown(() => upstreams.close())
  const service = (name = 'api') => snapshot.services.find((s) => s.name === name)!
  const pick = (tried?: readonly Target[]): Target => {
    const found = upstreams.pick(service(), undefined, tried)
    if (typeof found === 'string') throw new Error(found)
    return found
  }
  /** Runs a request from its beginning to its end. */
  const run = (outcome: 'well' | 'failed' | 'unreachable', target = pick()): string => {
    upstreams.begun(target)
    if (outcome === 'well') upstreams.answered(target)
    upstreams.ended(target, outcome, outcome === 'well' ? '' : 'ECONNREFUSED')
    return target.upstream.origin
  }
  const states = () => Object.fromEntries(upstreams.describe().map((one) => [one.address, one.state]))
  return { snapshot, upstreams, clock, service, pick, run, states, moved, logged }
}

/** A caller that is exempt from the cap of one caller. */
const NOBODY = { caller: undefined, place: undefined }
const A = 'http://127.0.0.1:9001'
const B = 'http://127.0.0.1:9002'
const C = 'http://127.0.0.1:9003'
const originOf = (target: Target | NoTarget) => (typeof target === 'string' ? target : target.upstream.origin)
const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make)

t.test('the upstreams of a service take turns, each by its weight', async (t) => {
  const even = upstreamsOf({ api: [A, B, C] })
  t.strictSame(
    times(7, () => originOf(even.pick())),
    [A, B, C, A, B, C, A],
  )
  const weighted = upstreamsOf({ api: [`{ url: '${A}', weight: 3 }`, B] })
  t.strictSame(
    times(8, () => originOf(weighted.pick())),
    [A, A, B, A, A, A, B, A],
  )
})

t.test('an unreachable upstream is passed over for a second, then gets one request a second', async (t) => {
  const { run, pick, clock, states } = upstreamsOf({ api: [A, B] })
  const next = () => originOf(pick())
  t.equal(run('unreachable'), A)
  t.strictSame(states(), { [A]: 'unhealthy', [B]: 'serving' })
  t.strictSame(times(4, next), [B, B, B, B])
  clock.now += 1_000
  t.strictSame(times(4, next).sort(), [A, B, B, B], 'one finds out')
  clock.now += 999
  t.strictSame(times(2, next), [B, B])
  clock.now += 1
  t.equal(states()[A], 'unhealthy', 'until it has answered')
  t.strictSame(times(2, () => run('well')).sort(), [A, B])
  t.equal(states()[A], 'serving')
  t.strictSame(times(4, next).sort(), [A, A, B, B], 'it is back')
})

t.test('when none could be reached, all are tried again', async (t) => {
  const { run, pick, states } = upstreamsOf({ api: [A, B, C] })
  times(3, () => run('unreachable'))
  t.strictSame(Object.values(states()), ['unhealthy', 'unhealthy', 'unhealthy'])
  t.strictSame([...new Set(times(6, () => originOf(pick())))].sort(), [A, B, C])
})

t.test('a retry does not go where the request has been', async (t) => {
  const { upstreams, service, run, pick } = upstreamsOf({ api: [A, B, C] })
  const tried: Target[] = []
  for (let i = 0; i < 3; i++) {
    const target = pick(tried)
    run('unreachable', target)
    tried.push(target)
  }
  t.strictSame(tried.map(originOf).sort(), [A, B, C])
  t.equal(upstreams.pick(service(), undefined, tried), 'tried')
})

t.test('an upstream with all connections in use is passed over; if all are, requests wait', async (t) => {
  const { upstreams, service, pick } = upstreamsOf({ api: [A, B] }, ', max_connections: 2')
  const first = pick()
  upstreams.begun(first)
  upstreams.begun(first)
  t.strictSame(
    times(3, () => originOf(pick())),
    [B, B, B],
  )
  const second = pick()
  upstreams.begun(second)
  upstreams.begun(second)
  t.equal(upstreams.pick(service()), 'busy')
  upstreams.ended(first, 'well')
  t.equal(originOf(pick()), A)
})

t.test('a free upstream serves new requests although some wait for another one', async (t) => {
  const { upstreams, service, pick } = upstreamsOf({ api: [A, B] }, ', max_connections: 1')
  const a = pick()
  const b = pick([a])
  upstreams.begun(b)
  const went: string[] = []
  const wait = (tried: readonly Target[]) =>
    upstreams.wait({
      service: service(),
      key: undefined,
      tried,
      asking: NOBODY,
      proceed: (target) => {
        upstreams.begun(target)
        went.push(originOf(target))
      },
      waitedTooLong: () => went.push('too late'),
    })
  t.equal(upstreams.pick(service(), undefined, [a]), 'busy')
  const leave = wait([a])
  t.equal(originOf(pick()), A, 'the other one waits for B')
  leave!()

  upstreams.begun(a)
  t.equal(upstreams.pick(service()), 'busy')
  wait([])
  upstreams.setState('api', A, 'drained')
  upstreams.ended(a, 'well')
  t.strictSame(went, [], 'B is busy and A is out')
  upstreams.setState('api', A, 'serving')
  t.strictSame(went, [A])
  upstreams.ended(a, 'well')
  upstreams.ended(b, 'well')
})

t.test('waiting requests go first to an upstream whose ejection is over', async (t) => {
  const outliers = ', max_connections: 1, outliers: { consecutive_failures: 1, ejection: 5s }'
  const { upstreams, service, clock, run, pick } = upstreamsOf({ api: [A, B] }, outliers)
  const out = run('failed')
  const busy = pick()
  upstreams.begun(busy)
  const went: string[] = []
  upstreams.wait({
    service: service(),
    key: undefined,
    tried: undefined,
    asking: NOBODY,
    proceed: (target) => {
      upstreams.begun(target)
      went.push(originOf(target))
    },
    waitedTooLong: () => went.push('too late'),
  })
  t.equal(upstreams.pick(service()), 'busy')
  clock.now += 5_000
  t.equal(upstreams.pick(service()), 'busy', 'the next one finds that it is back')
  t.strictSame(went, [out], 'it leaves it to the request in front')
})

t.test('services that name the same address have separate connections and state', async (t) => {
  const { upstreams, service } = upstreamsOf({ one: [`${A}/one`], two: [`${A}/two`] })
  const targets = ['one', 'two'].map((name) => upstreams.pick(service(name)) as Target)
  const [one, two] = targets as [Target, Target]
  t.equal(one.upstream.basePath, '/one')
  t.equal(two.upstream.basePath, '/two')
  t.not(upstreams.begun(one), upstreams.begun(two))
  upstreams.ended(one, 'unreachable')
  t.match(
    [...upstreams.health()],
    [
      { service: 'one', upstream: `${A}/one`, healthy: false },
      { service: 'two', upstream: `${A}/two`, healthy: true, inFlight: 1 },
    ],
  )
})

t.test('an upstream drained by hand gets nothing until it is restored', async (t) => {
  const { upstreams, service, pick, clock, snapshot } = upstreamsOf({ api: [A, B] })
  t.match(upstreams.setState('api', A, 'drained'), { state: 'drained', why: 'by hand' })
  t.strictSame(
    times(4, () => originOf(pick())),
    [B, B, B, B],
  )
  clock.now += 600_000
  upstreams.retain(snapshotWith({ api: [A, B, C] }))
  t.match(
    upstreams.describe(),
    [{ address: A, state: 'drained' }, { address: B }, { address: C }],
    'also over a reload',
  )
  upstreams.retain(snapshot)
  upstreams.setState('api', B, 'drained')
  t.equal(upstreams.pick(service()), 'drained', 'all upstreams are drained')
  t.match(
    upstreams.setState('api', '127.0.0.1:9001', 'serving'),
    { address: A, state: 'serving' },
    'by host and port',
  )
  t.equal(originOf(pick()), A)
  t.equal(upstreams.setState('api', C, 'drained'), undefined)
  t.equal(upstreams.setState('other', A, 'drained'), undefined)
})

t.test('an upstream can be drained by its URL as configured, or by host and port', async (t) => {
  const addresses = [
    'http://plain.test',
    'https://secure.test/base',
    'http://twice.test/1',
    'http://twice.test/2',
  ]
  const { upstreams } = upstreamsOf({ api: addresses })
  const named = (text: string) => upstreams.setState('api', text, 'drained')?.address
  for (const text of [
    'http://plain.test',
    'http://plain.test:80/',
    'http://PLAIN.test:80',
    'plain.test',
    'plain.test:80',
  ])
    t.equal(named(text), addresses[0], text)
  t.equal(named('secure.test:443'), addresses[1])
  t.equal(named('https://secure.test:443/base'), addresses[1])
  t.equal(named('http://twice.test/2'), addresses[3])
  for (const text of ['twice.test', 'https://secure.test', 'plain.test:443', 'plain.test/x', 'http://', ''])
    t.equal(named(text), undefined, text)
})

t.test('one caller leaves connections to others, and they do not wait behind it', async (t) => {
  const shares = createShares()
  const { upstreams, service } = upstreamsOf({ api: [A, B] }, ', max_connections: 16', { shares })
  const went: string[] = []
  const requestOf = (caller: string | undefined): Asking => ({ caller, place: undefined })
  const start = (target: Target, asking: Asking) => {
    upstreams.begun(target, asking)
    return { asking, target }
  }
  const begin = (asking: Asking) => {
    const target = upstreams.pick(service(), undefined, undefined, asking)
    return typeof target === 'string' ? undefined : start(target, asking)
  }
  const end = ({ asking, target }: ReturnType<typeof start>) => {
    if (asking.place !== undefined) give(asking.place.share, asking.place.caller)
    upstreams.ended(target, 'well')
  }
  const fill = (caller: string | undefined) => {
    const begun = []
    for (let one = begin(requestOf(caller)); one !== undefined; one = begin(requestOf(caller)))
      begun.push(one)
    return begun
  }
  const a = fill('a')
  t.equal(a.length, 28, 'of 32')
  const later: ReturnType<typeof start>[] = []
  for (const caller of ['a', 'a', 'b']) {
    const asking = requestOf(caller)
    t.equal(upstreams.othersWait(service(), 'a'), false)
    upstreams.wait({
      service: service(),
      key: undefined,
      tried: undefined,
      asking,
      proceed(target) {
        went.push(caller)
        later.push(start(target, asking))
      },
      waitedTooLong: () => {},
    })
  }
  t.equal(upstreams.othersWait(service(), 'a'), true)
  const b = fill('b')
  t.strictSame(went, ['b'], 'the waiting request goes first')
  t.equal(b.length, 3)
  t.match([...shares.all()], [{ name: 'connections', service: 'api', total: 32, refused: { caller: 1 } }])
  end(a.pop()!)
  t.strictSame(went, ['b'], 'a still has more than its share')
  for (const one of b) end(one)
  t.strictSame(went, ['b', 'a'], 'until there are as many free')
  for (const one of a) end(one)
  t.strictSame(went, ['b', 'a', 'a'])
  for (const one of later) end(one)
  t.equal([...shares.all()][0]!.held, 0)
  t.equal(fill(undefined).length, 32, 'a trusted proxy may have all')
})

t.test('changes of state are logged, each state once a second at most', async (t) => {
  const { upstreams, run, pick, logged, clock } = upstreamsOf({ api: [A, B] })
  const a = pick()
  for (let i = 0; i < 3; i++) {
    run('unreachable', a)
    clock.now += 200
    run('well', a)
  }
  upstreams.setState('api', B, 'drained')
  t.match(logged, [
    {
      fields: { service: 'api', upstream: A, state: 'unhealthy', why: 'no connection: ECONNREFUSED' },
      message: 'an upstream gets no requests',
    },
    { fields: { upstream: A, state: 'serving' }, message: 'an upstream gets requests' },
    { fields: { upstream: B, state: 'drained' }, message: 'an upstream was drained' },
  ])
  t.equal(logged.length, 3)
})

t.test('a reload', async (t) => {
  const api = (snapshot: ReturnType<typeof snapshotWith>): Service => snapshot.services[0]!

  t.test('keeps the upstreams that the new snapshot names, with their state', async (t) => {
    const { upstreams, pick, run } = upstreamsOf({ api: [A, B] })
    const a = pick()
    const pool = upstreams.begun(a)
    t.equal(run('unreachable'), B)
    const next = snapshotWith({ api: [B, A, C] })
    upstreams.retain(next)
    t.match(
      [...upstreams.health()],
      [
        { service: 'api', upstream: B, healthy: false },
        { service: 'api', upstream: A, healthy: true, inFlight: 1 },
        { service: 'api', upstream: C, healthy: true },
      ],
    )
    const picked = times(2, () => upstreams.pick(api(next)) as Target)
    t.strictSame(picked.map(originOf), [A, C])
    t.equal(upstreams.begun(picked[0]!), pool)
    t.equal(pool.closed, false)
  })

  t.test('closes an upstream that no snapshot names any more, after its last request', async (t) => {
    const { upstreams, pick } = upstreamsOf({ api: [A, B] })
    const [a, b] = [pick(), pick()]
    const [poolA, poolB] = [upstreams.begun(a), upstreams.begun(b)]
    upstreams.ended(b, 'well')
    upstreams.retain(snapshotWith({ api: [C] }))
    t.equal(poolB.closed, true)
    t.equal(poolA.closed, false)
    upstreams.ended(a, 'well')
    t.equal(poolA.closed, true)
  })

  t.test('does not fail a request that holds the previous snapshot', async (t) => {
    const { upstreams, pick } = upstreamsOf({ api: [A] })
    const target = pick()
    const before = upstreams.begun(target)
    upstreams.ended(target, 'well')
    upstreams.retain(snapshotWith({ other: [C] }))
    t.equal(before.closed, true)
    const late = pick()
    const pool = upstreams.begun(late)
    t.equal(pool.closed, false)
    upstreams.ended(late, 'well')
    t.equal(pool.closed, true)
  })

  t.test('opens an address again that comes back', async (t) => {
    const { upstreams, run } = upstreamsOf({ api: [A] })
    run('well')
    upstreams.retain(snapshotWith({ api: [C] }))
    const back = snapshotWith({ api: [A] })
    upstreams.retain(back)
    t.equal(upstreams.begun(upstreams.pick(api(back)) as Target).closed, false)
  })

  t.test('that changes max_connections takes effect with the next request', async (t) => {
    const { upstreams, pick } = upstreamsOf({ api: [A] })
    const target = pick()
    const before = upstreams.begun(target)
    const next = snapshotWith({ api: [A] }, ', max_connections: 1')
    upstreams.retain(next)
    t.equal(upstreams.pick(api(next)), 'busy', 'requests in flight count')
    t.equal(before.closed, false)
    upstreams.ended(target, 'well')
    t.not(upstreams.begun(upstreams.pick(api(next)) as Target), before)
    t.equal(before.closed, true)
  })
})

t.test("when a name's addresses change, only connections to that name are renewed", async (t) => {
  const { upstreams, service, moved } = upstreamsOf({
    name: ['http://localhost:9001'],
    ipv4: [A],
    ipv6: ["'http://[::1]:9001'"],
  })
  const pools = () =>
    ['name', 'ipv4', 'ipv6'].map((name) => {
      const target = upstreams.pick(service(name)) as Target
      const pool = upstreams.begun(target)
      upstreams.ended(target, 'well')
      return pool
    })
  const first = pools()
  const same = () => pools().map((pool, i) => pool === first[i])
  t.strictSame([...moved.keys()], ['localhost'])
  t.strictSame(same(), [true, true, true])
  moved.get('localhost')!()
  t.strictSame(same(), [false, true, true])
  t.equal(first[0]!.closed, true)
})

t.test('close ends every pool, also those that were closing', async (t) => {
  const { upstreams, pick } = upstreamsOf({ api: [A, B] })
  const pools = [pick(), pick()].map((target) => upstreams.begun(target))
  upstreams.retain(snapshotWith({ api: [B] }))
  await upstreams.close()
  t.strictSame(
    pools.map((pool) => pool.destroyed),
    [true, true],
  )
})

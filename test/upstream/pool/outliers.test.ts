import t from 'tap'
import type { Target } from '../../../src/upstream/pool/choose.js'
import type { Names } from '../../../src/upstream/pool/dns.js'
import { eject, goodConduct, judge, mayEject, outcomeOf } from '../../../src/upstream/pool/outliers.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const SETTINGS = {
  enabled: true,
  consecutive_failures: 3,
  failure_ratio: 50,
  min_requests: 10,
  interval: 10_000,
  ejection: 30_000,
  max_ejected: 50,
}

t.test('enough failures in a row eject an upstream, and a success resets the count', async (t) => {
  const conduct = goodConduct()
  const after = (failed: boolean) => judge(conduct, SETTINGS, failed, 0)
  t.strictSame([after(true), after(true), after(false)], [undefined, undefined, undefined])
  t.strictSame([after(true), after(true)], [undefined, undefined])
  t.equal(after(true), '3 failures in a row')
})

t.test('a share of failures ejects after enough requests in an interval', async (t) => {
  const conduct = goodConduct()
  const alternate = (count: number, now: number) =>
    Array.from({ length: count }, (_, i) => judge(conduct, SETTINGS, i % 2 === 1, now))
  t.ok(
    alternate(9, 0).every((reason) => reason === undefined),
    'too few to tell',
  )
  t.ok(
    alternate(9, 10_000).every((reason) => reason === undefined),
    'the next interval counts anew',
  )
  t.equal(judge(conduct, SETTINGS, true, 10_001), '5 of 10 requests failed')
})

t.test('each ejection is twice as long, up to ten times, and that is forgotten step by step', async (t) => {
  const conduct = goodConduct()
  let now = 0
  const again = () => {
    const until = eject(conduct, SETTINGS, now)
    const length = until - now
    now = until
    return length / SETTINGS.ejection
  }
  t.strictSame([again(), again(), again(), again(), again(), again()], [1, 2, 4, 8, 10, 10])
  now += 3 * SETTINGS.ejection
  t.equal(again(), 8, 'three steps back, one on')
  now += 100 * SETTINGS.ejection
  t.equal(again(), 1)
  now -= SETTINGS.ejection / 2
  t.equal(again(), 2, 'also of one that was let in before its time')
})

t.test(
  'at most the configured share is ejected; of two or more always one, the only one never',
  async (t) => {
    const most = (share: number) => (all: number) => {
      let out = 0
      while (mayEject({ ...SETTINGS, max_ejected: share }, all, out)) out++
      return out
    }
    t.strictSame([0, 1, 2, 3, 4, 5, 10].map(most(50)), [0, 0, 1, 1, 2, 2, 5])
    t.strictSame([1, 2, 5, 10, 20].map(most(10)), [0, 1, 1, 1, 2])
  },
)

t.test('only 502, 503 and 504 count as failures of the upstream', async (t) => {
  const failures = [200, 204, 302, 400, 404, 429, 499, 500, 501, 502, 503, 504, 505].filter(
    (status) => outcomeOf(status) === 'failed',
  )
  t.strictSame(failures, [502, 503, 504])
})

const NO_NAMES: Names = { lookup() {}, watch: () => () => {}, state: () => undefined, close() {} }
const [A, B, C, D] = [1, 2, 3, 4].map((n) => `http://127.0.0.1:900${n}`) as [string, string, string, string]

function upstreamsOf(more: string) {
  const snapshot = snapshotOf(`
tiers: [free]
services: { api: { upstreams: [${[A, B, C, D].join(', ')}]${more} } }
routes: [{ path: /*, service: api }]
`)
  const clock = { now: 1_000 }
  const upstreams = createUpstreams(snapshot, { now: () => clock.now, names: NO_NAMES })
  t.teardown(() => upstreams.close())
  const api = snapshot.services[0]!
  const run = (bad: readonly string[], count = 1): string[] =>
    Array.from({ length: count }, () => {
      const target = upstreams.pick(api) as Target
      upstreams.begun(target)
      const failed = bad.includes(target.upstream.origin)
      upstreams.ended(target, failed ? 'failed' : 'well', failed ? 'status 503' : '')
      return target.upstream.origin
    })
  const stateOf = (address: string) => upstreams.describe().find((one) => one.address === address)!
  return { upstreams, clock, run, stateOf }
}

t.test('a failing upstream is ejected and gets nothing until its time is up', async (t) => {
  const { clock, run, stateOf } = upstreamsOf(', outliers: { consecutive_failures: 3, ejection: 30s }')
  run([B], 12)
  t.match(stateOf(B), {
    state: 'ejected',
    why: '3 failures in a row, the last: status 503; back in 30 s',
    ejections: 1,
  })
  t.notOk(run([B], 9).includes(B))
  clock.now += 29_999
  t.notOk(run([B], 9).includes(B))
  clock.now += 1
  t.ok(run([], 4).includes(B), 'it is back')
  t.match(stateOf(B), { state: 'serving', why: null })
})

t.test('no more than half are ejected, however many fail', async (t) => {
  const { run, stateOf } = upstreamsOf(', outliers: { consecutive_failures: 2 }')
  const all = [A, B, C, D]
  run(all, 40)
  t.equal(all.filter((address) => stateOf(address).state === 'ejected').length, 2)
  const left = new Set(run(all, 8))
  t.equal(left.size, 2, 'the others go on')
})

t.test('a slow start gives a returning upstream a growing part of its share', async (t) => {
  const { clock, run, stateOf } = upstreamsOf(
    ', slow_start: 10s, outliers: { consecutive_failures: 3, ejection: 30s }',
  )
  run([B], 12)
  clock.now += 30_000
  const share = () => run([], 310).filter((origin) => origin === B).length / 310
  t.ok(Math.abs(share() - 0.1 / 3.1) < 0.01)
  t.match(stateOf(B), { state: 'slow_start', why: '10 % of its weight' })
  clock.now += 5_000
  t.ok(Math.abs(share() - 0.5 / 3.5) < 0.01)
  clock.now += 5_000
  t.ok(Math.abs(share() - 0.25) < 0.01)
  t.match(stateOf(B), { state: 'serving' })
})

t.test('restoring by hand ends an ejection, and with outliers: false there is none', async (t) => {
  const { upstreams, run, stateOf } = upstreamsOf(', outliers: { consecutive_failures: 3 }')
  run([B], 12)
  upstreams.setState('api', B, 'serving')
  t.match(stateOf(B), { state: 'serving', ejections: 1 })
  t.ok(run([], 4).includes(B))

  const never = upstreamsOf(', outliers: false')
  never.run([A, B], 200)
  t.match(
    never.upstreams.describe().map(({ state }) => state),
    ['serving', 'serving', 'serving', 'serving'],
  )
})

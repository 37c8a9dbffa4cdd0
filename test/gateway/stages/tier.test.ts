import t from 'tap'
import type { Exchange } from '../../../src/gateway/exchange/exchange.js'
import { resolveTier } from '../../../src/gateway/stages/tier.js'
import type { Assignment } from '../../../src/limiter/limiter.js'
import { createCounts, type Found, type TierSource } from '../../../src/tier-sources/tier-source.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { memoryAssignments, snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(`
tiers: [free, pro, enterprise]
default_tier: pro
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
`)

async function tierOf(assigned: string | undefined, credentialTier: number | undefined) {
  const assignments = memoryAssignments()
  if (assigned !== undefined) await assignments.set('acme', assigned)
  const x = exchangeFor(snapshot)
  x.consumer = 'acme'
  x.credentialTier = credentialTier
  await resolveTier(assignments)(x)
  return [x.tier === -1 ? undefined : snapshot.tiers[x.tier], x.tierFrom]
}

t.test('an assignment wins over the credential, the credential over the default', async (t) => {
  t.same(await tierOf('enterprise', 0), ['enterprise', 'assignment'])
  t.same(await tierOf('enterprise', undefined), ['enterprise', 'assignment'])
  t.same(await tierOf(undefined, 0), ['free', 'credential'])
  t.same(await tierOf(undefined, undefined), ['pro', 'default'])
})

t.test('an assignment to an unknown tier counts as none', async (t) => {
  t.same(await tierOf('platinum', 0), ['free', 'credential'])
  t.same(await tierOf('platinum', undefined), ['pro', 'default'])
})

t.test('the exchange knows when its assignment ends', async (t) => {
  const assignments = memoryAssignments()
  const until = Date.now() + 3_600_000
  await assignments.set('acme', 'enterprise', until)
  await assignments.set('other', 'platinum', until)
  const ends = async (consumer: string) => {
    const x = exchangeFor(snapshot)
    x.consumer = consumer
    await resolveTier(assignments)(x)
    return x.tierUntil
  }
  t.same(await Promise.all(['acme', 'other', 'nobody'].map(ends)), [until, undefined, undefined])
})

t.test('an assignment holds for exactly one consumer', async (t) => {
  const assignments = memoryAssignments()
  await assignments.set('acme', 'enterprise')
  const x = exchangeFor(snapshot)
  x.consumer = 'acme2'
  resolveTier(assignments)(x)
  t.match(x, { tier: 1, tierFrom: 'default' })
})

t.test('a stranger waits for its assignment; one that cannot be looked up is marked', async (t) => {
  const strangerOf = async (found: Promise<Assignment | undefined>, by: Exchange['identifiedBy']) => {
    const x = exchangeFor(snapshot)
    x.consumer = 'acme'
    x.identifiedBy = by
    x.credentialTier = 0
    let asked = 0
    const find = () => {
      asked++
      return found
    }
    const outcome = resolveTier({ find, isWhole: () => false })(x)
    t.equal(x.tier, by === 'ip' ? 0 : -1)
    t.equal(await outcome, undefined)
    return [snapshot.tiers[x.tier], x.tierFrom, x.tierUnchecked, asked]
  }
  const assigned = Promise.resolve({ tier: 'enterprise', until: undefined })
  t.same(await strangerOf(assigned, 'api_key'), ['enterprise', 'assignment', false, 1])
  t.same(await strangerOf(Promise.resolve(undefined), 'api_key'), ['free', 'credential', false, 1])
  const lost = Promise.reject(new Error('the store is away'))
  t.same(await strangerOf(lost, 'api_key'), ['free', 'credential', true, 1])
  t.same(await strangerOf(assigned, 'ip'), ['free', 'credential', false, 0], 'an address is not looked up')
})

/** Makes a source that answers at once, or that has to be waited for. */
function sourceOf(
  name: string,
  plan: Partial<Found> | undefined | Promise<Partial<Found> | undefined>,
  tellsTenants = true,
) {
  const asked: string[] = []
  const unknown: string[] = []
  const whole = (found: Partial<Found> | undefined): Found | undefined =>
    found && { tier: undefined, tenant: undefined, stale: false, ...found }
  const source: TierSource = {
    name,
    tellsTenants,
    find(consumer) {
      asked.push(consumer)
      return plan instanceof Promise ? plan.then(whole) : whole(plan)
    },
    changed() {},
    allChanged() {},
    unknownTier: (tier) => void unknown.push(tier),
    adjust() {},
    describe: () => ({ source: name, up: true, counts: createCounts(), remembered: 0 }),
    async close() {},
  }
  return { source, asked, unknown }
}

async function resolved(sources: readonly TierSource[], about: Partial<Exchange> = {}, assigned?: string) {
  const assignments = memoryAssignments()
  if (assigned !== undefined) await assignments.set('acme', assigned)
  const x = exchangeFor(snapshot)
  Object.assign(x, { consumer: 'acme', identifiedBy: 'header', ...about })
  const waits = resolveTier(assignments, { sources: () => sources })(x)
  await waits
  return { x, waited: waits !== undefined }
}

t.test('a source is asked when neither assignment nor credential has a tier', async (t) => {
  const one = sourceOf('billing', { tier: 'enterprise', tenant: 'acme-group' }, false)
  const { x, waited } = await resolved([one.source])
  t.match(x, { tier: 2, tierFrom: 'source', tierSource: 'billing', tierStale: false, tenant: 'acme-group' })
  t.equal(waited, false, 'a known tier is not waited for')
  t.match((await resolved([one.source], {}, 'free')).x, {
    tier: 0,
    tierFrom: 'assignment',
    tierSource: undefined,
  })
  t.match((await resolved([one.source], { credentialTier: 0 })).x, { tier: 0, tierFrom: 'credential' })
  t.equal(one.asked.length, 1)
})

t.test('sources are asked in order until one knows, each waited for if needed', async (t) => {
  const first = sourceOf('first', Promise.resolve(undefined))
  const second = sourceOf('second', Promise.resolve({ tier: 'free', stale: true }), false)
  const third = sourceOf('third', { tier: 'enterprise' }, false)
  const { x, waited } = await resolved([first.source, second.source, third.source])
  t.match(x, { tier: 0, tierFrom: 'source', tierSource: 'second', tierStale: true })
  t.equal(waited, true)
  t.same(third.asked, [])
  t.match((await resolved([first.source])).x, { tier: 1, tierFrom: 'default' })
})

t.test('a source is also asked for a missing tenant, which changes nothing else', async (t) => {
  const telling = sourceOf('billing', Promise.resolve({ tier: 'free', tenant: 'acme-group', stale: true }))
  t.match((await resolved([telling.source], {}, 'enterprise')).x, {
    tier: 2,
    tierFrom: 'assignment',
    tierStale: false,
    tenant: 'acme-group',
  })
  const { x } = await resolved([telling.source], { tenant: 'their-own' })
  t.match(x, { tier: 0, tenant: 'their-own' }, 'a tenant of the credential stays')
  t.equal(telling.asked.length, 2)
  await resolved([telling.source], { tenant: 'their-own' }, 'enterprise')
  t.equal(telling.asked.length, 2, 'a consumer with both is not looked up')
})

t.test('an unknown tier of a source counts as none, and is reported', async (t) => {
  const odd = sourceOf('odd', { tier: 'platinum', tenant: 'acme-group' })
  const next = sourceOf('next', { tier: 'free' })
  t.match((await resolved([odd.source, next.source])).x, {
    tier: 0,
    tierSource: 'next',
    tenant: 'acme-group',
  })
  t.match((await resolved([odd.source])).x, { tier: 1, tierFrom: 'default' })
  t.same(odd.unknown, ['platinum', 'platinum'])
})

t.test('sources are not asked about an address', async (t) => {
  const one = sourceOf('billing', { tier: 'enterprise' })
  t.match((await resolved([one.source], { identifiedBy: 'ip' })).x, { tier: 1, tierFrom: 'default' })
  t.same(one.asked, [])
})

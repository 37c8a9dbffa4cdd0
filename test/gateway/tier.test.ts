import t from 'tap'
import { resolveTier } from '../../src/gateway/tier.js'
import { createMemoryAssignments } from '../../src/limiter/assignments.js'
import { exchangeFor } from '../support/exchange.js'
import { snapshotOf } from '../support/gateway.js'

const snapshot = snapshotOf(`
tiers: [free, pro, enterprise]
default_tier: pro
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
`)

async function tierOf(assigned: string | undefined, credentialTier: number | undefined) {
  const assignments = createMemoryAssignments()
  if (assigned !== undefined) await assignments.set('acme', assigned)
  const x = exchangeFor(snapshot)
  x.consumer = 'acme'
  x.credentialTier = credentialTier
  resolveTier(assignments)(x)
  return [x.tier === -1 ? undefined : snapshot.tiers[x.tier], x.tierFrom]
}

t.test('an assignment wins over the credential, the credential over the default', async (t) => {
  t.same(await tierOf('enterprise', 0), ['enterprise', 'assignment'])
  t.same(await tierOf('enterprise', undefined), ['enterprise', 'assignment'])
  t.same(await tierOf(undefined, 0), ['free', 'credential'])
  t.same(await tierOf(undefined, undefined), ['pro', 'default'])
})

t.test('an assignment to a tier that this configuration does not have counts as none', async (t) => {
  t.same(await tierOf('platinum', 0), ['free', 'credential'])
  t.same(await tierOf('platinum', undefined), ['pro', 'default'])
  t.same(await tierOf('', undefined), ['pro', 'default'])
})

t.test('an assignment is that of one consumer', async (t) => {
  const assignments = createMemoryAssignments()
  await assignments.set('acme', 'enterprise')
  const x = exchangeFor(snapshot)
  x.consumer = 'acme2'
  resolveTier(assignments)(x)
  t.match(x, { tier: 1, tierFrom: 'default' })
})

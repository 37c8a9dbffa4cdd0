import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Limit } from '../../../src/config/snapshot/limit.js'
import { policyOf } from '../../../src/config/snapshot/policy.js'
import type { Service } from '../../../src/config/snapshot/snapshot.js'
import { createCharges } from '../../../src/gateway/quota/charges.js'
import type { Charge, Limiter, Slot } from '../../../src/limiter/limiter.js'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { eventually } from '../../support/eventually.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { createClock, snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(`
tiers: [free]
services: { chat: { upstreams: [http://a], limits: { free: 10/min } } }
routes: [{ path: /*, service: chat }]
`)

const LEASE_MS = 100
const slots: Limit = {
  name: 'concurrent',
  algorithm: 'concurrency',
  by: 'consumer',
  amount: 1,
  windowMs: LEASE_MS,
  burst: 1,
  calendar: undefined,
  share: undefined,
  shareOf: undefined,
  changed: undefined,
  next: undefined,
}
const policy = policyOf([slots], { refunds: false, candidate: undefined })
const service: Service = { ...snapshot.services[0]!, policies: [policy] }

function requestOf(charge: Partial<Charge> = {}): [ReturnType<typeof exchangeFor>, Charge] {
  const x = exchangeFor(snapshot, { target: '/room' })
  x.route = { ...snapshot.routes[0]!, service }
  x.tier = 0
  const at = createClock().now
  const own = {
    service,
    policy,
    consumer: 'alice',
    levels: undefined,
    cost: 1,
    decidedBy: 'store',
    at,
    slotAt: at,
  }
  return [x, { ...own, ...charge } as Charge]
}

t.test("a slot's lease is renewed for as long as the response takes, and then given back", async (t) => {
  const clock = createClock()
  const limiter = createMemoryLimiter({ now: () => clock.now })
  const charges = createCharges(limiter, 5)
  const [x, charge] = requestOf()
  t.ok(limiter.take(service, policy, 'alice', 1).allowed)
  charges.hold(x, charge)
  t.equal(charges.size(), 1)
  for (let lease = 0; lease < 3; lease++) {
    clock.now += LEASE_MS / 2
    await eventually('it is renewed', () => charge.slotAt === clock.now)
    t.notOk(limiter.take(service, policy, 'alice', 1).allowed)
  }
  charges.settle(x)
  t.equal(charges.size(), 0)
  t.ok(limiter.take(service, policy, 'alice', 1).allowed)
})

t.test('a slot that nobody renews expires', async (t) => {
  const clock = createClock()
  const limiter = createMemoryLimiter({ now: () => clock.now })
  limiter.take(service, policy, 'alice', 1)
  clock.now += LEASE_MS * 1.1
  t.ok(limiter.take(service, policy, 'alice', 1).allowed)
})

t.test('a slot that ends during its renewal is given back after it', async (t) => {
  const said: [Slot, number][] = []
  let renewed: () => void = () => {}
  const limiter: Pick<Limiter, 'settle'> = {
    settle(charge, _quota, slot) {
      said.push([slot, charge.slotAt])
      if (slot !== 'renew') return
      return new Promise((resolve) => {
        renewed = () => {
          charge.slotAt = 7
          resolve()
        }
      })
    },
  }
  const charges = createCharges(limiter, 5)
  const [x, charge] = requestOf({ slotAt: 1 })
  charges.hold(x, charge)
  await eventually('it is being renewed', () => said.length === 1)
  charges.settle(x)
  await sleep(3 * LEASE_MS)
  t.same(said, [['renew', 1]], 'neither twice, nor given back meanwhile')
  renewed()
  await sleep(0)
  t.same(said, [
    ['renew', 1],
    ['release', 7],
  ])
})

t.test('slots that end in any order leave none behind', async (t) => {
  const clock = createClock()
  const limiter = createMemoryLimiter({ now: () => clock.now })
  const many = policyOf([{ ...slots, amount: 6, burst: 6, windowMs: 60_000 }], {
    refunds: false,
    candidate: undefined,
  })
  const charges = createCharges(limiter)
  const held = Array.from({ length: 6 }, () => {
    t.ok(limiter.take(service, many, 'alice', 1).allowed)
    const [x, charge] = requestOf({ policy: many })
    charges.hold(x, charge)
    return x
  })
  for (const i of [2, 5, 0, 1, 4, 3]) {
    charges.settle(held[i]!)
    charges.settle(held[i]!)
  }
  t.equal(charges.size(), 0)
  const [usage] = await limiter.usage(service, many, 'alice')
  t.equal(usage!.used, 0)
})

// Tests src/limiter/redis/nodes.ts
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Cluster } from 'ioredis'
import t from 'tap'
import { ASSIGNMENTS, createAssignments } from '../../../src/fleet/assignments.js'
import { createRedisMap } from '../../../src/fleet/replicated-map-redis.js'
import { consumerPart, limitKey, slotOf } from '../../../src/limiter/key.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { startRedisCluster } from '../../support/redis/redis-cluster.js'
import { within } from '../../support/within.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT, RECOVERY, SLOWEST } from '../contract/traffic.js'

const built = (name: string) => JSON.stringify(new URL(`../../../dist/${name}.js`, import.meta.url).href)

/** Closes its connections at the moment at which ioredis refreshes its slots by itself. */
const CLOSES = `
import { once } from 'node:events'
import { connectStore } from ${built('limiter/redis/connect')}
import { openSubscriber } from ${built('fleet/pubsub')}
const [address] = process.argv.slice(2)
const store = connectStore({ redis: [address] }, { info() {}, warn() {} })
// Before it has connected: ioredis asks again after so many ms, in place of 2 s.
store.options.slotsRefreshInterval = 50
const subscriber = openSubscriber(store)
await once(store, 'ready')
store.refreshSlotsCache = (callback) => {
  delete store.refreshSlotsCache
  store.refreshSlotsCache(callback)
  subscriber.close()
  store.disconnect()
}
`

if (!hasRedisServer) t.plan(0, 'needs a redis-server on the PATH to make a cluster of')
else {
  const nodes = await startRedisCluster(t, 2)
  const addresses = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const policy = policyOf([20, 86_400_000])
  const service = serviceOf('payments', [policy])
  /** Returns which of the two nodes counts for a consumer. */
  const nodeOf = (consumer: string) => (slotOf(consumerPart(consumer)) < 8192 ? 0 : 1)
  const consumersOn = (node: number, name: string) =>
    Array.from({ length: 100 }, (_, i) => `${name}-${i}`).filter((consumer) => nodeOf(consumer) === node)

  t.test('slotOf computes the same slot as Redis', async (t) => {
    for (const id of ['alice', 'a', '~abc', 'u1000000000', 'x'.repeat(64)]) {
      const key = limitKey('payments', consumerPart(id), '1m')
      t.equal(slotOf(consumerPart(id)), await nodes[0]!.redis.client.call('CLUSTER', 'KEYSLOT', key))
    }
  })

  t.test('two gateways on a Cluster admit exactly the limit', async (t) => {
    const gateways = [
      openLimiter(t, addresses, 5000).limiter,
      openLimiter(t, addresses.slice(1), 5000).limiter,
    ]
    await Promise.all(gateways.map((gateway) => gateway.ready))
    const consumers = Array.from({ length: 50 }, (_, i) => `consumer-${i}`)
    const admitted = new Map<string, number>()
    await Promise.all(
      consumers.flatMap((consumer) =>
        Array.from({ length: 30 }, async (_, i) => {
          const decision = await gateways[i % 2]!.take(service, policy, consumer, 1)
          if (decision.allowed && decision.decidedBy === 'store')
            admitted.set(consumer, (admitted.get(consumer) ?? 0) + 1)
        }),
      ),
    )
    t.same(
      [...admitted.values()],
      consumers.map(() => 20),
    )
    const [usage] = await gateways[0]!.usage(service, policy, 'consumer-7')
    t.equal(usage!.used, 20)
    await gateways[0]!.reset(service, 'consumer-7')
    t.ok((await gateways[1]!.take(service, policy, 'consumer-7', 20)).allowed)
  })

  t.test('a decision whose reply is lost is charged once, and never sent again', async (t) => {
    const { limiter } = openLimiter(t, addresses, PATIENT)
    await limiter.ready
    const [consumer = ''] = consumersOn(0, 'lost')
    nodes[0]!.proxy.cutNextReply()
    const decision = await limiter.take(service, policy, consumer, 1)
    t.match(decision, { allowed: true, decidedBy: 'open', reason: 'error' })
    while (limiter.state() !== 'up') await delay(5)
    await delay(300)
    t.equal((await limiter.usage(service, policy, consumer))[0]!.used, 1)
  })

  t.test('a node that is away degrades only its own consumers', async (t) => {
    const { limiter } = openLimiter(t, addresses, PATIENT)
    await limiter.ready
    const [here, there] = [consumersOn(0, 'away'), consumersOn(1, 'away')]
    await nodes[1]!.redis.stop()
    // A second after that, the other one sees that most primaries are away, and refuses, too.
    const end = performance.now() + 700
    const slowest = { ms: 0 }
    const take = async (consumer: string) => {
      const started = performance.now()
      const decision = await limiter.take(service, policy, consumer, 1)
      slowest.ms = Math.max(slowest.ms, performance.now() - started)
      return decision
    }
    for (let i = 0; i < 10 && performance.now() < end; i++) {
      const decisions = await Promise.all([...here, ...there].map(take))
      t.ok(decisions.every(({ allowed }) => allowed))
      t.ok(decisions.slice(0, here.length).every(({ decidedBy }) => decidedBy === 'store'))
      t.ok(decisions.slice(here.length).every(({ decidedBy }) => decidedBy === 'open'))
      await delay(30)
    }
    t.ok(slowest.ms < SLOWEST, `slowest ${slowest.ms.toFixed(1)} ms: nobody waits for the timeout`)
    t.equal(limiter.state(), 'degraded')
    await nodes[1]!.redis.restart()
    const back = performance.now()
    while (limiter.state() !== 'up') await delay(5)
    t.comment(`up again after ${(performance.now() - back).toFixed(0)} ms`)
    t.ok(performance.now() - back < RECOVERY)
  })

  t.test('a process ends when its store is closed while asking for the slots', async (t) => {
    const file = `${t.testdir({ 'closes.mjs': CLOSES })}/closes.mjs`
    const child = spawn(process.execPath, [file, addresses[0]!], { stdio: 'inherit' })
    t.teardown(() => child.kill('SIGKILL'))
    t.strictSame(await within(60_000, 'its end', once(child, 'exit')), [0, null])
  })

  t.test('tier assignments hold on every node of a Cluster', async (t) => {
    const quiet = { info() {}, warn() {} }
    const [a, b] = addresses.map((address) => {
      const store = connectStore({ redis: [address] }, quiet)
      t.ok(store instanceof Cluster)
      const assignments = createAssignments(createRedisMap(ASSIGNMENTS, { store, log: quiet }))
      t.teardown(async () => {
        await assignments.close()
        store.disconnect()
      })
      return assignments
    })
    await Promise.all([a!.ready, b!.ready])
    for (const tier of ['pro', undefined, 'enterprise']) {
      await a!.set('alice', tier)
      await eventually(`${tier} is seen`, () => b!.get('alice')?.tier === tier, RECOVERY)
      t.equal((await b!.read('alice'))?.tier, tier)
    }
  })
}

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { consumerPart, slotOf } from '../../../src/limiter/key.js'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { startRedisCluster } from '../../support/redis/redis-cluster.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { policy, serviceWhich } from '../contract/traffic.js'

/** Decisions of one consumer, by who decided. */
interface Told {
  store: number
  without: number
}

if (!hasRedisServer) t.plan(0, 'needs a redis-server on the PATH to make a cluster of')
else {
  const SIZE = 3
  const nodes = await startRedisCluster(t, SIZE, { replicas: true })
  const addresses = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const nodeOf = (consumer: string) => Math.floor((slotOf(consumerPart(consumer)) * SIZE) / 16384)
  const consumers = Array.from({ length: 60 }, (_, i) => `consumer-${i}`)
  const affected = consumers.filter((consumer) => nodeOf(consumer) === 0)

  t.test('when a primary is killed under load, its replica goes on counting', async (t) => {
    // Long, so that a busy machine causes no degraded decision.
    const { limiter } = openLimiter(t, addresses, 2_000)
    await limiter.ready
    const counted = serviceWhich('open')
    const limit = policyOf([50, 86_400_000])
    const limited = serviceOf('limited', [limit], 'closed')
    const told = new Map<string, Told>(consumers.map((consumer) => [consumer, { store: 0, without: 0 }]))
    const admitted = new Map<string, number>(consumers.map((consumer) => [consumer, 0]))
    let slowest = 0
    let refused = 0
    let last = 0
    let gone = Number.POSITIVE_INFINITY
    let back: number | undefined
    let running = true

    async function ask(consumer: string): Promise<void> {
      const sent = performance.now()
      const [decision, small] = await Promise.all([
        limiter.take(counted, policy, consumer, 1),
        limiter.take(limited, limit, consumer, 1),
      ])
      const now = performance.now()
      slowest = Math.max(slowest, now - sent)
      if (!decision.allowed) refused++
      const mine = told.get(consumer)!
      if (decision.decidedBy === 'store') mine.store++
      else mine.without++
      if (small.allowed) admitted.set(consumer, admitted.get(consumer)! + 1)
      if (nodeOf(consumer) !== 0) return
      if (decision.decidedBy !== 'store') last = now
      else if (sent > gone && last > gone) back ??= now
    }
    async function caller(consumer: string): Promise<void> {
      while (running) {
        await ask(consumer)
        await delay(10)
      }
    }
    const traffic = Promise.all(consumers.map(caller))
    await delay(300)
    gone = performance.now()
    await nodes[0]!.redis.stop()
    await eventually('the replica counts', () => back !== undefined, 40_000)
    await delay(500)
    running = false
    await traffic

    t.comment(
      `counting again ${(back! - gone).toFixed(0)} ms after the kill; slowest ${slowest.toFixed(1)} ms`,
    )
    t.equal(refused, 0)
    t.ok(slowest < 5_000, `no decision takes long: ${slowest.toFixed(1)} ms`)
    let lost = 0
    for (const [consumer, { store, without }] of told) {
      const used = (await limiter.usage(counted, policy, consumer))[0]!.used
      if (nodeOf(consumer) === 0) {
        lost += store - used
        t.ok(without > 0, `${consumer} is degraded for a while`)
      } else {
        t.equal(without, 0, `${consumer} is on another node, and never degraded`)
        t.equal(used, store, 'and all of it is counted')
      }
    }
    // Each caller has one request under way at a time: it does not learn of a charge whose reply died with the server.
    t.ok(Math.abs(lost) <= 2 * affected.length, `${lost} of what the primary counted was not replicated`)
    const most = Math.max(...admitted.values())
    t.comment(`${lost} charges lost in the failover; at most ${most} admitted of a limit of 50`)
    t.ok(most <= 100, 'over the limit by no more than the limit, once')
    for (const consumer of consumers) {
      if (nodeOf(consumer) !== 0) t.ok(admitted.get(consumer)! <= 50, 'and not at all on other nodes')
    }
  })

  t.test('the killed primary comes back as a replica, and no decision is degraded', async (t) => {
    const { limiter } = openLimiter(t, addresses.slice(1), 2_000)
    await limiter.ready
    await nodes[0]!.redis.restart()
    const until = performance.now() + 1500
    let without = 0
    const isReplica = async () => /^slave/.test(String(await nodes[0]!.redis.client.call('ROLE')))
    while (performance.now() < until || !(await isReplica())) {
      const decisions = await Promise.all(
        consumers.map((consumer) => limiter.take(serviceWhich('open'), policy, consumer, 1)),
      )
      without += decisions.filter(({ decidedBy }) => decidedBy !== 'store').length
      await delay(10)
    }
    t.equal(without, 0)
    t.ok(await isReplica())
  })
}

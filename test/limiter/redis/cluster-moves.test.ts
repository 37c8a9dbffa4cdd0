import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { consumerPart, slotOf } from '../../../src/limiter/key.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { moveSlot, startRedisCluster } from '../../support/redis/redis-cluster.js'
import { serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { policy } from '../contract/traffic.js'

if (!hasRedisServer) t.plan(0, 'needs a redis-server on the PATH to make a cluster of')
else {
  const nodes = await startRedisCluster(t, 2, { spare: 1 })
  const addresses = nodes.slice(0, 2).map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const services = Array.from({ length: 30 }, (_, i) => serviceOf(`service-${i}`, [policy]))
  const consumerOn = (node: number, name: string) => {
    for (let i = 0; ; i++) {
      if (slotOf(consumerPart(`${name}-${i}`)) < 8192 === (node === 0)) return `${name}-${i}`
    }
  }

  /** Asks all services at once, over and over, while the consumer's slot moves between two nodes. */
  async function moves(t: Test, consumer: string, from: number, to: number): Promise<void> {
    const { limiter, log } = openLimiter(t, addresses, 2000)
    await limiter.ready
    const decisions: Decision[] = []
    let moving = true
    async function callers(): Promise<void> {
      while (moving) {
        decisions.push(
          ...(await Promise.all(services.map((service) => limiter.take(service, policy, consumer, 1)))),
        )
        await delay(1)
      }
    }
    const traffic = callers()
    await delay(30)
    const keys = await moveSlot(slotOf(consumerPart(consumer)), nodes[from]!, nodes[to]!, nodes, 3)
    await delay(100)
    moving = false
    await traffic
    t.ok(keys >= services.length, `${keys} keys were moved one by one`)
    const asked = decisions.length / services.length
    t.same(
      decisions.filter(({ decidedBy }) => decidedBy !== 'store').map(({ reason }) => reason),
      [],
      `${decisions.length} decisions, none without the store`,
    )
    t.same(
      log.filter(({ level }) => level === 'warn'),
      [],
    )
    for (const service of services) {
      t.equal(
        (await limiter.usage(service, policy, consumer))[0]!.used,
        asked,
        'each is charged exactly once',
      )
    }
    t.equal(limiter.state(), 'up')
  }

  t.test('while a slot moves to another node under load, every decision is counted once', (t) =>
    moves(t, consumerOn(0, 'moved'), 0, 1),
  )

  t.test('while a slot moves to a new node under load, every decision is counted once', (t) =>
    moves(t, consumerOn(1, 'moved'), 1, 2),
  )
}

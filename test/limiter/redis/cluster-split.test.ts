// Tests src/limiter/redis/cluster.ts
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t from 'tap'
import { consumerPart, slotOf } from '../../../src/limiter/key.js'
import type { RedisLimiter } from '../../../src/limiter/redis/redis.js'
import { eventually } from '../../support/eventually.js'
import { BUS, freePort } from '../../support/free-port.js'
import { hasRedisServer, ownRedis, runRedis } from '../../support/redis/redis.js'
import { moveSlot } from '../../support/redis/redis-cluster.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT } from '../contract/traffic.js'

const CLUSTER = ['cluster-enabled yes', 'cluster-require-full-coverage no', 'cluster-node-timeout 1000']

// As docs/operations.md tells it, step by step.
if (hasRedisServer) {
  t.test('one Redis becomes a Cluster under traffic, and no count is lost', async (t) => {
    const limit = policyOf([100_000, 86_400_000])
    const service = serviceOf('payments', [limit], 'local')
    const consumers = Array.from({ length: 30 }, (_, i) => `consumer-${i}`)
    const admitted = new Map(consumers.map((consumer) => [consumer, 0]))
    const without = new Map(consumers.map((consumer) => [consumer, 0]))

    /** Sends traffic through a gateway until the returned function is called. */
    function serve(limiter: RedisLimiter): () => Promise<unknown> {
      let serving = true
      const callers = consumers.map(async (consumer) => {
        while (serving) {
          const { allowed, decidedBy } = await limiter.take(service, limit, consumer, 1)
          t.ok(allowed)
          admitted.set(consumer, admitted.get(consumer)! + 1)
          if (decidedBy !== 'store') without.set(consumer, without.get(consumer)! + 1)
          await delay(5)
        }
      })
      return () => {
        serving = false
        return Promise.all(callers)
      }
    }
    const degraded = () => [...without.values()].reduce((sum, one) => sum + one, 0)

    const folder = await mkdtemp(join(tmpdir(), 'tidegate-split-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const port = await freePort()
    const settings = [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, 'save ""', 'appendonly yes']
    const config = join(folder, 'redis.conf')
    const write = (lines: readonly string[]) => writeFile(config, lines.join('\n'))
    await write(settings)
    const redis = await runRedis(t, port, () => [config])

    // 1. A rolling restart of the gateways, with a list of one address.
    const old = openLimiter(t, redis.url, PATIENT).limiter
    await old.ready
    const stopOld = serve(old)
    await delay(100)
    const gateways = [1, 2].map(() => openLimiter(t, [redis.url], PATIENT, { gateways: () => 2 }).limiter)
    await Promise.all(gateways.map(({ ready }) => ready))
    const stops = gateways.map(serve)
    await delay(100)
    await stopOld()
    t.equal(degraded(), 0, 'gateways before and after the restart count together')

    // 2. The slots, from an empty server, beside the data.
    const empty = await mkdtemp(join(tmpdir(), 'tidegate-slots-'))
    t.teardown(() => rm(empty, { recursive: true, force: true }))
    const other = await freePort()
    const blank = await runRedis(t, other, () => [
      ...['--port', String(other), '--dir', empty, '--save', '', '--cluster-enabled', 'yes'],
    ])
    await blank.client.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383)
    await blank.client.call('CLUSTER', 'SAVECONFIG')
    await blank.stop()
    await copyFile(join(empty, 'nodes.conf'), join(folder, 'nodes.conf'))

    // 3. Redis restarts, and is a Cluster of one node.
    await write([...settings, ...CLUSTER])
    const last = new Redis(redis.url, { retryStrategy: () => null })
    await last.call('SHUTDOWN').catch(() => {})
    await redis.stop()
    await redis.restart()
    await eventually('both gateways count in the Cluster', () =>
      gateways.every((limiter) => limiter.state() === 'up'),
    )
    t.ok(degraded() > 0, `${degraded()} decisions meanwhile`)
    const meanwhile = degraded()
    await delay(200)

    // 4. More nodes join, and slots move to them.
    const spare = await Promise.all(
      [0, 1].map(async () => {
        const port = await freePort()
        return ownRedis(
          t,
          CLUSTER.flatMap((line) => `--${line}`.split(' ')),
          port,
        )
      }),
    )
    const nodes = [redis, ...spare].map((redis) => ({ redis, proxy: undefined as never }))
    for (const [i, one] of spare.entries()) {
      await one.client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 2)
      await redis.client.call('CLUSTER', 'MEET', '127.0.0.1', one.port, one.port + BUS)
    }
    for (const { client } of [redis, ...spare]) {
      const info = async () => String(await client.call('CLUSTER', 'INFO'))
      await eventually('the nodes know each other', async () =>
        /cluster_state:ok[\s\S]*cluster_known_nodes:3/.test(await info()),
      )
    }
    const slots = [...new Set(consumers.map((consumer) => slotOf(consumerPart(consumer))))]
    for (const [i, slot] of slots.entries()) {
      if (i % 3 > 0) await moveSlot(slot, nodes[0]!, nodes[i % 3]!, nodes, 0)
    }
    await delay(200)
    await Promise.all(stops.map((stop) => stop()))
    t.equal(degraded(), meanwhile, 'no decision is made without the Cluster while slots move')

    let lost = 0
    let all = 0
    for (const consumer of consumers) {
      const [usage] = await gateways[0]!.usage(service, limit, consumer)
      lost += Math.abs(admitted.get(consumer)! - usage!.used)
      all += admitted.get(consumer)!
    }
    t.comment(`${all} requests, ${meanwhile} of them while Redis restarted; ${lost} not counted, or twice`)
    // Each gateway has one request of a consumer in flight when Redis stops, and maybe one more when it is back.
    t.ok(lost <= 4 * consumers.length, `${lost} counts differ`)
    for (const { redis } of nodes) {
      t.ok((await redis.client.dbsize()) > 0, 'each node has counts')
    }
  })
}

// Tests src/limiter/redis/{cluster-slots,connectors,node-link}.ts
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openStore } from '../../../src/fleet/open-store.js'
import { consumerPart, slotOf } from '../../../src/limiter/key.js'
import { readSlots } from '../../../src/limiter/redis/cluster-slots.js'
import { nodeConnector } from '../../../src/limiter/redis/connectors.js'
import type { Cluster } from '../../../src/limiter/redis/ioredis.js'
import { eventually } from '../../support/eventually.js'
import { freePort } from '../../support/free-port.js'
import { hasRedisServer } from '../../support/redis/redis.js'
import { type ClusterNode, moveSlot, startRedisCluster } from '../../support/redis/redis-cluster.js'
import { serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT, policy, serviceWhich } from '../contract/traffic.js'

const SETTINGS = {
  timeout: 1000,
  on_failure: 'closed',
  max_keys: 100,
  batch: 64,
  merge: true,
  gather: 0,
  denials: 0,
} as const
const quiet = { info() {}, warn() {} }

// Each test has a Cluster of its own, and mostly waits.
t.jobs = 6

/** Adds up a figure of all nodes, which `INFO` has. */
async function sumOf(nodes: readonly ClusterNode[], section: string, figure: RegExp): Promise<number> {
  const all = await Promise.all(nodes.map(({ redis }) => redis.client.info(section)))
  return all.reduce((sum, info) => sum + Number(figure.exec(info)?.[1] ?? 0), 0)
}

/** Counts the gateways' connections to all nodes. */
async function connectionsTo(nodes: readonly ClusterNode[]): Promise<number> {
  const lists = await Promise.all(nodes.map(({ redis }) => redis.client.call('CLIENT', 'LIST')))
  return lists.join('\n').match(/ name=tidegate /g)?.length ?? 0
}

const received = (nodes: readonly ClusterNode[]) => sumOf(nodes, 'stats', /total_connections_received:(\d+)/)
const redirected = (nodes: readonly ClusterNode[]) =>
  sumOf(nodes, 'errorstats', /errorstat_MOVED:count=(\d+)/)
const asksForSlots = (nodes: readonly ClusterNode[]) =>
  sumOf(nodes, 'commandstats', /cmdstat_cluster\|slots:calls=(\d+)/)

t.test('a list of slots is read, and nothing else is', (t) => {
  const node = ['127.0.0.1', 6379, 'id', []]
  t.same(readSlots([[0, 5, node, [null, 1], ['', 2], ['::1', 3]]], 'here'), [
    {
      first: 0,
      last: 5,
      nodes: [
        { host: '127.0.0.1', port: 6379 },
        { host: 'here', port: 1 },
        { host: 'here', port: 2 },
        { host: '::1', port: 3 },
      ],
    },
  ])
  t.same(readSlots([], 'here'), [])
  for (const wrong of [
    undefined,
    null,
    'x',
    [1],
    [[0]],
    [[0, 16_384]],
    [[-1, 1]],
    [[0, 1, null]],
    [[0, 1, ['h', 65_536]]],
    [[0, 1, [1, 1]]],
    Array.from({ length: 2 }, () => [0, 16_383, node]),
    [[0, 1, ...Array.from({ length: 1001 }, (_, i) => ['h', i])]],
  ]) {
    t.equal(readSlots(wrong, 'here'), undefined, JSON.stringify(wrong)?.slice(0, 60))
  }
  t.end()
})

t.test(
  'the connection for messages leaves a node that has left once, and survives a second error',
  async (t) => {
    const server = createServer((socket) => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
    t.teardown(() => server.close())
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const node = { options: { host: '127.0.0.1', port } }
    const cluster = Object.assign(new EventEmitter(), { nodes: () => [node] })
    const Connector = nodeConnector(cluster as unknown as Cluster, () => {})
    const connector = new Connector({ disconnectTimeout: 100 })
    const socket = await connector.connect(() => {})
    await once(socket, 'connect')
    const before = socket.listenerCount('close')
    // A Cluster whose nodes answer nothing is left and tried again many times before a refused password is.
    for (let i = 0; i < 20; i++) cluster.emit('-node', node)
    t.ok(socket.listenerCount('close') <= before + 1)
    await once(socket, 'close')
    // As TLS does after a certificate that is not trusted: an error of Node, then an alert of the server.
    for (const what of ['self-signed certificate', 'alert']) socket.emit('error', new Error(what))
    t.equal(connector.firstError?.message, 'self-signed certificate')
  },
)

if (hasRedisServer) {
  for (const own_connection of [true, false]) {
    const way = own_connection ? '' : ', without own_connection'
    t.test(`a gateway has one connection to each primary, and one for messages${way}`, async (t: Test) => {
      const nodes = await startRedisCluster(t, 3, { replicas: true })
      // Names that the nodes do not announce, so that each seed is left again.
      const redis = nodes.map(({ redis }) => `redis://127.0.0.1:${redis.port}`)
      const store = openStore({ ...SETTINGS, own_connection, redis }, quiet, { fleet: 'member' })
      t.teardown(() => store.close())
      await store.ready
      await store.assignments.ready
      for (let i = 0; i < 50; i++) {
        t.equal(
          (await store.limiter.take(serviceWhich('open'), policy, `consumer-${i}`, 1)).decidedBy,
          'store',
        )
      }
      await eventually('the seeds are left', async () => (await connectionsTo(nodes)) === 4)
      const before = await received(nodes)
      await store.assignments.set('alice', 'pro')
      await delay(3000)
      t.equal((await received(nodes)) - before, 0, 'and opens no other one')
      t.equal(await connectionsTo(nodes), 4)
    })
  }

  t.test('a slot that has moved redirects that slot only, and leads to few questions', async (t) => {
    const nodes = await startRedisCluster(t, 2)
    const addresses = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
    const { limiter } = openLimiter(t, addresses, PATIENT, { merge: false })
    await limiter.ready
    const service = serviceOf('payments', [policy])
    const consumers = Array.from({ length: 400 }, (_, i) => `consumer-${i}`).filter(
      (consumer) => slotOf(consumerPart(consumer)) < 8192,
    )
    const take = async () => {
      const taken = await Promise.all(consumers.map((consumer) => limiter.take(service, policy, consumer, 1)))
      t.ok(taken.every(({ decidedBy }) => decidedBy === 'store'))
    }
    await take()
    const moved = [...new Set(consumers.slice(0, 40).map((consumer) => slotOf(consumerPart(consumer))))]
    const before = { redirected: await redirected(nodes), asked: await asksForSlots(nodes) }
    for (const slot of moved) {
      await moveSlot(slot, nodes[0]!, nodes[1]!, nodes, 0)
      await take()
    }
    // The first call of a slot meets MOVED twice: on the connection of decisions, and again through the Cluster.
    const met = (await redirected(nodes)) - before.redirected
    t.ok(met <= 2 * moved.length, `${met} redirections for ${moved.length} slots`)
    const asked = (await asksForSlots(nodes)) - before.asked
    t.comment(`${asked} questions for the slots`)
    t.ok(asked > 0 && asked < moved.length, `${asked} questions for the slots`)
  })

  t.test('a configured node that is away does not keep the others from being found', async (t) => {
    const nodes = await startRedisCluster(t, 2)
    const dead = `redis://127.0.0.1:${await freePort()}`
    for (let i = 0; i < 5; i++) {
      const { limiter } = openLimiter(t, [dead, `redis://127.0.0.1:${nodes[1]!.proxy.port}`], PATIENT)
      await limiter.ready
      t.equal((await limiter.take(serviceWhich('open'), policy, 'alice', 1)).decidedBy, 'store')
      await limiter.close()
    }
  })

  t.test('a primary that has lost its Cluster leaves the others as they are', async (t) => {
    const nodes = await startRedisCluster(t, 3)
    const lost = nodes[2]!.redis
    const { limiter } = openLimiter(
      t,
      nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`),
      PATIENT,
    )
    await limiter.ready
    const all = Array.from({ length: 60 }, (_, i) => `consumer-${i}`)
    const onOthers = (consumer: string) => slotOf(consumerPart(consumer)) < 10_000
    // As a pod that comes back at its address without its nodes.conf.
    await lost.stop()
    await lost.restart()
    await lost.client.call('CLUSTER', 'RESET', 'HARD')
    const by = new Map<string, number>()
    const until = performance.now() + 5000
    while (performance.now() < until) {
      await Promise.all(
        all.map(async (consumer) => {
          const { decidedBy } = await limiter.take(serviceWhich('open'), policy, consumer, 1)
          if (onOthers(consumer)) by.set(decidedBy, (by.get(decidedBy) ?? 0) + 1)
        }),
      )
      await delay(50)
    }
    t.same([...by.keys()], ['store'], `${[...by]}`)
  })

  t.test('an idle gateway that missed a failover counts on, at the new primary', async (t) => {
    const nodes = await startRedisCluster(t, 2, { replicas: true })
    const { limiter } = openLimiter(
      t,
      nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`),
      PATIENT,
    )
    await limiter.ready
    await eventually('it is connected', async () => (await connectionsTo(nodes)) === 2)
    const isPrimary = async () => /^master/.test(String(await nodes[2]!.redis.client.call('ROLE')))
    await nodes[2]!.redis.client.call('CLUSTER', 'FAILOVER')
    await eventually('the replica has taken over', isPrimary)
    // The slots may name the new primary some ms before it has answered its probe: until then it decides nothing.
    await eventually('the store decides for each of 20 consumers', async () => {
      for (let i = 0; i < 20; i++) {
        const decision = await limiter.take(serviceWhich('open'), policy, `consumer-${i}`, 1)
        if (decision.decidedBy !== 'store') return false
      }
      return true
    })
    await eventually('it has left the old primary', async () => (await connectionsTo(nodes)) === 2)
    t.equal(limiter.state(), 'up')
  })

  t.test('a primary that gets its first slot is connected to, and left after its last one', async (t) => {
    const nodes = await startRedisCluster(t, 2, { spare: 1 })
    // A primary without slots would become a replica.
    for (const { redis } of nodes) await redis.client.config('SET', 'cluster-allow-replica-migration', 'no')
    const addresses = nodes.slice(0, 2).map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
    const { limiter } = openLimiter(t, addresses, PATIENT)
    await limiter.ready
    const take = async () => (await limiter.take(serviceWhich('open'), policy, 'alice', 1)).decidedBy
    const slot = slotOf(consumerPart('alice'))
    const home = nodes[slot < 8192 ? 0 : 1]!
    for (const [from, to, connections] of [
      [home, nodes[2]!, 3],
      [nodes[2]!, home, 2],
    ] as const) {
      await moveSlot(slot, from, to, nodes, 0)
      await eventually(`${connections} connections`, async () => {
        t.equal(await take(), 'store')
        return (await connectionsTo(nodes)) === connections
      })
    }
  })

  t.test('an idle connection to a node that falls silent is given up', async (t) => {
    const nodes = await startRedisCluster(t, 2)
    const { limiter, log } = openLimiter(
      t,
      nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`),
      PATIENT / 10,
    )
    await limiter.ready
    await delay(2500)
    t.equal(limiter.state(), 'up', 'though nothing was asked')
    const { proxy } = nodes[0]!
    proxy.delayThere = 6000
    await eventually('it is given up', () => log.some(({ fields }) => fields.event === 'degraded'))
    proxy.delayThere = 0
    await eventually('it is up again', () => limiter.state() === 'up')
  })
}

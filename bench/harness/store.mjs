/** One Redis for all contenders, with its statistics, or a Redis Cluster. */
import { cpuMs, LOAD_CORE } from './machine.mjs'
import { folder, freePort, start, stop, until } from './process.mjs'

/** Offset of a Cluster node's second port, by which the nodes talk to each other. */
const BUS = 10_000

export async function startStore(settings = []) {
  const { Redis } = await import('ioredis')
  const port = await freePort()
  const args = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder()]
  const child = start(LOAD_CORE, 'redis-server', [...args, ...settings].map(String), { stdio: 'ignore' })
  const redis = new Redis({ port, lazyConnect: true, retryStrategy: () => 50 })
  redis.on('error', () => {})
  await redis.connect().catch(() => {})
  await until('Redis answers', 5000, () => redis.ping().catch(() => undefined))
  const version = /redis_version:(\S+)/.exec(await redis.info('server'))[1]

  return {
    port,
    pid: child.pid,
    version,
    redis,
    cpuMs: () => cpuMs(child.pid),
    clear: () => redis.flushdb(),
    /** Returns how often each command ran since the last `resetCalls`, also inside scripts. */
    async calls() {
      const calls = {}
      for (const [, name, n] of (await redis.info('commandstats')).matchAll(/cmdstat_(\S+):calls=(\d+)/g)) {
        calls[name] = Number(n)
      }
      return calls
    },
    /** Returns the CPU time of the server, all threads, in µs by its own getrusage. */
    async cpuUs() {
      const info = await redis.info('cpu')
      const seconds = ['sys', 'user'].map((of) =>
        Number(new RegExp(`used_cpu_${of}:([\\d.]+)`).exec(info)[1]),
      )
      return (seconds[0] + seconds[1]) * 1e6
    },
    resetCalls: () => redis.config('RESETSTAT'),
    keys: () => redis.dbsize(),
    async stop() {
      redis.disconnect()
      await stop(child)
    },
  }
}

/** Starts a Redis Cluster of that many primaries, each with an even share of the slots; its statistics are the sums of theirs. */
export async function startCluster(size) {
  const nodes = await Promise.all(
    Array.from({ length: size }, () => startStore(['--cluster-enabled', 'yes'])),
  )
  const from = (i) => Math.round((i * 16_384) / size)
  for (const [i, { redis }] of nodes.entries()) {
    await redis.call('CLUSTER', 'ADDSLOTSRANGE', from(i), from(i + 1) - 1)
    // Different epochs, so that no two nodes claim the same one.
    await redis.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    if (i > 0) await redis.call('CLUSTER', 'MEET', '127.0.0.1', nodes[0].port, nodes[0].port + BUS)
  }
  await until('the Cluster is whole', 20_000, async () => {
    const states = await Promise.all(nodes.map(({ redis }) => redis.call('CLUSTER', 'INFO')))
    return states.every(
      (text) => text.includes('cluster_state:ok') && text.includes(`cluster_known_nodes:${size}`),
    )
  })
  const sum = (values) => values.reduce((all, n) => all + n, 0)
  const every = (ask) => Promise.all(nodes.map(ask))
  return {
    /** Address as a configuration has it. */
    url: `[${nodes.map(({ port }) => `redis://127.0.0.1:${port}`).join(', ')}]`,
    cpuMs: () => sum(nodes.map((node) => node.cpuMs())),
    clear: () => every((node) => node.clear()),
    async calls() {
      const total = {}
      for (const calls of await every((node) => node.calls())) {
        for (const [name, n] of Object.entries(calls)) total[name] = (total[name] ?? 0) + n
      }
      return total
    },
    resetCalls: () => every((node) => node.resetCalls()),
    keys: async () => sum(await every((node) => node.keys())),
    stop: () => every((node) => node.stop()),
  }
}

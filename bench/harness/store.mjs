/** One Redis for all contenders, with its statistics. */
import { LOAD_CORE } from './machine.mjs'
import { folder, freePort, start, stop, until } from './process.mjs'

export async function startStore() {
  const { Redis } = await import('ioredis')
  const port = await freePort()
  const args = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder()]
  const child = start(LOAD_CORE, 'redis-server', args.map(String), { stdio: 'ignore' })
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

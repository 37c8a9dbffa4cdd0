import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import { freePort } from '../free-port.js'
import { returnRedis, takeRedis } from './redis-pool.js'
import { connectRedis, killRedis, plainArguments, redisServer, spawnRedis } from './redis-process.js'

/** The part of a tap test that cleans up after it. */
interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface TestRedis {
  readonly url: string
  readonly host: string
  readonly port: number
  /** A plain connection to look behind the scenes. */
  readonly client: Redis
}

/** A server of one test: the test may change and break it. */
export interface OwnRedis extends TestRedis {
  /** Kills it with kill -9. */
  stop(): Promise<void>
  /** Starts it again on the same port: empty, unless its arguments make it save. */
  restart(): Promise<void>
  /** Stops it with SIGSTOP: connections stay open, nothing is answered. */
  pause(): void
  /** Continues it with SIGCONT. */
  resume(): void
}

/** Whether tests can start, stop and freeze a server; if not, they share the server of REDIS_URL. */
export const hasRedisServer = isOnPath(redisServer)

export function isOnPath(server: string): boolean {
  return spawnSync(server, ['--version']).status === 0
}

/**
 * Lends the test an empty Redis until its end. This process keeps the server for later tests: use `ownRedis` to stop it, or to change its
 * configuration or users. Without redis-server it lends a database of REDIS_URL's server.
 */
export async function startRedis(t: Cleanup): Promise<TestRedis> {
  if (!hasRedisServer) return borrowDatabase(t)
  const server = await takeRedis()
  const url = `redis://127.0.0.1:${server.port}`
  const client = connectRedis(url)
  t.teardown(() => {
    client.disconnect()
    return returnRedis(server)
  })
  return { url, host: '127.0.0.1', port: server.port, client }
}

/**
 * Starts a Redis for this test alone, and removes it at its end.
 *
 * @param args arguments of redis-server, besides port, address and folder
 */
export async function ownRedis(t: Cleanup, args: readonly string[] = [], port?: number): Promise<OwnRedis> {
  const at = port ?? (await freePort())
  return runRedis(t, at, (folder) => [...plainArguments(at, folder), ...args])
}

/**
 * Runs redis-server with exactly these arguments, for this test alone.
 *
 * @param argsIn returns all arguments for a folder of its own; they have to listen on `port`
 * @param login `user:password@` if the server wants one
 */
export async function runRedis(
  t: Cleanup,
  port: number,
  argsIn: (folder: string) => readonly string[],
  login = '',
): Promise<OwnRedis> {
  if (!hasRedisServer) throw new Error('this test needs a redis-server of its own on the PATH')
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-redis-'))
  const args = argsIn(folder)
  let child = await spawnRedis(port, args, login)
  const client = connectRedis(`redis://${login}127.0.0.1:${port}`)
  t.teardown(async () => {
    client.disconnect()
    await killRedis(child)
    await rm(folder, { recursive: true, force: true })
  })
  return {
    url: `redis://127.0.0.1:${port}`,
    host: '127.0.0.1',
    port,
    client,
    stop: () => killRedis(child),
    async restart() {
      child = await spawnRedis(port, args, login)
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}

/** Lends a database of a server that others may use, too: the first that no other test holds. */
async function borrowDatabase(t: Cleanup): Promise<TestRedis> {
  const url = process.env.REDIS_URL
  if (!url)
    throw new Error('no redis-server on the PATH and no REDIS_URL; install redis-server or set REDIS_URL')
  const client = connectRedis(url)
  const locks = connectRedis(url)
  for (let db = 1; db < 16; db++) {
    const lock = `tidegate:test:${db}`
    if ((await locks.set(lock, process.pid, 'EX', 300, 'NX')) === null) continue
    await client.select(db)
    await client.flushdb()
    const { hostname, port } = new URL(url)
    t.teardown(async () => {
      await client.flushdb()
      await locks.del(lock)
      client.disconnect()
      locks.disconnect()
    })
    const address = new URL(url)
    address.pathname = `/${db}`
    return { url: address.href, host: hostname, port: Number(port || 6379), client }
  }
  client.disconnect()
  throw new Error(
    'all databases of REDIS_URL are held by other tests; wait for them, or install redis-server',
  )
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { freePort } from './free-port.js'

/** The part of a tap test that cleans up after it. */
interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface TestRedis {
  readonly url: string
  readonly host: string
  readonly port: number
  /** The server's process; undefined when it is somebody else's (REDIS_URL). */
  readonly pid: number | undefined
  /** A plain connection, for looking behind the scenes. */
  readonly client: Redis
  /** kill -9. */
  stop(): Promise<void>
  /** Starts again on the same port: empty, unless its arguments say that it keeps anything. */
  restart(): Promise<void>
  /** SIGSTOP: connections stay open, nothing is answered. */
  pause(): void
  /** SIGCONT. */
  resume(): void
}

/** What is started as Redis: another server that speaks its protocol can be put to the same tests. */
export const redisServer = process.env.TIDEGATE_TEST_REDIS_SERVER || 'redis-server'

/** Whether there is a server to start, stop and freeze; without, tests share the server of REDIS_URL. */
export const hasRedisServer = isOnPath(redisServer)

export function isOnPath(server: string): boolean {
  return spawnSync(server, ['--version']).status === 0
}

/** A real Redis, gone at the end of the test: of our own, or a database of REDIS_URL's server. */
export async function startRedis(t: Cleanup, args: readonly string[] = []): Promise<TestRedis> {
  return hasRedisServer ? ownRedis(t, await freePort(), args) : borrowRedis(t)
}

/** @param args of redis-server, beyond port, address and folder */
export function ownRedis(t: Cleanup, port: number, args: readonly string[]): Promise<TestRedis> {
  return runRedis(t, port, (folder) => [
    ...['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder],
    ...args,
  ])
}

/**
 * Runs redis-server with these arguments and nothing else.
 *
 * @param argsIn all of them, for a folder of its own; they have to listen on `port`
 * @param login `user:password@` where the server wants one
 */
export async function runRedis(
  t: Cleanup,
  port: number,
  argsIn: (folder: string) => readonly string[],
  login = '',
): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-redis-'))
  const args = argsIn(folder)
  let child = await spawnRedis(port, args, login)
  const client = connect(`redis://${login}127.0.0.1:${port}`)
  t.teardown(async () => {
    client.disconnect()
    await kill(child)
    await rm(folder, { recursive: true, force: true })
  })
  return {
    url: `redis://127.0.0.1:${port}`,
    host: '127.0.0.1',
    port,
    get pid() {
      return child.pid
    },
    client,
    stop: () => kill(child),
    async restart() {
      child = await spawnRedis(port, args, login)
    },
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}

async function spawnRedis(port: number, args: readonly string[], login: string): Promise<ChildProcess> {
  const child = spawn(redisServer, args, { stdio: 'ignore' })
  // A test that crashes tears nothing down.
  const orphaned = () => child.kill('SIGKILL')
  process.once('exit', orphaned)
  child.once('exit', () => process.off('exit', orphaned))
  const probe = new Redis(`redis://${login}127.0.0.1:${port}`, {
    retryStrategy: () => 10,
    maxRetriesPerRequest: null,
  })
  probe.on('error', () => {})
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${redisServer} on port ${port} ended with ${code} before it answered`)
  })
  ended.catch(() => {})
  await Promise.race([probe.ping(), ended]).finally(() => probe.disconnect())
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

function connect(url: string): Redis {
  // Of a connection that is gone ioredis would wait so many ms for the end, and keep the process.
  const client = new Redis(url, {
    retryStrategy: () => 20,
    maxRetriesPerRequest: null,
    disconnectTimeout: 100,
  })
  client.on('error', () => {})
  return client
}

/** A database of a server that others may be using too: the first that no other test holds. */
async function borrowRedis(t: Cleanup): Promise<TestRedis> {
  const url = process.env.REDIS_URL
  if (!url)
    throw new Error('no redis-server on the PATH and no REDIS_URL; install redis-server or set REDIS_URL')
  const client = connect(url)
  const locks = connect(url)
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
    const notOurs = () => {
      throw new Error('this test needs a redis-server of its own on the PATH')
    }
    const address = new URL(url)
    address.pathname = `/${db}`
    return {
      url: address.href,
      host: hostname,
      port: Number(port || 6379),
      pid: undefined,
      client,
      stop: async () => notOurs(),
      restart: async () => notOurs(),
      pause: notOurs,
      resume: notOurs,
    }
  }
  client.disconnect()
  throw new Error(
    'all databases of REDIS_URL are held by other tests; wait for them, or install redis-server',
  )
}

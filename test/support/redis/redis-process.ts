import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { killAtExit } from '../kill-at-exit.js'

/** Program that is started as Redis: another server of the same protocol can pass through the same tests. */
export const redisServer = process.env.TIDEGATE_TEST_REDIS_SERVER || 'redis-server'

/** Arguments of a server on loopback that saves nothing. */
export function plainArguments(port: number, folder: string): string[] {
  return [
    ...['--port', String(port), '--bind', '127.0.0.1'],
    ...['--save', '', '--appendonly', 'no', '--dir', folder],
  ]
}

/**
 * Starts a server. Resolves once it answers.
 *
 * @param args all of them; the server has to listen on `port`
 * @param login `user:password@` if the server wants one
 * @throws if it ends before
 */
export async function spawnRedis(port: number, args: readonly string[], login = ''): Promise<ChildProcess> {
  const child = spawn(redisServer, args, { stdio: 'ignore' })
  killAtExit(child)
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

/** Kills the process with kill -9. Resolves once it is gone. */
export async function killRedis(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.ref()
  child.kill('SIGKILL')
  await exit
}

/** Connects a client that waits for a server which is away, for as long as it takes. */
export function connectRedis(url: string): Redis {
  // After a lost connection, ioredis would wait this long for its end, in ms, and keep the process alive.
  const client = new Redis(url, {
    retryStrategy: () => 20,
    maxRetriesPerRequest: null,
    disconnectTimeout: 100,
  })
  client.on('error', () => {})
  return client
}

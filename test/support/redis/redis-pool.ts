import type { ChildProcess } from 'node:child_process'
import { tmpdir } from 'node:os'
import { isDeepStrictEqual } from 'node:util'
import { Redis } from 'ioredis'
import { freePort } from '../free-port.js'
import { killRedis, plainArguments, spawnRedis } from './redis-process.js'

export interface PooledRedis {
  readonly port: number
  readonly child: ChildProcess
  /** Configuration and users, as they were at the start. */
  readonly settings: unknown
}

/** Number of times all clients are disconnected before one counts as never closed by its test. */
const ROUNDS = 100

const idle: PooledRedis[] = []

/** Takes an idle server of this process, or starts one. It is empty, and nobody else has it until it is returned. */
export async function takeRedis(): Promise<PooledRedis> {
  const found = idle.pop()
  if (found !== undefined) return found
  const port = await freePort()
  const child = await spawnRedis(port, plainArguments(port, tmpdir()))
  // An idle server does not keep the process alive.
  child.unref()
  const settings = await asAdministrator(port, readSettings)
  return { port, child, settings }
}

/**
 * Resets a server for the next test: disconnects all clients, removes keys and scripts, resets counts.
 *
 * @throws if it cannot: the test changed settings, or its client goes on connecting
 */
export async function returnRedis(server: PooledRedis): Promise<void> {
  try {
    await asAdministrator(server.port, async (client) => {
      await disconnectAll(client)
      await client
        .multi()
        .flushall('SYNC')
        .script('FLUSH', 'SYNC')
        .config('RESETSTAT')
        .slowlog('RESET')
        .call('ACL', 'LOG', 'RESET')
        .exec()
      if (!isDeepStrictEqual(await readSettings(client), server.settings))
        throw new Error('a test changed the configuration or the users of a shared server: take ownRedis')
    })
  } catch (error) {
    await killRedis(server.child)
    throw error
  }
  idle.push(server)
}

/** Disconnects clients until none is left: one that was just connecting is found in the next round. */
async function disconnectAll(client: Redis): Promise<void> {
  for (let round = 1; ; round++) {
    const kinds = ['normal', 'pubsub', 'replica'] as const
    const counts = await Promise.all(kinds.map((kind) => client.call('CLIENT', 'KILL', 'TYPE', kind)))
    if (round > 1 && counts.every((count) => count === 0)) return
    if (round > ROUNDS) throw new Error('a client that the test did not close goes on connecting')
  }
}

async function readSettings(client: Redis): Promise<unknown> {
  return Promise.all([client.config('GET', '*'), client.call('ACL', 'LIST')])
}

async function asAdministrator<T>(port: number, use: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(port, '127.0.0.1', { retryStrategy: () => null, disconnectTimeout: 100 })
  client.on('error', () => {})
  try {
    return await use(client)
  } finally {
    client.disconnect()
  }
}

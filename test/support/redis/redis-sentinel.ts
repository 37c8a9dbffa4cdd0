import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort } from '../free-port.js'
import { killAtExit } from '../kill-at-exit.js'
import { type OwnRedis, ownRedis } from './redis.js'
import { redisServer } from './redis-process.js'

/**
 * Sentinels greet each other every 200 ms, not every 2 s, and ask each other about a lost primary at once. Only `down-after-milliseconds`
 * decides when a server is lost. A Sentinel that a busy machine held up pauses for a second, not for 30.
 */
const OFTEN = Object.entries({
  'publish-period': 200,
  'ping-period': 500,
  'ask-period': 200,
  'info-period': 1000,
  'tilt-period': 1000,
}).flat()

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface SentinelSet {
  readonly primary: OwnRedis
  readonly replica: OwnRedis
  /** `redis+sentinel://…/main` */
  readonly url: string
}

/** Starts a primary, its replica, and three Sentinels that declare a server lost after 1.5 s. */
export async function startSentinels(t: Cleanup, { password = '' } = {}): Promise<SentinelSet> {
  const quick = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1']
  const primary = await ownRedis(t, quick)
  const replica = await ownRedis(t, quick)
  await replica.client.replicaof('127.0.0.1', primary.port)
  while (!/master_link_status:up/.test(await replica.client.info('replication'))) await delay(20)
  const ports = await Promise.all([1, 2, 3].map(() => startSentinel(t, primary.port, password)))
  for (const port of ports) {
    const client = new Redis(port, '127.0.0.1', password === '' ? {} : { password })
    // Sentinels do not fail over before they know the replica and each other.
    const ready = async () => {
      const [main] = (await client.call('SENTINEL', 'MASTERS')) as string[][]
      const value = (name: string) => main?.[main.indexOf(name) + 1]
      return value('num-slaves') === '1' && value('num-other-sentinels') === '2'
    }
    while (!(await ready())) await delay(50)
    client.disconnect()
  }
  return { primary, replica, url: `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`)}/main` }
}

async function startSentinel(t: Cleanup, primaryPort: number, password: string): Promise<number> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'tidegate-sentinel-'))
  const file = join(folder, 'sentinel.conf')
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    ...(password === '' ? [] : [`requirepass ${password}`, `sentinel sentinel-pass ${password}`]),
    `sentinel monitor main 127.0.0.1 ${primaryPort} 2`,
    'sentinel down-after-milliseconds main 1500',
    'sentinel failover-timeout main 3000',
  ]
  await writeFile(file, `${lines.join('\n')}\n`)
  const child = spawn(redisServer, [file, '--sentinel'], { stdio: 'ignore' })
  killAtExit(child)
  t.teardown(async () => {
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
    await rm(folder, { recursive: true, force: true })
  })
  const probe = new Redis(port, '127.0.0.1', {
    retryStrategy: () => 10,
    maxRetriesPerRequest: null,
    ...(password === '' ? {} : { password }),
  })
  probe.on('error', () => {})
  await probe.call('SENTINEL', 'DEBUG', ...OFTEN)
  probe.disconnect()
  return port
}

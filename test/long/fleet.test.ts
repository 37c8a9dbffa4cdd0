import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { slotOfKey } from '../../src/limiter/key.js'
import { eventually } from '../support/eventually.js'
import { killAtExit } from '../support/kill-at-exit.js'
import { hasRedisServer, ownRedis } from '../support/redis/redis.js'
import { moveSlot, startRedisCluster } from '../support/redis/redis-cluster.js'

// A hundred gateways on one Redis and on a Cluster of six nodes: their limiters, stores and fleet parts in four processes, with real
// sockets. What holds is asserted; the figures are comments.

const skip = hasRedisServer ? false : 'no redis-server on the PATH'
const SCRIPT = fileURLToPath(new URL('../../bench/fleet/gateways.mjs', import.meta.url))
const DIST = fileURLToPath(new URL('../../dist', import.meta.url))
const PROCESSES = 4
const EACH = 25
const GATEWAYS = PROCESSES * EACH
const KINDS = ['tier', 'ban', 'key', 'boost'] as const

type Answer = Record<string, unknown>

/** Process with several gateways. */
interface Process {
  readonly child: ChildProcess
  ask<A>(job: string, body?: object): Promise<A & Answer>
}

async function startProcess(t: Test, redis: string | readonly string[], count = EACH): Promise<Process> {
  const child = fork(SCRIPT, [JSON.stringify({ dist: DIST, redis, count })], { serialization: 'json' })
  killAtExit(child)
  t.teardown(() => void child.kill('SIGKILL'))
  const [first] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the gateways ended with ${code}`))),
  ])
  if ((first as Answer).ready !== true) throw new Error('the gateways did not start')
  const waiting = new Map<number, (answer: Answer | undefined) => void>()
  let asked = 0
  child.on('message', (answer: Answer) => waiting.get(answer.id as number)?.(answer))
  child.on('exit', () => {
    for (const done of waiting.values()) done(undefined)
  })
  return {
    child,
    async ask<A>(job: string, body: object = {}) {
      const id = ++asked
      const answer = await new Promise<Answer | undefined>((resolve) => {
        waiting.set(id, resolve)
        child.send({ ...body, id, job })
      })
      waiting.delete(id)
      if (answer === undefined) throw new Error('the process ended')
      if (answer.error !== undefined) throw new Error(String(answer.error))
      return answer as A & Answer
    },
  }
}

/** Starts a hundred gateways, one process after the other. */
async function startGateways(t: Test, redis: string | readonly string[]): Promise<Process[]> {
  const all: Process[] = []
  for (let i = 0; i < PROCESSES; i++) all.push(await startProcess(t, redis))
  return all
}

const known = (processes: readonly Process[], count: number) =>
  eventually(`${count} gateways know each other`, async () => {
    const states = await Promise.all(processes.map((one) => one.ask<{ counts: number[] }>('state')))
    return states.every(({ counts }) => counts.every((one) => one === count))
  })

const counting = (processes: readonly Process[]) =>
  eventually('all count in the store', async () => {
    const states = await Promise.all(processes.map((one) => one.ask<{ up: number }>('state')))
    return states.every(({ up }) => up === EACH)
  })

interface Taken {
  readonly allowed: number
  readonly denied: number
  readonly degraded: number
  /** Number allowed of each consumer. */
  readonly by: Record<string, number>
}

interface Load {
  readonly consumers: readonly string[]
  readonly amount: number
  /** Decisions a second of a process. */
  readonly rate: number
  readonly ms: number
}

const take = (one: Process, load: Load) => one.ask<Taken>('take', { ...load, onFailure: 'closed' })

function sum(all: readonly Taken[]): Taken {
  const by: Record<string, number> = {}
  for (const one of all)
    for (const [consumer, n] of Object.entries(one.by)) by[consumer] = (by[consumer] ?? 0) + n
  const total = (key: 'allowed' | 'denied' | 'degraded') => all.reduce((n, one) => n + one[key], 0)
  return { allowed: total('allowed'), denied: total('denied'), degraded: total('degraded'), by }
}

const consumersOf = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}${i}`)

/** Reads a number of INFO. */
async function info(client: Redis, section: string, name: string): Promise<number> {
  return Number(new RegExp(`${name}:([\\d.]+)`).exec(await client.info(section))?.[1])
}

/** Returns the CPU time of a process in ms. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

interface Idle {
  /** Reads from clients a second: each has a command, or several. */
  readonly reads: number
  /** Connections made. */
  readonly made: number
  /** Connections open. */
  readonly open: number
  /** CPU of all servers, in percent of a core. */
  readonly cpu: number
}

/** Measures what idle gateways do. */
async function idle(clients: readonly Redis[], ms: number): Promise<Idle> {
  const pids = await Promise.all(clients.map((client) => info(client, 'server', 'process_id')))
  const cpu = () => pids.reduce((all, pid) => all + cpuMs(pid), 0)
  const read = async (section: string, name: string) =>
    (await Promise.all(clients.map((client) => info(client, section, name)))).reduce((a, b) => a + b)
  const before = {
    cpu: cpu(),
    reads: await read('stats', 'total_reads_processed'),
    made: await read('stats', 'total_connections_received'),
  }
  await delay(ms)
  return {
    cpu: (100 * (cpu() - before.cpu)) / ms,
    reads: ((await read('stats', 'total_reads_processed')) - before.reads) / (ms / 1000),
    made: (await read('stats', 'total_connections_received')) - before.made,
    open: await read('clients', 'connected_clients'),
  }
}

/** Returns a text of a distribution, in ms. */
function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  return `p50 ${at(0.5)}, p90 ${at(0.9)}, p99 ${at(0.99)}, p100 ${sorted.at(-1)} ms (${sorted.length})`
}

let changes = 0

/**
 * Makes changes of each kind on one gateway, and asserts that each is in force on all within a second of the answer to the operator.
 *
 * @param lose true to lose the messages: the connections that hear them are cut just before
 */
async function expectInForce(
  t: Test,
  processes: readonly Process[],
  clients: readonly Redis[],
  lose: boolean,
  rounds: number,
): Promise<void> {
  const all: number[] = []
  /** Without the time that the process stood still: these share two cores with each other and the servers. */
  let latest = 0
  for (let round = 0; round < rounds; round++) {
    for (const kind of KINDS) {
      const n = ++changes
      const keys = {
        tier: `c${n}`,
        ban: `192.0.2.${n % 250}`,
        key: n.toString(16).padStart(16, '0'),
        boost: `boost consumer s 1m ${n}`,
      }
      const change = { kind, key: keys[kind], text: `t${n}` }
      const watching = processes.map((one) =>
        one.ask<{ at: number[]; stalled: number }>('watch', { ...change, ms: 5000 }),
      )
      // Not at a fixed time after the heartbeats that the change before has caused.
      await delay(Math.random() * 400)
      if (lose) await Promise.all(clients.map((client) => client.call('CLIENT', 'KILL', 'TYPE', 'pubsub')))
      const { done } = await processes[n % processes.length]!.ask<{ done: number }>('change', change)
      const seen = await Promise.all(watching)
      const at = seen.flatMap((one) => one.at)
      const never = at.filter((one) => one === 0).length
      if (never > 0) t.fail(`${kind}: ${never} gateways do not have it after five seconds`)
      for (const one of seen) {
        all.push(...one.at.map((at) => Math.max(0, at - done)))
        latest = Math.max(latest, Math.max(...one.at) - done - one.stalled)
      }
    }
  }
  t.comment(
    `changes in force on ${GATEWAYS} gateways, ${lose ? 'messages lost' : 'by message'}: ${spread(all)}`,
  )
  t.ok(latest <= 1000, `in force within a second: ${latest} ms`)
}

t.test(`${GATEWAYS} gateways on one Redis`, { skip }, async (t) => {
  const redis = await ownRedis(t)
  const processes = await startGateways(t, redis.url)
  await known(processes, GATEWAYS)
  await delay(6000)

  const quiet = await idle([redis.client], 15_000)
  t.comment(
    `idle: ${quiet.reads.toFixed(0)} reads a second, ${quiet.cpu.toFixed(2)} % of a core, ${quiet.open} connections, ${quiet.made} new`,
  )
  // What Redis' CPU depends on. The CPU itself is twice as much on a machine that sleeps between two calls.
  t.ok(quiet.reads <= 1.75 * GATEWAYS, 'a heartbeat a gateway and second, and what it says of itself')
  t.ok(quiet.open <= 3 * GATEWAYS + 2, 'three connections a gateway')
  t.equal(quiet.made, 0, 'no new connection')

  const load = { consumers: consumersOf('a', 10), amount: 1000, rate: 800, ms: 5000 }
  const exact = sum(await Promise.all(processes.map((one) => take(one, load))))
  t.comment(`load: ${exact.allowed} allowed, ${exact.denied} denied`)
  t.equal(exact.degraded, 0)
  for (const consumer of load.consumers)
    t.equal(exact.by[consumer], load.amount, `exactly the amount of ${consumer}`)

  await expectInForce(t, processes, [redis.client], false, 5)
  await expectInForce(t, processes, [redis.client], true, 5)

  // One process is killed, one is stopped for five seconds, one is added.
  const unsteady = { consumers: consumersOf('b', 4), amount: 8000, rate: 700, ms: 16_000 }
  const [killed, stopped, ...others] = processes as [Process, Process, Process, Process]
  const run = [killed, stopped, ...others].map((one) => take(one, unsteady).catch(() => undefined))
  await delay(1500)
  killed.child.kill('SIGKILL')
  stopped.child.kill('SIGSTOP')
  const added = await startProcess(t, redis.url)
  run.push(take(added, { ...unsteady, ms: 9000 }))
  await delay(5000)
  stopped.child.kill('SIGCONT')
  const survived = sum((await Promise.all(run)).filter((one) => one !== undefined))
  t.comment(
    `killed, stopped, added: ${survived.allowed} allowed, ${survived.degraded} of them without the store`,
  )
  for (const consumer of unsteady.consumers) {
    const allowed = survived.by[consumer] ?? 0
    t.ok(allowed <= unsteady.amount, `${consumer}: ${allowed} of ${unsteady.amount}`)
    // What the killed process had allowed, nobody knows but the store.
    const lost = 1.1 * 1500 * 0.7
    t.ok(allowed >= unsteady.amount - lost, `${consumer}: ${allowed} of ${unsteady.amount}`)
  }
  const left = [stopped, ...others, added]
  await known(left, GATEWAYS)
  await expectInForce(t, left, [redis.client], true, 2)

  // A Redis that comes back, without what it had.
  await redis.stop()
  await delay(2500)
  await redis.restart()
  const back = performance.now()
  await delay(1000)
  const first = {
    connections: await info(redis.client, 'stats', 'total_connections_received'),
    commands: await info(redis.client, 'stats', 'total_commands_processed'),
  }
  await counting(left)
  t.comment(
    `back: ${first.connections} connections and ${first.commands} commands in the first second; all count after ${((performance.now() - back) / 1000).toFixed(1)} s`,
  )
  t.ok(first.connections <= 3 * GATEWAYS + 10, 'each connection is made once')
  t.ok(first.commands <= 100 * GATEWAYS, 'commands of the first second')
  const again = { consumers: consumersOf('c', 4), amount: 500, rate: 500, ms: 3000 }
  const after = sum(await Promise.all(left.map((one) => take(one, again))))
  for (const consumer of again.consumers)
    t.equal(after.by[consumer], again.amount, `exactly the amount of ${consumer}`)
  // What was changed before is still in force, and is shown as forgotten.
  const { forgotten, tiers } = await added.ask<{ forgotten: number; tiers: number }>('history')
  t.ok(forgotten > 0 && tiers > 0, 'the last known records stay in force')
})

t.test(`${GATEWAYS} gateways on a Cluster of six nodes`, { skip }, async (t) => {
  const cluster = await startRedisCluster(t, 3, { replicas: true })
  const urls = cluster.slice(0, 3).map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const clients = cluster.map(({ redis }) => redis.client)
  const processes = await startGateways(t, urls)
  await known(processes, GATEWAYS)
  await delay(6000)

  const quiet = await idle(clients, 15_000)
  t.comment(
    `idle: ${quiet.reads.toFixed(0)} reads a second, ${quiet.cpu.toFixed(2)} % of a core in six servers, ${quiet.open} connections, ${quiet.made} new`,
  )
  t.ok(quiet.made <= 1, 'no new connection')
  t.ok(quiet.open <= (3 + 2) * GATEWAYS + 50, 'a connection to each primary, and two')

  const load = { consumers: consumersOf('a', 12), amount: 800, rate: 600, ms: 6000 }
  const run = processes.map((one) => take(one, load))
  // A slot moves meanwhile.
  const moved = slotOfKey(`rl:fleet:{${load.consumers[0]}}:1h`)
  const owner = await Promise.all(
    cluster.slice(0, 3).map(async ({ redis }) => {
      const slots = (await redis.client.call('CLUSTER', 'SLOTS')) as [number, number, [string, number]][]
      const id = String(await redis.client.call('CLUSTER', 'MYID'))
      return slots.some(([from, to, [, , nodeId]]: [number, number, unknown[]]) => {
        return from <= moved && moved <= to && String(nodeId) === id
      })
    }),
  )
  const from = owner.indexOf(true)
  await delay(1500)
  await moveSlot(moved, cluster[from]!, cluster[(from + 1) % 3]!, cluster, 0)
  const exact = sum(await Promise.all(run))
  t.comment(`load, a slot moves: ${exact.allowed} allowed, ${exact.degraded} without the store`)
  // An answer that came too late was charged once. None is late on a machine that has nothing else to do.
  for (const consumer of load.consumers) {
    const allowed = exact.by[consumer] ?? 0
    const isExact = allowed <= load.amount && allowed >= load.amount - exact.degraded
    t.ok(isExact, `${consumer}: ${allowed} of ${load.amount}, ${exact.degraded} without the store`)
  }

  await expectInForce(t, processes, clients, false, 3)
  await expectInForce(t, processes, clients, true, 3)

  // A primary is killed while all count.
  const killed = { consumers: consumersOf('b', 12), amount: 2000, rate: 500, ms: 14_000 }
  const counted = processes.map((one) => take(one, killed))
  await delay(2000)
  await cluster[1]!.redis.stop()
  const all = sum(await Promise.all(counted))
  let excess = 0
  for (const consumer of killed.consumers) {
    const allowed = all.by[consumer] ?? 0
    excess += Math.max(0, allowed - killed.amount)
    t.ok(allowed <= 2 * killed.amount, `${consumer}: ${allowed} of ${killed.amount}`)
  }
  t.comment(`a primary killed: ${all.allowed} allowed, excess ${excess}, ${all.degraded} without the store`)
  await counting(processes)
  await expectInForce(
    t,
    processes,
    clients.filter((_, i) => i !== 1),
    true,
    2,
  )
})

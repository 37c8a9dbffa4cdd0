import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Cluster, Command, type Redis } from 'ioredis'
import type { Policy } from '../config/snapshot.js'

/**
 * The Lua files of lua/, typed. What KEYS, ARGV and the reply mean stands on top of each file.
 */

/** What runs a script: a connection, or a Cluster that finds the node by the first key. */
export type Client = Redis | Cluster

interface Script {
  readonly source: string
  readonly sha: string
}

function load(name: string): Script {
  const source = readFileSync(new URL(`../../lua/${name}.lua`, import.meta.url), 'utf8')
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

const take = load('take')
const usage = load('usage')
const assign = load('assign')

/**
 * A command whose bytes are ready. ioredis would walk over all arguments five times; at 64 decisions a call that is
 * a quarter of what a decision costs.
 */
class Written extends Command {
  readonly #wire: string

  /** @param key finds the node in a Cluster */
  constructor(name: string, key: string | undefined, wire: string) {
    super(name, key === undefined ? [] : ['', '1', key])
    this.#wire = wire
  }

  override toWritable(): string {
    return this.#wire
  }
}

/** One argument on the wire. ASCII only: it is counted in characters. */
function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

/**
 * EVALSHA, then EVAL once if the server does not have the script. NOSCRIPT means that nothing has run, so this can't
 * charge twice; whatever else goes wrong is the caller's to decide, and is never sent again.
 *
 * @param rest everything after the script: number of keys, keys, arguments, on the wire
 * @param count how many that are
 */
function runWritten(
  client: Client,
  script: Script,
  key: string | undefined,
  rest: string,
  count: number,
): Promise<unknown> {
  const head = `*${count + 2}\r\n`
  const command = new Written('evalsha', key, `${head}${EVALSHA}${bulk(script.sha)}${rest}`)
  client.sendCommand(command)
  return command.promise.catch((error: unknown) => {
    if (!isNoScript(error)) throw error
    const again = new Written('eval', key, `${head}${EVAL}${bulk(script.source)}${rest}`)
    client.sendCommand(again)
    return again.promise
  })
}

const EVALSHA = bulk('evalsha')
const EVAL = bulk('eval')

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/** The same for scripts that run seldom. */
async function run(client: Client, script: Script, keys: readonly string[], args: readonly string[]) {
  const rest = [keys.length, ...keys, ...args]
  try {
    return await client.callBuffer('evalsha', script.sha, ...rest)
  } catch (error) {
    if (!isNoScript(error)) throw error
    return await client.callBuffer('eval', script.source, ...rest)
  }
}

/** One request to decide. */
export interface Take {
  readonly key: string
  readonly policy: Policy
  readonly cost: number
}

/** Integers of the take reply per decision. */
export const TAKE_REPLY = 4

/** What stands for a policy in a call, by policy: it is the same in every call. */
const written = new WeakMap<Policy, { readonly wire: string; readonly count: number }>()

function writtenPolicy(policy: Policy): { readonly wire: string; readonly count: number } {
  const known = written.get(policy)
  if (known !== undefined) return known
  const numbers = [policy.limits.length, ...policy.limits.flatMap((limit) => [limit.amount, limit.windowMs])]
  const made = { wire: numbers.map((number) => bulk(String(number))).join(''), count: numbers.length }
  written.set(policy, made)
  return made
}

/**
 * Decides requests in one call: the keys in one Cluster slot, if it is a Cluster.
 *
 * @param deadline unix ms by the server's clock, 0: none
 * @param now unix ms, 0: the server's clock
 * @returns the server's unix ms, then TAKE_REPLY integers per request; alone when the deadline had passed
 */
export function runTake(
  client: Client,
  takes: readonly Take[],
  deadline: number,
  now: number,
): Promise<number[]> {
  let keys = bulk(String(takes.length))
  let args = bulk(String(deadline)) + bulk(String(now))
  let count = 3
  for (const { key, policy, cost } of takes) {
    const limits = writtenPolicy(policy)
    keys += bulk(key)
    args += bulk(String(cost)) + limits.wire
    count += 2 + limits.count
  }
  return runWritten(client, take, takes[0]?.key, keys + args, count) as Promise<number[]>
}

/** @returns the server's unix ms, the stored value, unix ms of its expiry (negative: none) */
export function runUsage(client: Client, key: string, now: number): Promise<[number, Buffer | null, number]> {
  return run(client, usage, [key], [String(now)]) as Promise<[number, Buffer | null, number]>
}

/** @returns the number of the change */
export function runAssign(
  client: Client,
  keys: readonly [hash: string, version: string, log: string],
  consumer: string,
  tier: string,
  channel: string,
  logLength: number,
): Promise<number> {
  return run(client, assign, keys, [consumer, tier, channel, String(logLength)]) as Promise<number>
}

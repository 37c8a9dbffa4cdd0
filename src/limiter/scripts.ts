import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Cluster, Command, type Redis } from 'ioredis'

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
 * EVALSHA, then EVAL once if the server does not have the script. NOSCRIPT means that nothing has run, so this can't
 * charge twice; whatever else goes wrong is the caller's to decide, and is never sent again.
 *
 * ioredis' own `defineCommand` would do the same, but parses its arguments per call.
 */
function run(
  client: Client,
  script: Script,
  args: string[],
  encoding: BufferEncoding | null,
): Promise<unknown> {
  const command = new Command('evalsha', [script.sha, ...args], { replyEncoding: encoding })
  client.sendCommand(command)
  return command.promise.catch((error: unknown) => {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
    const retry = new Command('eval', [script.source, ...args], { replyEncoding: encoding })
    client.sendCommand(retry)
    return retry.promise
  })
}

/** Integers of the take reply per decision. */
export const TAKE_REPLY = 6

/**
 * Decides `keys.length` requests in one call.
 *
 * @param decisions per key: cost, number of limits, then amount and window (ms) of each
 * @param deadline unix ms by the server's clock, 0: none
 * @param now unix ms, 0: the server's clock
 * @returns the server's unix ms, then TAKE_REPLY integers per key; alone when the deadline had passed
 */
export function runTake(
  client: Client,
  keys: readonly string[],
  decisions: readonly string[],
  deadline: number,
  now: number,
): Promise<number[]> {
  const args = [String(keys.length), ...keys, String(deadline), String(now), ...decisions]
  return run(client, take, args, 'utf8') as Promise<number[]>
}

/** @returns the server's unix ms, the stored value, unix ms of its expiry (negative: none) */
export function runUsage(client: Client, key: string, now: number): Promise<[number, Buffer | null, number]> {
  return run(client, usage, ['1', key, String(now)], null) as Promise<[number, Buffer | null, number]>
}

/** @returns the version that the change got */
export function runAssign(
  client: Client,
  keys: readonly [hash: string, version: string, log: string],
  consumer: string,
  tier: string,
  channel: string,
  logLength: number,
): Promise<number> {
  const args = ['3', ...keys, consumer, tier, channel, String(logLength)]
  return run(client, assign, args, 'utf8') as Promise<number>
}

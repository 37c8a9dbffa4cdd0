import type { Limit } from '../../config/snapshot/limit.js'
import type { LimitGroup } from '../../config/snapshot/policy.js'
import type { Counts } from '../algorithms/algorithm.js'
import { ALGORITHMS } from '../algorithms/by-name.js'
import { periodAt } from '../algorithms/period.js'
import type { Slot } from '../limiter.js'
import { type Client, load, run, type ScriptCall } from './run-script.js'
import { bulk, mixedArguments, plainArguments } from './script-arguments.js'

/** Typed access to the scripts of the counts. The top of each file in lua/ describes its KEYS, ARGV and reply. */

const take = load('take')
const takeMixed = load('algorithms', 'take_mixed')
const settle = load('algorithms', 'settle')
const usage = load('usage')
const announce = load('announce')
const heartbeat = load('heartbeat')

/** Equal requests to decide. In a Cluster, their parts are in one slot. */
export interface Take {
  /** Key of each part. */
  readonly keys: readonly string[]
  readonly parts: readonly LimitGroup[]
  readonly cost: number
  /** Number of requests. They are allowed first come, first served. */
  readonly count: number
  /** True if the reply has to show the state of the limits even if it allows the request. Only for a single one. */
  readonly shows?: boolean
}

/** Charge to change. */
export interface Settle {
  readonly keys: readonly string[]
  readonly parts: readonly LimitGroup[]
  readonly quota: number
  /** Unix ms by the server's clock at which the quota was charged. */
  readonly at: number
  readonly slot: Slot
  readonly slotAt: number
  /**
   * Counts to charge in addition to the single part: each limit's to its own windows, and no more than there is room
   * for.
   */
  readonly owed?: Counts
}

/**
 * Returns the length of a reply without its end, which lists keys that held something other than counts, each as -1 -
 * index.
 */
export function lengthWithoutForeign(reply: readonly number[]): number {
  let length = reply.length
  while (length > 0 && reply[length - 1]! < 0) length--
  return length
}

/** Lists the keys of a call that held something other than counts. `settle` and `take` have replaced it. */
export function foreignKeys(
  keys: readonly { keys: readonly string[] }[],
  reply: readonly number[],
): string[] {
  const length = lengthWithoutForeign(reply)
  if (length === reply.length) return []
  const all = keys.flatMap((one) => one.keys)
  return reply.slice(length).map((negative) => all[-1 - negative]!)
}

/** Number of integers per decision in the replies of take.lua and take_mixed.lua. */
export const TAKE_REPLY = 4

/**
 * Writes a call that decides plain requests. In a Cluster, all keys are in one slot. Its reply is the server's unix ms, then
 * what the script's contract says; the time alone if the deadline had passed. `foreignKeys` reads its end.
 *
 * @param deadline unix ms by the server's clock; 0 for none
 * @param now unix ms; 0 for the server's clock
 */
export function takeCall(takes: readonly Take[], deadline: number, now: number): ScriptCall {
  let keys = bulk(String(takes.length))
  let args = bulk(String(deadline)) + bulk(String(now))
  let size = 3
  for (const { keys: own, parts, cost, count, shows } of takes) {
    const { text, count: arity } = plainArguments(parts[0]!)
    keys += bulk(own[0]!)
    const isOne = count === 1 && shows !== true
    args += (isOne ? bulk(String(cost)) : bulk(String(-cost)) + bulk(String(shows ? 0 : count))) + text
    size += 2 + arity + (isOne ? 0 : 1)
  }
  return { script: take, key: takes[0]?.keys[0], rest: keys + args, count: size }
}

/** Does the same as takeCall, for requests under limits of any algorithm and level. */
export function takeMixedCall(takes: readonly Take[], deadline: number, now: number): ScriptCall {
  const keys = takes.flatMap((one) => one.keys)
  let args = bulk(String(deadline)) + bulk(String(now))
  let size = 3 + keys.length
  for (const { parts, cost, count, shows } of takes) {
    args += bulk(String(cost)) + bulk(String(shows ? 0 : count)) + bulk(String(parts.length))
    size += 3
    for (const part of parts) {
      const mixed = mixedArguments(part, now || Date.now())
      args += mixed.text
      size += mixed.count
    }
  }
  const rest = bulk(String(keys.length)) + keys.map(bulk).join('') + args
  return { script: takeMixed, key: keys[0], rest, count: size }
}

const SLOT = { keep: '0', release: '1', renew: '2' }
const OWED = '3'

/**
 * Writes for each limit the number of its counts, then the counts. Slots are not owed: their holders give them back
 * here.
 */
function owedArguments(limits: readonly Limit[], owed: Counts): string[] {
  let o = 0
  return limits.flatMap(({ algorithm }) => {
    const { size } = ALGORITHMS[algorithm]
    const counts = algorithm === 'concurrency' ? [] : owed.slice(o, o + size)
    // The script computes the end of a period itself.
    if (algorithm === 'calendar') counts.pop()
    o += size
    return [counts.length, ...counts].map((count) => bulk(String(count)))
  })
}

/**
 * Writes a call that changes charges. In a Cluster, all keys are in one slot. Its reply is the server's unix ms, and what
 * `foreignKeys` reads.
 *
 * @param now unix ms; 0 for the server's clock
 */
export function settleCall(settles: readonly Settle[], now: number): ScriptCall {
  const keys = settles.flatMap((one) => one.keys)
  let args = bulk(String(now))
  let size = 2 + keys.length
  for (const { parts, quota, at, slot, slotAt, owed } of settles) {
    args += bulk(String(quota)) + bulk(String(at)) + bulk(owed ? OWED : SLOT[slot]) + bulk(String(slotAt))
    args += bulk(String(parts.length))
    size += 5
    for (const part of parts) {
      const mixed = mixedArguments(part, now || Date.now())
      const charged = part.limits.flatMap(({ calendar }) =>
        calendar === undefined ? [] : [bulk(String(periodAt(calendar, at).index))],
      )
      const owing = owed === undefined ? [] : owedArguments(part.limits, owed)
      args += mixed.text + charged.join('') + owing.join('')
      size += mixed.count + charged.length + owing.length
    }
  }
  const rest = bulk(String(keys.length)) + keys.map(bulk).join('') + args
  return { script: settle, key: keys[0], rest, count: size }
}

/**
 * Announces that a gateway is alive.
 *
 * @param ttl validity in ms; 0: the gateway leaves
 * @returns the number of live gateways
 */
export function runAnnounce(client: Client, key: string, node: string, ttl: number): Promise<number> {
  return run(client, announce, [key], [node, String(ttl)]) as Promise<number>
}

/** Arguments of a heartbeat. */
export interface HeartbeatCall {
  /** Id of the process; empty if it does not decide, and so is not counted. */
  readonly member: string
  /** Validity in ms; 0: it leaves. */
  readonly ttl: number
  /** Number up to which announcements are known; undefined: none are asked for. */
  readonly seen: number | undefined
  /** Status of the process; empty: as it was. */
  readonly status: string
  /** Channel on which the server tells all gateways how far the announcements are. */
  readonly channel: string
  /** Names to announce. */
  readonly names: readonly string[]
}

/** Reply to a heartbeat. */
export interface HeartbeatReply {
  /** Number of gateways that decide and are alive. */
  readonly alive: number
  /** How many of them send heartbeats. The others are of an older version. */
  readonly members: number
  /** Number of the latest announcement; 0 for none. */
  readonly sequence: number
  /** Unix ms since which the store has announcements. It changes when the store forgets them. */
  readonly since: number
  /** True if the store did not know that the caller lives: then it has no status of it either. */
  readonly isNew: boolean
  /** Unix ms of the server. */
  readonly at: number
  /** Layout of the maps in many slots; empty for none. */
  readonly layout: string
  /** Names that were announced since `seen`. */
  readonly names: readonly string[]
}

/**
 * Sends a heartbeat. Rejects on a reply that is none.
 *
 * @param keys the five keys, in one slot
 */
export async function runHeartbeat(
  client: Client,
  keys: readonly string[],
  { member, ttl, seen, status, channel, names }: HeartbeatCall,
): Promise<HeartbeatReply> {
  const args = [member, String(ttl), seen === undefined ? '' : String(seen), status, channel, ...names]
  const reply = await run(client, heartbeat, keys, args)
  const [numbers, texts] = Array.isArray(reply) ? [reply.slice(0, 6), reply.slice(6)] : [[], []]
  const [alive, members, sequence, since, added, at] = numbers as number[]
  if (numbers.length < 6 || texts.length < 1 || !numbers.every(Number.isSafeInteger))
    throw new Error('the store answered a heartbeat with something else')
  const [layout, ...named] = texts.map(String)
  return {
    alive: alive!,
    members: members!,
    sequence: sequence!,
    since: since!,
    isNew: added === 1,
    at: at!,
    layout: layout!,
    names: named.filter((name) => !name.startsWith('#')),
  }
}

/**
 * Reads the counts of a key.
 *
 * @returns the server's unix ms, the stored value, unix ms of its expiry (negative for none)
 */
export function runUsage(client: Client, key: string, now: number): Promise<[number, Buffer | null, number]> {
  return run(client, usage, [key], [String(now)]) as Promise<[number, Buffer | null, number]>
}

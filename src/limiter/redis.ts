import type { Part, Policy, Service } from '../config/snapshot.js'
import { askStore, storeError } from './ask.js'
import type { Asked, Verdict } from './asked.js'
import { usageFrom } from './decide.js'
import { decideDegraded, type Log, onceASecond } from './degraded.js'
import { createDenials } from './denials.js'
import { slotOfKey } from './key.js'
import type { Decision, DegradedReason, Levels, Limiter, LimitUsage } from './limiter.js'
import { createLocal } from './local.js'
import { type Client, isPlain, runUsage } from './scripts.js'
import { createSender } from './sender.js'
import type { Shard } from './shard.js'
import { createShards } from './shards.js'
import { decodeCounts } from './stored.js'
import { consumerKeys, keyOf, keysOf } from './whose.js'

export interface RedisLimiterOptions {
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  /** Ms that a decision waits for the store; past it, it is made without. */
  readonly timeoutMs: number
  readonly log: Log
  /** How many keys the mode `local` remembers. */
  readonly localKeys?: number
  /** How many gateways share the store, for the mode `local`; by default 1. */
  readonly gateways?: () => number
  /** How many denials are remembered, at least; 0: none, and every request is asked of the store. By default 10,000. */
  readonly denials?: number
  /** Whether equal requests of one turn of the event loop are asked as one; by default true. */
  readonly merge?: boolean
  /** Tests only: unix ms, in place of the server's clock. */
  readonly now?: () => number
}

export interface RedisLimiter extends Limiter {
  /** Resolves when the store has answered for the first time: before that, decisions are degraded. */
  readonly ready: Promise<void>
}

/** Ms that an operator's question (usage, reset) waits. */
const OPERATOR_TIMEOUT = 2000

/** Parts whose keys lie in one slot, and so are decided in one call. */
interface Group {
  readonly slot: number
  readonly parts: readonly Part[]
  readonly keys: readonly string[]
}

/**
 * Counts in Redis. One call decides all limits of a request that lie in one slot: those by consumer, and without a
 * Cluster all there are. Else the groups are asked one after the other, and given back when a later one denies.
 */
export function createRedisLimiter(options: RedisLimiterOptions): RedisLimiter {
  const { store, timeoutMs, log, localKeys = 100_000, gateways = () => 1, merge = true, now } = options
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  const warnOfRefusal = onceASecond((fields, message) => log.warn(fields, message))
  const inform = onceASecond((fields, message) => log.info(fields, message))
  const local = createLocal(localKeys, gateways)
  const clock = now ?? (() => performance.now())
  const denials = options.denials === 0 ? undefined : createDenials(options.denials ?? 10_000, clock)
  let markReady = () => {}
  const ready = new Promise<void>((resolve) => {
    markReady = resolve
  })
  const shards = createShards(store, timeoutMs, {
    onChange: onStateChange,
    onRefusal: (error) => warnOfRefusal({ error: storeError(error) }, 'the store refuses what it is asked'),
  })
  const sender = createSender({ store, shards, timeoutMs, merge, now, warn })
  let closed = false

  function onStateChange(isUp: boolean): void {
    // What comes back may have lost counts.
    denials?.clear()
    if (shards.allUp()) {
      markReady()
      inform({}, 'the store answers; counting in it')
    } else if (!isUp) warn({}, 'the store does not answer; deciding without it')
  }

  function degrade(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    levels: Levels | undefined,
    reason: DegradedReason,
  ): Decision {
    warn({ service: service.name, mode: service.onFailure, reason }, 'decided without the store')
    return decideDegraded(local, service, policy, consumer, cost, levels, reason)
  }

  function take(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    levels?: Levels,
  ): Decision | Promise<Decision> {
    const { parts } = policy
    const keys = keysOf(service.name, parts, consumer, levels)
    const groups = groupsOf(parts, keys)
    if (groups !== undefined) return takeInTurn(groups, service, policy, consumer, cost, levels)
    const slot = shards.clustered ? slotOfKey(keys[0]!) : 0
    const shard = shards.of(slot)
    if (shard === undefined || !shard.isUp() || closed) {
      return degrade(service, policy, consumer, cost, levels, 'breaker')
    }
    const remembered = denials === undefined || !isRemembered(policy) ? undefined : denials
    const denied = remembered?.find(nameOf(keys), policy, cost)
    if (denied !== undefined) return denied
    return new Promise((resolve) => {
      ask({ slot, parts, keys }, shard, service, policy, cost, (verdict) => {
        if (typeof verdict === 'string') {
          resolve(degrade(service, policy, consumer, cost, levels, verdict))
          return
        }
        if (!verdict.allowed && remembered !== undefined) {
          remembered.remember(nameOf(keys), policy, cost, verdict, now ? verdict.at : verdict.sentAt)
        }
        resolve(parts.length === 1 ? verdict : renumbered(parts, verdict))
      })
    })
  }

  /** Undefined when one call can decide all of them. */
  function groupsOf(parts: readonly Part[], keys: readonly string[]): readonly Group[] | undefined {
    if (!shards.clustered || parts.length === 1) return undefined
    const bySlot = new Map<number, { slot: number; parts: Part[]; keys: string[] }>()
    parts.forEach((part, i) => {
      const slot = slotOfKey(keys[i]!)
      const group = bySlot.get(slot) ?? { slot, parts: [], keys: [] }
      group.parts.push(part)
      group.keys.push(keys[i]!)
      bySlot.set(slot, group)
    })
    return bySlot.size === 1 ? undefined : [...bySlot.values()]
  }

  async function takeInTurn(
    groups: readonly Group[],
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    levels: Levels | undefined,
  ): Promise<Decision> {
    const charged: { readonly group: Group; readonly at: number }[] = []
    let tightest: Decision | undefined
    for (const group of groups) {
      const verdict = await askGroup(group, service, policy, cost)
      const decision =
        typeof verdict === 'string'
          ? degrade(service, policy, consumer, cost, levels, verdict)
          : renumbered(group.parts, verdict)
      if (!decision.allowed) {
        for (const { group, at } of charged) {
          sender.settle(group.slot, { ...group, quota: -cost, at, slot: 'release', slotAt: at })
        }
        return decision
      }
      // Without one of the servers the rest is not asked: the request is decided as if there were no store.
      if (typeof verdict === 'string') return decision
      charged.push({ group, at: decision.at })
      if (tightest === undefined || decision.remaining < tightest.remaining) tightest = decision
    }
    return tightest!
  }

  function askGroup(
    group: Group,
    service: Service,
    policy: Policy,
    cost: number,
  ): DegradedReason | Promise<Verdict | DegradedReason> {
    const shard = shards.of(group.slot)
    if (shard === undefined || !shard.isUp() || closed) return 'breaker'
    return new Promise((resolve) => ask(group, shard, service, policy, cost, resolve))
  }

  function ask(
    group: Group,
    shard: Shard,
    service: Service,
    policy: Policy,
    cost: number,
    answer: Asked['answer'],
  ): void {
    const { slot, parts, keys } = group
    const watched = service.onFailure === 'local'
    if (watched && local.owes()) chargeOwed(group)
    sender.ask({
      keys,
      parts,
      cost,
      plain: isPlain(parts),
      mergeable: !policy.slots,
      slot,
      shard,
      answer: watched
        ? (verdict) => {
            if (typeof verdict !== 'string') local.saw(keys, parts, verdict)
            answer(verdict)
          }
        : answer,
      others: undefined,
      count: 1,
    })
  }

  /** What was admitted while the store was away, before anything more is asked of these keys. */
  function chargeOwed({ slot, parts, keys }: Group): void {
    keys.forEach((key, i) => {
      const owed = local.claim(key)
      if (owed === 0) return
      const charge = { quota: owed, at: 0, slot: 'fill', slotAt: 0 } as const
      sender
        .settle(slot, { keys: [key], parts: [parts[i]!], ...charge })
        .then((heard) => local.settled(key, owed, heard !== undefined))
    })
  }

  function isRemembered({ slots, refunds, parts }: Policy): boolean {
    if (slots || refunds) return false
    // In a Cluster a level that is asked early may be given back, by a request of a policy that asks more of them.
    return !shards.clustered || (parts.length === 1 && parts[0]!.by === 'consumer')
  }

  return {
    take,
    ready,
    async settle(charge, quota, slot) {
      const { service, policy, consumer, levels, at, slotAt } = charge
      if (charge.decidedBy === 'local') return local.settle(charge, quota, slot)
      if (charge.decidedBy !== 'store') return
      const { parts } = policy
      const keys = keysOf(service.name, parts, consumer, levels)
      if (quota < 0) {
        // What others share, others may have been denied by.
        if (parts.every(({ by }) => by === 'consumer')) denials?.forget(nameOf(keys))
        else denials?.clear()
      }
      const one = { slot: shards.clustered ? slotOfKey(keys[0]!) : 0, parts, keys }
      const heard = await Promise.all(
        (groupsOf(parts, keys) ?? [one]).map((group) =>
          sender.settle(group.slot, { keys: group.keys, parts: group.parts, quota, at, slot, slotAt }),
        ),
      )
      const times = heard.filter((ms) => ms !== undefined)
      if (slot === 'renew' && times.length > 0) charge.slotAt = Math.max(...times)
    },
    async usage(service, policy, consumer, levels) {
      const byIndex: LimitUsage[] = []
      await Promise.all(
        policy.parts.map(async ({ limits, indices }, k) => {
          const key = keyOf(service.name, policy.parts[k]!, consumer, levels)
          if (key === undefined) return
          const asked = runUsage(store, key, now?.() ?? 0)
          const [at, value, expires] = await askStore(OPERATOR_TIMEOUT, asked)
          usageFrom(limits, decodeCounts(limits, value, expires, at), at).forEach((usage, i) => {
            byIndex[indices[i]!] = usage
          })
        }),
      )
      return byIndex.filter((usage) => usage !== undefined)
    },
    async reset(service, consumer) {
      await local.reset(service, consumer)
      const keys = [...consumerKeys(service, consumer)]
      if (keys.length > 0) await askStore(OPERATOR_TIMEOUT, store.del(...keys))
      denials?.clear()
    },
    state: () => (shards.allUp() ? 'up' : 'degraded'),
    async close() {
      closed = true
      shards.close()
      sender.close()
    },
  }
}

function nameOf(keys: readonly string[]): string {
  return keys.length === 1 ? keys[0]! : keys.join(' ')
}

/** The store numbers the limits of the parts that it was asked for; a decision, those of the policy. */
function renumbered(parts: readonly Part[], verdict: Verdict): Decision {
  const indices = parts.flatMap((part) => part.indices)
  const violated = indices.reduce((mask, index, i) => mask | (((verdict.violated >> i) & 1) << index), 0)
  return { ...verdict, binding: indices[verdict.binding]!, violated }
}

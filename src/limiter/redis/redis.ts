import { deferred } from '../../common/wait.js'
import type { LimitGroup, Policy } from '../../config/snapshot/policy.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import { type Log, throttledWarning } from '../../log-throttle.js'
import { consumerKeys, keyOf, keysOf } from '../counter-keys.js'
import { previewFrom, usageFrom, usageOf } from '../decide.js'
import { decideDegraded, previewDegraded } from '../degraded.js'
import { createDenials } from '../denial-cache.js'
import { slotOfKey } from '../key.js'
import type { Decision, DegradedReason, Limiter, Taking } from '../limiter.js'
import { createLocal } from '../local.js'
import { createOutage, type LossReason } from '../outage.js'
import { deliver, promised } from '../taking.js'
import { type Group, groupBySlot, renumbered, takeInTurn } from './cross-slot-take.js'
import { decodeCounts } from './decode-counts.js'
import type { Shard } from './node.js'
import { createShards } from './nodes.js'
import type { Client } from './run-script.js'
import { isPlain } from './script-arguments.js'
import { createSender } from './script-batcher.js'
import { runUsage } from './scripts.js'
import { askStore, storeError } from './store-timeout.js'
import type { Verdict, WaitingTake } from './take-batch.js'

export interface RedisLimiterOptions {
  /** Store client from `connectStore`. The caller disconnects it. */
  readonly store: Client
  /** How long a decision waits for the store, in ms. After that it is made without. */
  readonly timeoutMs: number
  readonly log: Log
  /** How many keys the mode `local` remembers. */
  readonly localKeys?: number
  /** True (the default) if this process decides on requests, and so counts for itself in the mode `local`. */
  readonly decides?: boolean
  /** Returns how many gateways share the store, for the mode `local`. Default: 1. */
  readonly gateways?: () => number
  /** Fewest denials that are cached; 0 for none, so that the store decides every request. Default: 10,000. */
  readonly denials?: number
  /** Maximum number of requests in one script call, 1 to 64. Default: 64. */
  readonly batch?: number
  /** True (the default) if equal requests of one turn of the event loop are sent as one. */
  readonly merge?: boolean
  /** How long a decision waits for others to share its call, in ms. It is part of `timeoutMs`. Default: `auto`. */
  readonly gatherMs?: number | 'auto'
  /** True (the default) if decisions take a connection of their own to each server, beside that of `store`. */
  readonly ownConnection?: boolean
  /** For tests only: clock in unix ms, in place of the server's. */
  readonly now?: () => number
}

export interface RedisLimiter extends Limiter {
  /** Resolves when the store has answered for the first time. Until then, decisions are degraded. */
  readonly ready: Promise<void>
}

/** Maximum batch. A larger one would keep the server from its other clients for too long. */
const MOST_IN_BATCH = 64
const OWED = { quota: 0, at: 0, slot: 'keep', slotAt: 0 } as const
/** How long an operator's reset waits, in ms. */
const OPERATOR_TIMEOUT = 2000
/**
 * Shortest wait for an operator's question, in ms: a request may wait less, but a person would not believe its answer.
 */
const QUESTION_TIMEOUT = 500
const ELSEWHERE = 'the store is out of reach, and each gateway counts by itself'

/**
 * Counts in Redis. One call decides all limits of a request that are in one slot: those by consumer and, without a
 * Cluster, all of them. Otherwise the groups are asked one after the other, and given back if a later one denies.
 */
export function createRedisLimiter(options: RedisLimiterOptions): RedisLimiter {
  const {
    store,
    timeoutMs,
    log,
    localKeys = 100_000,
    decides = true,
    gateways = () => 1,
    batch = MOST_IN_BATCH,
    merge = true,
    gatherMs = 'auto',
    ownConnection = true,
    now,
  } = options
  const warn = throttledWarning(log)
  const warnOfRefusal = throttledWarning(log)
  const outage = createOutage(log)
  const local = createLocal(localKeys, gateways, now)
  const clock = now ?? (() => performance.now())
  const denials = options.denials === 0 ? undefined : createDenials(options.denials ?? 10_000, clock)
  const { promise: ready, resolve: markReady } = deferred()
  const shards = createShards(store, {
    timeoutMs,
    ownConnection,
    onChange: onStateChange,
    onRefusal: (error) =>
      warnOfRefusal({ error: storeError(error) }, 'the store refuses the commands of the gateway'),
  })
  let foreign = 0
  const warnOfForeign = throttledWarning(log)
  const sender = createSender({
    shards,
    timeoutMs,
    batch,
    merge,
    gatherMs,
    now,
    warn,
    onForeign(keys) {
      foreign += keys.length
      warnOfForeign({ key: keys[0], keys: foreign }, 'a key of the store held something other than counts')
    },
  })
  let closed = false
  const patience = Math.max(timeoutMs, QUESTION_TIMEOUT)

  /** Returns true if the server that has the key would decide a request. */
  function isReachable(key: string): boolean {
    return !closed && shards.of(shards.clustered ? slotOfKey(key) : 0)?.isUp() === true
  }

  function onStateChange(isUp: boolean, reason: LossReason = 'connection'): void {
    if (closed) return
    // A server that comes back may have lost counts.
    denials?.clear()
    if (shards.allUp()) {
      markReady()
      outage.recovered()
    } else if (!isUp) outage.lost(reason)
  }

  function degrade(reason: DegradedReason, taking: Taking): Decision {
    const { service, policy, consumer, cost, levels } = taking
    warn({ service: service.name, mode: service.onFailure, reason }, 'decided without the store')
    const decision = decideDegraded(local, reason, service, policy, consumer, cost, levels)
    outage.decided(decision)
    return decision
  }

  function decide(taking: Taking): Decision | undefined {
    const { service, policy, consumer, cost, levels } = taking
    const { parts } = policy
    const keys = keysOf(service.name, parts, consumer, levels)
    const groups = groupsOf(parts, keys)
    if (groups !== undefined) {
      takeInTurn({
        groups,
        service,
        cost,
        timeoutMs,
        ask: (group) => askGroup(group, taking),
        settle: sender.settle,
        degrade: (reason) => degrade(reason, taking),
      }).then((decision) => deliver(taking, decision, warn))
      return undefined
    }
    const slot = shards.clustered ? slotOfKey(keys[0]!) : 0
    const shard = shards.of(slot)
    if (shard === undefined || !shard.isUp() || closed) return degrade('breaker', taking)
    const remembered = denials === undefined || !isRemembered(service, policy) ? undefined : denials
    const denied = remembered?.find(nameOf(keys), policy, cost)
    if (denied !== undefined) return denied
    ask({ slot, parts, keys }, shard, taking, (verdict) => {
      if (typeof verdict === 'string') {
        deliver(taking, degrade(verdict, taking), warn)
        return
      }
      const decision = parts.length === 1 ? verdict : renumbered(parts, verdict)
      if (!verdict.allowed && remembered !== undefined) {
        remembered.remember(nameOf(keys), policy, cost, decision, now ? verdict.at : verdict.sentAt)
      }
      deliver(taking, decision, warn)
    })
    return undefined
  }

  /** Returns the groups of a request; undefined if one call can decide all parts. */
  function groupsOf(parts: readonly LimitGroup[], keys: readonly string[]): readonly Group[] | undefined {
    if (!shards.clustered || parts.length === 1) return undefined
    const groups = groupBySlot(parts, keys)
    return groups.length === 1 ? undefined : groups
  }

  function askGroup(group: Group, taking: Taking): DegradedReason | Promise<Verdict | DegradedReason> {
    const shard = shards.of(group.slot)
    if (shard === undefined || !shard.isUp() || closed) return 'breaker'
    return new Promise((resolve) => ask(group, shard, taking, resolve))
  }

  function ask(group: Group, shard: Shard, taking: Taking, answer: WaitingTake['answer']): void {
    const { slot, parts, keys } = group
    const { service, policy, cost, shows } = taking
    const watched = service.onFailure === 'local'
    if (watched && local.owes()) chargeOwed(group)
    sender.ask({
      keys,
      parts,
      cost,
      plain: isPlain(parts),
      mergeable: !policy.slots && !shows,
      shows,
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

  /** Charges what was admitted while the store was away, before these keys are used again. */
  function chargeOwed({ slot, parts, keys }: Group): void {
    keys.forEach((key, i) => {
      const owed = local.claim(key)
      if (owed === undefined) return
      sender.settle(slot, { keys: [key], parts: [parts[i]!], owed, ...OWED }).then((heard) => {
        if (heard !== undefined) local.paid(key)
      })
    })
  }

  function isRemembered(service: Service, { slots, refunds, parts }: Policy): boolean {
    if (slots || refunds) return false
    // In a Cluster, a level that is asked early is given back when a later one denies.
    return (
      !shards.clustered ||
      (parts.length === 1 && service.policies.every((other) => (other?.parts.length ?? 1) === 1))
    )
  }

  return {
    take: promised(decide),
    decide,
    ready,
    async settle(charge, quota, slot) {
      const { service, policy, consumer, levels, at, slotAt, times, slotTimes } = charge
      if (charge.decidedBy === 'local') return local.settle(charge, quota, slot)
      if (charge.decidedBy !== 'store') return
      const { parts } = policy
      const keys = keysOf(service.name, parts, consumer, levels)
      const one = { slot: shards.clustered ? slotOfKey(keys[0]!) : 0, parts, keys }
      // Cleared before, and again afterwards for requests sent meanwhile. If giving back is usual, denials are not
      // cached.
      const forgets = quota < 0 && !policy.refunds
      if (forgets) denials?.clear()
      const heard = await Promise.all(
        (groupsOf(parts, keys) ?? [one]).map((group, i) =>
          sender.settle(group.slot, {
            keys: group.keys,
            parts: group.parts,
            quota,
            at: times?.[i] ?? at,
            slot,
            slotAt: slotTimes?.[i] ?? times?.[i] ?? slotAt,
          }),
        ),
      )
      if (forgets) denials?.clear()
      if (slot !== 'renew') return
      charge.slotTimes = heard.map((ms, i) => ms ?? slotTimes?.[i] ?? times?.[i] ?? slotAt)
      charge.slotAt = charge.slotTimes[0]!
    },
    async preview(service, policy, consumer, cost, levels) {
      const { parts } = policy
      const keys = keysOf(service.name, parts, consumer, levels)
      if (!keys.every(isReachable)) {
        if (service.onFailure === 'local' && !decides) throw new Error(ELSEWHERE)
        return previewDegraded(local, 'breaker', service, policy, consumer, cost, levels)
      }
      const read = keys.map((key) => askStore(patience, runUsage(store, key, now?.() ?? 0)))
      const found = await Promise.all(read)
      const at = Math.max(...found.map(([time]) => time))
      const counts = found.map(([, value, expires], k) => decodeCounts(parts[k]!.limits, value, expires, at))
      return previewFrom(parts, counts, at, cost)
    },
    async usage(service, policy, consumer, levels) {
      if (!keysOf(service.name, policy.parts, consumer, levels).every(isReachable)) {
        if (service.onFailure !== 'local') throw new Error('the store is out of reach')
        if (!decides) throw new Error(ELSEWHERE)
        return local.usage(service, policy, consumer, levels)
      }
      return usageOf(policy.parts, async (part) => {
        const key = keyOf(service.name, part, consumer, levels)
        if (key === undefined) return undefined
        const [at, value, expires] = await askStore(patience, runUsage(store, key, now?.() ?? 0))
        return usageFrom(part.limits, decodeCounts(part.limits, value, expires, at), at)
      })
    },
    async reset(service, consumer, byAddress) {
      await local.reset(service, consumer, byAddress)
      const keys = [...consumerKeys(service, consumer, byAddress)]
      if (keys.length > 0) await askStore(OPERATOR_TIMEOUT, store.del(...keys))
      denials?.clear()
    },
    state: () => (shards.allUp() ? 'up' : 'degraded'),
    foreignKeys: () => foreign,
    async close() {
      closed = true
      markReady()
      sender.close()
      shards.close()
    },
  }
}

function nameOf(keys: readonly string[]): string {
  return keys.length === 1 ? keys[0]! : keys.join(' ')
}

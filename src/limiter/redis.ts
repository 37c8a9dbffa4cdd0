import type { Policy, Service } from '../config/snapshot.js'
import { askStore, storeError } from './ask.js'
import { decideDegraded, type Log, onceASecond } from './degraded.js'
import { consumerPart, limitKey, slotOf } from './key.js'
import type { Decision, DegradedReason, Limiter } from './limiter.js'
import { createMemoryLimiter } from './memory.js'
import { type Client, runTake, runUsage, TAKE_REPLY, type Take } from './scripts.js'
import type { Shard } from './shard.js'
import { createShards } from './shards.js'
import { decodeCounts } from './stored.js'
import { usageFrom } from './window.js'

export interface RedisLimiterOptions {
  /** From `connectStore`; stays the caller's to disconnect. */
  readonly store: Client
  /** Ms that a decision waits for the store; past it, it is made without. */
  readonly timeoutMs: number
  readonly log: Log
  /** How many (service, consumer, tier) the mode `local` remembers. */
  readonly localKeys?: number
  /** Tests only: unix ms, in place of the server's clock. */
  readonly now?: () => number
}

export interface RedisLimiter extends Limiter {
  /** Resolves when the store has answered for the first time: before that, decisions are degraded. */
  readonly ready: Promise<void>
}

/** Decisions in one script call: more would keep the server from its other clients for too long. */
const BATCH = 64
/** Ms that an operator's question (usage, reset) waits. */
const OPERATOR_TIMEOUT = 2000

interface Pending extends Take {
  readonly service: Service
  readonly consumer: string
  readonly slot: number
  readonly shard: Shard
  readonly resolve: (decision: Decision) => void
}

interface Batch {
  readonly shard: Shard
  readonly pending: readonly Pending[]
  /** `performance.now()` past which the store is too late. */
  readonly due: number
  done: boolean
}

/**
 * Counts in Redis. Decisions that come up in one turn of the event loop go out together: one script call per 64 of
 * them, in a Cluster one per slot. No decision is ever sent twice.
 */
export function createRedisLimiter(options: RedisLimiterOptions): RedisLimiter {
  const { store, timeoutMs, log, localKeys, now } = options
  const local = createMemoryLimiter(localKeys === undefined ? {} : { maxKeys: localKeys })
  const warn = onceASecond((fields, message) => log.warn(fields, message))
  const inform = onceASecond((fields, message) => log.info(fields, message))
  let markReady = () => {}
  const ready = new Promise<void>((resolve) => {
    markReady = resolve
  })
  const shards = createShards(store, timeoutMs, onStateChange)
  const inFlight: Batch[] = []
  let queue: Pending[] = []
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function onStateChange(): void {
    if (shards.allUp()) {
      markReady()
      inform({}, 'the store answers; counting in it')
    } else warn({}, 'the store does not answer; deciding without it')
  }

  function degrade(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    reason: DegradedReason,
  ): Decision {
    warn({ service: service.name, mode: service.onFailure, reason }, 'decided without the store')
    return decideDegraded(local, service, policy, consumer, cost, reason)
  }

  function take(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
  ): Decision | Promise<Decision> {
    const part = consumerPart(consumer)
    const slot = shards.clustered ? slotOf(part) : 0
    const shard = shards.of(slot)
    if (shard === undefined || !shard.isUp() || closed) {
      return degrade(service, policy, consumer, cost, 'breaker')
    }
    const key = limitKey(service.name, part, policy.parts[0]!.keyPart)
    return new Promise((resolve) => {
      queue.push({ key, policy, cost, service, consumer, slot, shard, resolve })
      if (queue.length === 1) setImmediate(flush)
    })
  }

  function flush(): void {
    const pending = queue
    queue = []
    if (!shards.clustered) {
      for (let i = 0; i < pending.length; i += BATCH) send(pending.slice(i, i + BATCH))
      return
    }
    const bySlot = new Map<number, Pending[]>()
    for (const one of pending) {
      const others = bySlot.get(one.slot)
      if (others === undefined) bySlot.set(one.slot, [one])
      else others.push(one)
    }
    shards.together(() => {
      for (const group of bySlot.values()) {
        for (let i = 0; i < group.length; i += BATCH) send(group.slice(i, i + BATCH))
      }
    })
  }

  function send(pending: readonly Pending[]): void {
    const shard = pending[0]!.shard
    const batch: Batch = { shard, pending, due: performance.now() + timeoutMs, done: false }
    inFlight.push(batch)
    timer ??= setTimeout(onTimer, timeoutMs)
    // An injected clock is not the server's, which the deadline is reckoned by.
    const call =
      now === undefined ? runTake(store, pending, shard.deadline(), 0) : runTake(store, pending, 0, now())
    call.then(
      (reply) => onReply(batch, reply),
      (error: unknown) => onError(batch, error),
    )
  }

  function onReply(batch: Batch, reply: number[]): void {
    if (batch.done) return
    batch.shard.answered(reply[0]!, now === undefined ? batch.due - timeoutMs : undefined)
    if (reply.length === 1) {
      // The server refused to charge so late, or its clock has leapt; the reading just learnt sets that right.
      settle(batch, 'timeout')
      return
    }
    finish(batch)
    for (let i = 0, at = 1; i < batch.pending.length; i++, at += TAKE_REPLY) {
      const verdict = reply[at]!
      batch.pending[i]!.resolve({
        allowed: (verdict & 1) === 1,
        decidedBy: 'store',
        reason: undefined,
        binding: (verdict >> 1) & 7,
        violated: verdict >> 4,
        remaining: reply[at + 1]!,
        resetMs: reply[at + 2]!,
        retryMs: reply[at + 3]!,
        at: reply[0]!,
      })
    }
  }

  function onError(batch: Batch, error: unknown): void {
    if (batch.done) return
    warn({ error: storeError(error) }, 'the store failed on a decision')
    settle(batch, 'error')
  }

  /** Without the store: it failed, or was too slow. */
  function settle(batch: Batch, reason: DegradedReason): void {
    finish(batch)
    batch.shard.missed()
    for (const { service, policy, consumer, cost, resolve } of batch.pending) {
      resolve(degrade(service, policy, consumer, cost, reason))
    }
  }

  function finish(batch: Batch): void {
    batch.done = true
    while (inFlight[0]?.done === true) inFlight.shift()
  }

  /** One timer for the oldest batch. Replies that have arrived while our own event loop stood still go first. */
  function onTimer(): void {
    setImmediate(() => {
      timer = undefined
      const at = performance.now() + 1
      while (inFlight[0] !== undefined && inFlight[0].due <= at) settle(inFlight[0], 'timeout')
      const oldest = inFlight[0]
      if (oldest !== undefined) timer = setTimeout(onTimer, oldest.due - performance.now())
    })
  }

  return {
    take,
    settle() {},
    ready,
    async usage(service, policy, consumer) {
      const key = limitKey(service.name, consumerPart(consumer), policy.parts[0]!.keyPart)
      const asked = runUsage(store, key, now?.() ?? 0)
      const [at, value, expires] = await askStore(OPERATOR_TIMEOUT, asked)
      return usageFrom(policy.limits, decodeCounts(policy.limits, value, expires, at), at)
    },
    async reset(service, consumer) {
      await local.reset(service, consumer)
      const part = consumerPart(consumer)
      const parts = service.policies.flatMap((policy) =>
        policy === undefined ? [] : [policy.parts[0]!.keyPart],
      )
      const keys = [...new Set(parts)].map((policyPart) => limitKey(service.name, part, policyPart))
      if (keys.length > 0) await askStore(OPERATOR_TIMEOUT, store.del(...keys))
    },
    state: () => (shards.allUp() ? 'up' : 'degraded'),
    async close() {
      closed = true
      flush()
      shards.close()
      clearTimeout(timer)
      while (inFlight[0] !== undefined) settle(inFlight[0], 'error')
    },
  }
}

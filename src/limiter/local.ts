import { type Limit, standing } from '../config/snapshot/limit.js'
import type { LimitGroup, Policy } from '../config/snapshot/policy.js'
import { ALGORITHMS } from './algorithms/by-name.js'
import { sizeOf } from './decide.js'
import { createRecent } from './generational-cache.js'
import type { Asking, Decision, DegradedReason } from './limiter.js'
import { createMemoryLimiter, type MemoryLimiter } from './memory.js'

/**
 * Degraded mode `local`: every gateway decides by itself within its share of each limit, amount ÷ gateways, rounded up.
 *
 * The excess is bounded. Per window, all gateways together admit less than amount + gateways. In the window in which
 * the store is lost, what was counted in the store is added, except for consumers that a gateway has seen recently:
 * they continue with their share of what was left then. When the store is back, what was admitted here is charged to it
 * once per key, at the next request for the key: to each limit what its own windows still count.
 */
export interface Local extends Pick<MemoryLimiter, 'settle' | 'usage' | 'reset' | 'owes' | 'claim' | 'paid'> {
  take(reason: DegradedReason, ...asking: Asking): Decision
  /** Returns what `take` would answer, without charging. */
  preview(reason: DegradedReason, ...asking: Asking): Promise<Decision>
  /** Records what was left of the binding limit, according to a decision of the store. */
  saw(keys: readonly string[], parts: readonly LimitGroup[], verdict: Decision): void
}

interface Seen {
  /** Index into the part's limits. */
  readonly index: number
  readonly left: number
  /** Unix ms. */
  readonly at: number
}

/**
 * Creates the mode.
 *
 * @param maxKeys how many keys are counted, and about how many are remembered as seen
 * @param gateways returns how many gateways share the store
 * @param now clock, in unix ms
 */
export function createLocal(maxKeys: number, gateways: () => number, now: () => number = Date.now): Local {
  const memory = createMemoryLimiter({ maxKeys, now, seed })
  const shares = new WeakMap<Policy, { readonly among: number; readonly policy: Policy }>()
  const seenLately = createRecent<Seen>(Math.ceil(maxKeys / 2))

  function shareOf(policy: Policy): Policy {
    const among = gateways()
    if (among === 1) return policy
    const known = shares.get(policy)
    if (known?.among === among) return known.policy
    const limits = new Map(policy.limits.map((limit) => [limit, partOf(limit, among)]))
    const share: Policy = {
      ...policy,
      limits: [...limits.values()],
      parts: policy.parts.map((part) => ({
        ...part,
        limits: part.limits.map((limit) => limits.get(limit)!),
      })),
    }
    shares.set(policy, { among, policy: share })
    return share
  }

  /** Returns the initial counts of a key that was seen recently: this gateway's share of what others left. */
  function seed(key: string, part: LimitGroup): number[] | undefined {
    const seen = seenLately.get(key)
    if (seen === undefined) return undefined
    const counts = new Array<number>(sizeOf(part.limits))
    let o = 0
    part.limits.forEach((one, i) => {
      const limit = standing(one, seen.at)
      const algorithm = ALGORITHMS[limit.algorithm]
      algorithm.roll(limit, counts, o, seen.at)
      const used = limit.burst - Math.ceil(seen.left / gateways())
      if (i === seen.index && used > 0) algorithm.add(limit, counts, o, used)
      o += algorithm.size
    })
    return counts
  }

  return {
    take: (reason, service, policy, ...rest) =>
      memory.takeAs('local', reason, service, shareOf(policy), ...rest),
    async preview(reason, service, policy, ...rest) {
      const decision = await memory.preview(service, shareOf(policy), ...rest)
      return { ...decision, decidedBy: 'local', reason }
    },
    async usage(service, policy, consumer, levels) {
      const found = await memory.usage(service, shareOf(policy), consumer, levels)
      // `remaining` is of the share. The limit shown is the one that clients know.
      return found.map((one) => ({
        ...one,
        limit: policy.limits.find(({ name }) => name === one.limit.name) ?? one.limit,
      }))
    },
    settle(charge, quota, slot) {
      // At the share's rate: a debt paid off at the full rate would be forgiven early.
      const own = { ...charge, policy: shareOf(charge.policy) }
      memory.settle(own, quota, slot)
      charge.slotAt = own.slotAt
    },
    saw(keys, parts, { binding, remaining, at }) {
      let index = binding
      let k = 0
      while (index >= parts[k]!.limits.length) index -= parts[k++]!.limits.length
      seenLately.set(keys[k]!, { index, left: remaining, at })
    },
    owes: memory.owes,
    claim: memory.claim,
    paid: memory.paid,
    async reset(service, consumer, byAddress) {
      seenLately.clear()
      await memory.reset(service, consumer, byAddress)
    },
  }
}

function partOf(limit: Limit, among: number): Limit {
  const { amount, burst, next } = limit
  return {
    ...limit,
    amount: Math.ceil(amount / among),
    burst: Math.ceil(burst / among),
    next: next && { at: next.at, limit: partOf(next.limit, among) },
  }
}

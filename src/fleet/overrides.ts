import type { Policy, Service } from '../config/snapshot/snapshot.js'
import { type AmountRule, adjusted, MOST_AMOUNT } from '../limiter/apply-overrides.js'
import { isTime, type MapShape, type ReplicatedMap } from './replicated-map.js'

/**
 * Boosts and overrides: what operators have changed of single limits, for one consumer or for all of one tenant. A boost comes on
 * top of what a limit allows, an override takes its place.
 */

export type AmountKind = 'boost' | 'override'

/** Which limit of whom. */
export interface AmountKey {
  readonly kind: AmountKind
  readonly of: 'consumer' | 'tenant'
  readonly id: string
  readonly service: string
  readonly limit: string
}

/** What it is changed by, or to. */
export interface Amount {
  /** 1 to 2^25 - 1. */
  readonly amount: number
  /** Unix ms at which it ends by itself; undefined: never. */
  readonly until: number | undefined
  /** What whoever did it had to say. */
  readonly reason: string | undefined
}

export const LONGEST_REASON = 200

export const AMOUNTS: MapShape<Amount> = {
  name: 'amounts:{amounts}',
  what: 'boosts and overrides',
  keyName: 'name of a boost or override',
  parse(text) {
    try {
      const { amount, until, reason } = JSON.parse(text) as Record<string, unknown>
      if (!Number.isSafeInteger(amount) || (amount as number) < 1 || (amount as number) > MOST_AMOUNT)
        return undefined
      if (until !== undefined && !isTime(until)) return undefined
      if (reason !== undefined && typeof reason !== 'string') return undefined
      return { amount: amount as number, until, reason }
    } catch {
      return undefined
    }
  },
  write: ({ amount, until, reason }) =>
    JSON.stringify({ amount, until, reason: reason?.slice(0, LONGEST_REASON) }),
  until: ({ until }) => until,
  most: 200_000,
  longestKey: 1400,
  longestValue: 1600,
}

/** The id stands last: any character may be in it. */
export function amountKeyText({ kind, of, id, service, limit }: AmountKey): string {
  return `${kind}:${of}:${service}:${limit}:${id}`
}

/** @returns undefined: anybody with access to the store may write anything */
export function readAmountKey(text: string): AmountKey | undefined {
  const a = text.indexOf(':')
  const b = text.indexOf(':', a + 1)
  const c = text.indexOf(':', b + 1)
  const d = text.indexOf(':', c + 1)
  // Each is found behind the one before, or -1 is not.
  if (a < 0 || b < a || c < b || d < c) return undefined
  const kind = text.slice(0, a)
  const of = text.slice(a + 1, b)
  if ((kind !== 'boost' && kind !== 'override') || (of !== 'consumer' && of !== 'tenant')) return undefined
  return { kind, of, service: text.slice(b + 1, c), limit: text.slice(c + 1, d), id: text.slice(d + 1) }
}

export interface Amounts {
  /**
   * The policy as it holds for this consumer: the same object until something changes, so that what is kept by policy
   * is kept. From memory.
   */
  policyFor(service: Service, policy: Policy, consumer: string, tenant: string | undefined): Policy
  /** Where they are, for operators. */
  readonly map: ReplicatedMap<Amount>
}

/** Where nothing is changed. */
export const NO_AMOUNTS: Pick<Amounts, 'policyFor'> = { policyFor: (_service, policy) => policy }

type Rule = AmountRule & { readonly key: string; readonly service: string }

function ruleOf(key: string, { kind, service, limit }: AmountKey, { amount, until }: Amount): Rule {
  return { key, service, kind, limit, amount, until }
}

/** What is changed for one consumer, or for one tenant. Replaced, not changed, once requests have seen it. */
interface Changes {
  readonly rules: Rule[]
  /** The newest first. */
  readonly made: Made[]
}

interface Made {
  readonly base: Policy
  /** Of the tenant, where the consumer has some of its own, too. */
  readonly theirs: Changes | undefined
  /** Unix ms up to which it is right. */
  readonly until: number
  readonly policy: Policy
}

/** Policies that are remembered for one of them: of so many services and tiers does hardly anybody make use at a time. */
const MOST_MADE = 8

/** @param now unix ms */
export function createAmounts(map: ReplicatedMap<Amount>, now: () => number = Date.now): Amounts {
  const consumers = new Map<string, Changes>()
  const tenants = new Map<string, Changes>()

  function put(text: string, amount: Amount | undefined): void {
    const key = readAmountKey(text)
    if (key === undefined) return
    const all = key.of === 'consumer' ? consumers : tenants
    const others = all.get(key.id)?.rules.filter((rule) => rule.key !== text) ?? []
    const rules = amount === undefined ? others : [...others, ruleOf(text, key, amount)]
    if (rules.length === 0) all.delete(key.id)
    else all.set(key.id, { rules, made: [] })
  }

  /** Of a hundred thousand of them: in one go, as requests wait meanwhile. */
  function putAll(): void {
    consumers.clear()
    tenants.clear()
    for (const [text, amount] of map.entries()) {
      const key = readAmountKey(text)
      if (key === undefined) continue
      const all = key.of === 'consumer' ? consumers : tenants
      const known = all.get(key.id)
      if (known === undefined) all.set(key.id, { rules: [ruleOf(text, key, amount)], made: [] })
      else known.rules.push(ruleOf(text, key, amount))
    }
  }

  map.onChange((text) => {
    if (text === undefined) putAll()
    else put(text, map.get(text))
  })
  putAll()

  function make(
    service: Service,
    base: Policy,
    own: Changes | undefined,
    theirs: Changes | undefined,
  ): Policy {
    const at = now()
    const holder = own ?? theirs!
    const rulesOf = (changes: Changes | undefined) =>
      changes?.rules.filter((rule) => rule.service === service.name) ?? []
    const { policy, until } = adjusted(base, rulesOf(own), rulesOf(theirs), at)
    const index = holder.made.findIndex((one) => one.base === base)
    if (index >= 0) holder.made.splice(index, 1)
    holder.made.unshift({ base, theirs: own && theirs, until, policy })
    holder.made.length = Math.min(holder.made.length, MOST_MADE)
    return policy
  }

  return {
    policyFor(service, policy, consumer, tenant) {
      if (consumers.size + tenants.size === 0) return policy
      const own = consumers.get(consumer)
      const theirs = tenant === undefined ? undefined : tenants.get(tenant)
      if (own === undefined && theirs === undefined) return policy
      for (const one of (own ?? theirs!).made) {
        if (one.base !== policy || one.theirs !== (own && theirs)) continue
        if (one.until === Number.POSITIVE_INFINITY || now() < one.until) return one.policy
      }
      return make(service, policy, own, theirs)
    },
    map,
  }
}

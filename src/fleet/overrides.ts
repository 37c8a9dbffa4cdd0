import { fieldsOf, isCount, isTime, parseJson } from '../common/json.js'
import type { Policy } from '../config/snapshot/policy.js'
import type { Service } from '../config/snapshot/snapshot.js'
import { type AmountRule, adjusted, MOST_AMOUNT } from '../limiter/apply-overrides.js'
import { ownText } from './recent-values.js'
import type { MapShape, ReplicatedMap } from './replicated-map.js'

/**
 * Boosts and overrides: changes that operators made to single limits, for one consumer or for a whole tenant. A boost
 * is added to what the limit allows. An override replaces it.
 */

export type AmountKind = 'boost' | 'override'

/** Identifies the changed limit and the consumer or tenant it is changed for. */
export interface AmountKey {
  readonly kind: AmountKind
  readonly of: 'consumer' | 'tenant'
  readonly id: string
  readonly service: string
  readonly limit: string
}

/** The change itself: how much, until when, and why. */
export interface Amount {
  /** From 1 to 2^25 - 1. */
  readonly amount: number
  /** Unix ms at which the change ends; undefined if it never ends. */
  readonly until: number | undefined
  /** Reason that the operator gave. */
  readonly reason: string | undefined
}

export const LONGEST_REASON = 200

export const AMOUNTS: MapShape<Amount> = {
  name: 'amounts:{amounts}',
  what: 'boosts and overrides',
  keyName: 'name of a boost or override',
  parse(text) {
    const { amount, until, reason } = fieldsOf(parseJson(text))
    if (!isCount(amount) || amount < 1 || amount > MOST_AMOUNT) return undefined
    if (until !== undefined && !isTime(until)) return undefined
    if (reason !== undefined && typeof reason !== 'string') return undefined
    return { amount, until, reason }
  },
  write: ({ amount, until, reason }) =>
    JSON.stringify({ amount, until, reason: reason?.slice(0, LONGEST_REASON) }),
  until: ({ until }) => until,
  most: 200_000,
  mostSplit: 200_000_000,
  longestKey: 1400,
  longestValue: 1600,
}

/** Formats the key of a change. The id is last because it may contain any character. */
export function amountKeyText({ kind, of, id, service, limit }: AmountKey): string {
  return `${kind}:${of}:${service}:${limit}:${id}`
}

/** Parses such a key. Returns undefined for anything else: any client with access to the store may write to it. */
export function readAmountKey(text: string): AmountKey | undefined {
  const a = text.indexOf(':')
  const b = text.indexOf(':', a + 1)
  const c = text.indexOf(':', b + 1)
  const d = text.indexOf(':', c + 1)
  // Each colon is searched behind the one before, and -1 means that it is missing.
  if (a < 0 || b < a || c < b || d < c) return undefined
  const kind = text.slice(0, a)
  const of = text.slice(a + 1, b)
  if ((kind !== 'boost' && kind !== 'override') || (of !== 'consumer' && of !== 'tenant')) return undefined
  return { kind, of, service: text.slice(b + 1, c), limit: text.slice(c + 1, d), id: text.slice(d + 1) }
}

export type Amounts = ReturnType<typeof createAmounts>

/** Amounts without any change. */
export const NO_AMOUNTS: Pick<Amounts, 'find' | 'policyFor' | 'isWhole'> = {
  find: (_service, policy) => policy,
  policyFor: (_service, policy) => policy,
  isWhole: () => true,
}

type Rule = AmountRule & { readonly key: string; readonly service: string }

function ruleOf(key: string, { kind, service, limit }: AmountKey, { amount, until }: Amount): Rule {
  return { key, service, kind, limit, amount, until }
}

/**
 * Changes for one consumer or one tenant. Requests may hold it, so it is replaced and never modified once they have
 * seen it.
 */
interface Changes {
  readonly rules: Rule[]
  /** Policies made from these rules, newest first. */
  readonly made: Made[]
  /** Policies whose changes are known, newest first, while the map is not whole. */
  readonly asked: readonly Policy[]
}

interface Made {
  readonly base: Policy
  /** Changes for the tenant, if the consumer has some of its own, too. */
  readonly theirs: Changes | undefined
  /** Unix ms until which the policy is valid. */
  readonly until: number
  readonly policy: Policy
}

/**
 * Policies that are remembered for one consumer or tenant. Few use more services and tiers than this at the same time.
 */
const MOST_MADE = 8
/** Consumers, and tenants, that are remembered while the map is not whole. */
const MOST_REMEMBERED = 50_000
const KINDS: readonly AmountKind[] = ['override', 'boost']

/**
 * Applies the changes in a map to policies. While the map is whole, all changes are at hand by consumer and by tenant.
 * Otherwise the map is asked for those that a policy's limits may have.
 *
 * @param now clock, in unix ms
 */
export function createAmounts(map: ReplicatedMap<Amount>, now: () => number = Date.now) {
  const consumers = new Map<string, Changes>()
  const tenants = new Map<string, Changes>()
  const holdersOf = (of: AmountKey['of']) => (of === 'consumer' ? consumers : tenants)
  let isWhole = true
  /** Number of changes heard of. */
  let heard = 0

  function put(text: string, amount: Amount | undefined): void {
    const key = readAmountKey(text)
    if (key === undefined) return
    const all = holdersOf(key.of)
    const others = all.get(key.id)?.rules.filter((rule) => rule.key !== text) ?? []
    const rules = amount === undefined ? others : [...others, ruleOf(text, key, amount)]
    if (rules.length === 0 || !isWhole) all.delete(key.id)
    else all.set(key.id, { rules, made: [], asked: [] })
  }

  /** Rebuilds all changes, up to 500,000, in one turn of the event loop. Requests wait meanwhile. */
  function putAll(): void {
    consumers.clear()
    tenants.clear()
    isWhole = map.isWhole()
    if (!isWhole) return
    for (const [text, amount] of map.entries()) {
      const key = readAmountKey(text)
      if (key === undefined) continue
      const all = holdersOf(key.of)
      const known = all.get(key.id)
      if (known === undefined) all.set(key.id, { rules: [ruleOf(text, key, amount)], made: [], asked: [] })
      else known.rules.push(ruleOf(text, key, amount))
    }
  }

  map.onChange((text) => {
    heard++
    if (text === undefined || isWhole !== map.isWhole()) putAll()
    else put(text, map.get(text))
  })
  putAll()

  /**
   * Returns the changes of a consumer or tenant for the limits of a policy, while the map is not whole.
   *
   * @param waits gets a promise for each look-up that fills the result in later. Left out: what is in memory counts.
   */
  function changesOf(
    of: AmountKey['of'],
    id: string,
    service: Service,
    policy: Policy,
    waits?: Promise<void>[],
  ): Changes {
    const known = holdersOf(of).get(id)
    if (known?.asked.includes(policy)) return known
    const rules = known === undefined ? [] : [...known.rules]
    const add = (key: AmountKey, text: string, amount: Amount | undefined): void => {
      if (amount !== undefined && !rules.some((rule) => rule.key === text))
        rules.push(ruleOf(text, key, amount))
    }
    for (const { name: limit } of policy.limits) {
      for (const kind of KINDS) {
        const key = { kind, of, id, service: service.name, limit }
        const text = amountKeyText(key)
        const found = waits === undefined ? map.get(text) : map.find(text)
        if (found instanceof Promise) waits!.push(found.then((late) => add(key, text, late)))
        else add(key, text, found)
      }
    }
    return { rules, made: [], asked: [policy, ...(known?.asked ?? [])].slice(0, MOST_MADE) }
  }

  function remember(of: AmountKey['of'], id: string, changes: Changes): void {
    const all = holdersOf(of)
    const known = all.get(id)
    if (known === changes) return
    if (known === undefined && all.size >= MOST_REMEMBERED) all.clear()
    all.set(ownText(id), changes)
  }

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

  function changed(
    service: Service,
    policy: Policy,
    own: Changes | undefined,
    theirs: Changes | undefined,
  ): Policy {
    if (own === undefined && theirs === undefined) return policy
    for (const one of (own ?? theirs!).made) {
      if (one.base !== policy || one.theirs !== (own && theirs)) continue
      if (one.until === Number.POSITIVE_INFINITY || now() < one.until) return one.policy
    }
    return make(service, policy, own, theirs)
  }

  /**
   * Returns the policy with the changes for this consumer, from memory. The object stays the same until something
   * changes, so caches keyed by policy stay valid.
   */
  function policyFor(service: Service, policy: Policy, consumer: string, tenant: string | undefined): Policy {
    if (!isWhole) {
      const own = changesOf('consumer', consumer, service, policy)
      const theirs = tenant === undefined ? undefined : changesOf('tenant', tenant, service, policy)
      return changed(service, policy, orNone(own), orNone(theirs))
    }
    if (consumers.size + tenants.size === 0) return policy
    return changed(
      service,
      policy,
      consumers.get(consumer),
      tenant === undefined ? undefined : tenants.get(tenant),
    )
  }

  return {
    policyFor,
    /**
     * Does the same as `policyFor`, and looks up, in the store, the changes that this process does not know of. Rejects
     * if the store can't tell.
     */
    find(
      service: Service,
      policy: Policy,
      consumer: string,
      tenant: string | undefined,
    ): Policy | Promise<Policy> {
      if (isWhole) return policyFor(service, policy, consumer, tenant)
      const waits: Promise<void>[] = []
      const own = changesOf('consumer', consumer, service, policy, waits)
      const theirs = tenant === undefined ? undefined : changesOf('tenant', tenant, service, policy, waits)
      const before = heard
      const found = (): Policy => {
        // A look-up that began before a change may have read the older value.
        if (heard === before) {
          remember('consumer', consumer, own)
          if (theirs !== undefined) remember('tenant', tenant!, theirs)
        }
        return changed(service, policy, orNone(own), orNone(theirs))
      }
      return waits.length === 0 ? found() : Promise.all(waits).then(found)
    },
    /** Returns true if all changes are in memory, so that none has to be looked up. */
    isWhole: () => isWhole,
    /** Returns the keys of the changes of a consumer or a tenant; undefined if not all changes are in memory. */
    keysOf: (of: AmountKey['of'], id: string): readonly string[] | undefined =>
      isWhole
        ? (holdersOf(of)
            .get(id)
            ?.rules.map(({ key }) => key) ?? [])
        : undefined,
    /** The map that holds the changes, for operators. */
    map,
  }
}

/** Returns the policy with the changes for a consumer; with those in memory if the store can't tell. */
export async function changedPolicy(
  amounts: Pick<Amounts, 'find' | 'policyFor'>,
  ...[service, policy, consumer, tenant]: Parameters<Amounts['find']>
): Promise<Policy> {
  try {
    return await amounts.find(service, policy, consumer, tenant)
  } catch {
    return amounts.policyFor(service, policy, consumer, tenant)
  }
}

function orNone(changes: Changes | undefined): Changes | undefined {
  return changes === undefined || changes.rules.length === 0 ? undefined : changes
}

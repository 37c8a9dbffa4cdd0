import type { Limit, Policy, Service } from '../config/snapshot/snapshot.js'
import type { Counted } from './limit-readings.js'

/** Where a decision was made. `cache` is a remembered denial; the last three are degraded. */
export type DecidedBy = 'store' | 'cache' | 'local' | 'open' | 'closed'

/** Why the store did not decide. */
export type DegradedReason = 'timeout' | 'error' | 'breaker'

/** What the limiter answers. */
export interface Decision {
  readonly allowed: boolean
  readonly decidedBy: DecidedBy
  /** Set when decidedBy is local, open or closed. */
  readonly reason: DegradedReason | undefined
  /** Index into `policy.limits` of the limit that leaves the least, or that the request waits for longest. */
  readonly binding: number
  /** Bit i set: limit i denied this request. 0 when allowed. */
  readonly violated: number
  /** What a request of cost 1 could still take after this one, the least over all limits. */
  readonly remaining: number
  /** Ms until the binding limit's present window ends; of a bucket, until it is full; of slots, until all have lapsed. */
  readonly resetMs: number
  /**
   * Denied: exact ms until this cost could pass if nobody else spends or gives back; -1: never (cost above the limit).
   * For slots: until enough have lapsed that nobody gives back.
   */
  readonly retryMs: number
  /** Unix ms, by the clock of whoever decided. What is settled later is settled as of this moment. */
  readonly at: number
  /** The same for each of several servers, when more than one was asked: for `Charge`. */
  readonly times?: readonly number[]
  /** How the limits stood, of a denied request and of a preview. Of a remembered denial as they stood when it was made. */
  readonly counted?: Counted | undefined
}

/** Who else than the consumer a request is counted under. */
export interface Levels {
  /** The caller's address as consumers are told apart by it: an IPv6 address by its /64. */
  readonly ip: string
  /** Of the credential. Who has none is a tenant of one. */
  readonly tenant: string | undefined
  /** The route's label. */
  readonly route: string
  /** Whether the consumer is an address: a consumer of that name is somebody else, and has counts of its own. */
  readonly byAddress?: boolean | undefined
}

/** An allowed request that is settled once its response is known. */
export interface Charge {
  readonly service: Service
  readonly policy: Policy
  readonly consumer: string
  /** Needed when the policy has a part that is not by consumer, and of an address. */
  readonly levels: Levels | undefined
  readonly cost: number
  /** From the decision. */
  readonly decidedBy: DecidedBy
  readonly at: number
  /** As `at` at first; renewing the slot moves it. */
  slotAt: number
  /** From the decision, if there. */
  readonly times?: readonly number[] | undefined
  /** As `slotAt`, of each server. */
  slotTimes?: readonly number[]
}

/** What becomes of the slots of a charge: nothing yet, given back, or held for another `windowMs` from now. */
export type Slot = 'keep' | 'release' | 'renew'

/** One limit of one consumer as it stands now. */
export interface LimitUsage {
  readonly limit: Limit
  /** What the limit counts as used now, rounded up. Above the amount after a debit or a lowered limit. */
  readonly used: number
  readonly remaining: number
  readonly resetMs: number
}

/**
 * Counts and decides. Memory and Redis pass one contract (`test/limiter/contract.ts`).
 */
export interface Limiter {
  /**
   * Decides one request of `cost` (integer ≥ 1) and, when it is allowed, charges it: every limit of the policy
   * or none. A `concurrency` limit takes 1, whatever the cost. Never rejects or throws: a store that fails is a
   * degraded decision, by `service.onFailure`.
   *
   * @param levels needed when the policy has a part that is not by consumer, and of an address
   */
  take(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    levels?: Levels,
  ): Decision | Promise<Decision>
  /**
   * Changes what an allowed request was charged, once its response is known. Never rejects or throws; what the store
   * does not hear of is lost: a slot lapses by itself.
   *
   * @param quota integer. Above 0: charged now on top, whether there is room or not, after which the consumer waits
   *   until it has faded. Below 0: given back to the windows that were charged, as far as they still count.
   */
  settle(charge: Charge, quota: number, slot: Slot): void | Promise<void>
  /**
   * Returns what `take` would answer now, charging nothing. While the store is away that is what `service.onFailure` says. Rejects
   * where it cannot be known: the store does not answer, or each gateway counts by itself and this process is none.
   *
   * @param levels what is not known of them counts as the same for all such requests
   */
  preview(
    service: Service,
    policy: Policy,
    consumer: string,
    cost: number,
    levels?: Levels,
  ): Promise<Decision>
  /** Reads without charging: while the store is away, what `local` has counted here. Rejects where nothing is counted, or it is out of reach. In the order of the policy; limits of levels not known are left out. */
  usage(service: Service, policy: Policy, consumer: string, levels?: Levels): Promise<readonly LimitUsage[]>
  /**
   * Forgets what the consumer has used of the service, under the policies of all tiers. Other levels keep theirs.
   *
   * @param byAddress whether the consumer is an address
   */
  reset(service: Service, consumer: string, byAddress?: boolean): Promise<void>
  /** `degraded` while decisions are made without the store. The memory limiter is always up. */
  state(): 'up' | 'degraded'
  /** How often a key of the store held something else than counts, which is counted as none and written over. */
  foreignKeys(): number
  close(): Promise<void>
}

export interface Assignment {
  readonly tier: string
  /** Unix ms; undefined: until somebody takes it back. */
  readonly until: number | undefined
}

/**
 * Which consumer was put on which tier by an operator. Held whole in the process, so a look-up is a Map read;
 * kept in step by a message at once and by a poll within a second when the message is lost.
 */
export interface TierAssignments {
  /** What was assigned, whatever the current config says of the tier, until its end. */
  get(consumer: string): Assignment | undefined
  /**
   * Stores the assignment; `undefined` removes it. Rejects when the store is out of reach.
   *
   * @param until unix ms at which it ends by itself, by each gateway's clock
   */
  set(consumer: string, tier: string | undefined, until?: number): Promise<void>
  /** The assignment as the store has it now, for the operator's tools. */
  read(consumer: string): Promise<Assignment | undefined>
  /** Resolves when the first full load is done. Reads before that see what has come so far. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

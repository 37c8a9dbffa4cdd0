import type { Limit } from '../config/snapshot/limit.js'
import type { Policy } from '../config/snapshot/policy.js'
import type { Service } from '../config/snapshot/snapshot.js'
import type { Counted } from './limit-readings.js'

/** Where a decision was made. `cache` is a remembered denial. The last three are degraded. */
export type DecidedBy = 'store' | 'cache' | 'local' | 'open' | 'closed'

/** Why the store did not decide. */
export type DegradedReason = 'timeout' | 'error' | 'breaker'

/** Result of the limiter for one request. */
export interface Decision {
  readonly allowed: boolean
  readonly decidedBy: DecidedBy
  /** Set if decidedBy is local, open or closed. */
  readonly reason: DegradedReason | undefined
  /** Index into `policy.limits` of the limit that leaves the least, or that the request waits for longest. */
  readonly binding: number
  /** Bit i is set if limit i denied this request. 0 if allowed. */
  readonly violated: number
  /** Highest number of requests of cost 1 that still fit after this one: the least over all limits. */
  readonly remaining: number
  /**
   * Ms until the binding limit's present window ends; for a bucket, until it is full; for slots, until all have lapsed.
   */
  readonly resetMs: number
  /**
   * If denied: exact ms until this cost could pass if no other request spends or gives back; -1 if never (cost above
   * the limit). For slots: ms until enough have lapsed, if none is given back.
   */
  readonly retryMs: number
  /** Unix ms, by the clock of the process or server that decided. A later settlement applies to this moment. */
  readonly at: number
  /** The same time for each of several servers, if more than one was asked. `Charge` needs it. */
  readonly times?: readonly number[]
  /**
   * State of the limits before the request was charged, for a denied request, a preview, and one that asked for it. A
   * remembered denial has the state when it was made.
   */
  readonly counted?: Counted | undefined
}

/** Values of the levels other than consumer that a request is counted under. */
export interface Levels {
  /** Client's address in the form that identifies consumers: an IPv6 address by its /64. */
  readonly ip: string
  /** Tenant of the credential. A consumer without one is its own tenant. */
  readonly tenant: string | undefined
  /** Label of the route. */
  readonly route: string
  /** True if the consumer is an address. A consumer of that name is another one, with its own counts. */
  readonly byAddress?: boolean | undefined
}

/** Allowed request that is settled once its response is known. */
export interface Charge {
  readonly service: Service
  readonly policy: Policy
  readonly consumer: string
  /** Required if the policy has a part that is not by consumer, and for an address. */
  readonly levels: Levels | undefined
  readonly cost: number
  /** From the decision. */
  readonly decidedBy: DecidedBy
  readonly at: number
  /** Initially equal to `at`. Renewing the slot moves it. */
  slotAt: number
  /** From the decision, if present. */
  readonly times?: readonly number[] | undefined
  /** Like `slotAt`, for each server. */
  slotTimes?: readonly number[]
}

/** Action on the slots of a charge: keep, give back, or hold for another `windowMs` from now. */
export type Slot = 'keep' | 'release' | 'renew'

/** Present usage of one limit by one consumer. */
export interface LimitUsage {
  readonly limit: Limit
  /** What the limit counts as used now, rounded up. Above the amount after a debit or a lowered limit. */
  readonly used: number
  readonly remaining: number
  readonly resetMs: number
}

/**
 * One request, as a limiter is asked about it. The cost is an integer ≥ 1. `levels` is required if the policy has a part
 * that is not by consumer, and for an address. `shows` is as in `Taking`.
 */
export type Asking = [
  service: Service,
  policy: Policy,
  consumer: string,
  cost: number,
  levels?: Levels | undefined,
  shows?: boolean,
]

/** One request that is to be decided, and what is called with the decision. */
export interface Taking {
  readonly service: Service
  readonly policy: Policy
  readonly consumer: string
  readonly cost: number
  readonly levels: Levels | undefined
  /** True if the decision has to show the state of the limits even if it allows the request. */
  readonly shows: boolean
  /** Called once, unless `decide` has returned the decision. An error that it throws is logged, and ends nothing else. */
  readonly decided: (decision: Decision) => void
}

/** Counts and decides. The memory and the Redis limiter pass one contract (`test/limiter/contract/contract.ts`). */
export interface Limiter {
  /**
   * Decides one request and charges it if it is allowed: every limit of the policy or none. A
   * `concurrency` limit takes 1, whatever the cost. Never rejects or throws: if the store fails, the decision is
   * degraded, by `service.onFailure`.
   */
  take(...asking: Asking): Decision | Promise<Decision>
  /**
   * Does the same without a promise, which would cost a request half a microsecond. Returns the decision if it is known
   * at once. Otherwise returns undefined, and calls `taking.decided` in a later turn of the event loop.
   */
  decide(taking: Taking): Decision | undefined
  /**
   * Changes what an allowed request was charged, once its response is known. Never rejects or throws. A change that
   * does not reach the store is lost; a slot then lapses by itself.
   *
   * @param quota integer. Above 0: charged now in addition, whether there is room or not; the consumer then waits until
   *   it has faded. Below 0: given back to the windows that were charged, as far as they still count.
   */
  settle(charge: Charge, quota: number, slot: Slot): void | Promise<void>
  /**
   * Returns what `take` would answer now, without charging. While the store is away, that is the answer of
   * `service.onFailure`. Rejects if the answer is unknown: the store does not answer, or each gateway counts by itself
   * and this process is not one. Unknown levels count as the same for all such requests.
   */
  preview(...asking: Asking): Promise<Decision>
  /**
   * Reads usage without charging, in the order of the policy. While the store is away, returns what `local` has counted
   * here. Rejects if nothing is counted, or if the counts are unreachable. Limits of unknown levels are left out.
   */
  usage(service: Service, policy: Policy, consumer: string, levels?: Levels): Promise<readonly LimitUsage[]>
  /**
   * Forgets what the consumer has used of the service, under the policies of all tiers. Other levels keep their counts.
   *
   * @param byAddress true if the consumer is an address
   */
  reset(service: Service, consumer: string, byAddress?: boolean): Promise<void>
  /** Returns `degraded` while decisions are made without the store. The memory limiter is always up. */
  state(): 'up' | 'degraded'
  /**
   * Returns how often a key of the store held something other than counts. Such a value counts as none and is
   * overwritten.
   */
  foreignKeys(): number
  close(): Promise<void>
}

export interface Assignment {
  readonly tier: string
  /** Unix ms; undefined until an operator removes it. */
  readonly until: number | undefined
}

import type { Limit, Policy, Service } from '../config/snapshot.js'

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
  /** Ms until the current window of the binding limit ends. */
  readonly resetMs: number
  /** Denied: exact ms until this cost could pass if nobody else spends; -1: never (cost above the limit). */
  readonly retryMs: number
}

/** One limit of one consumer as it stands now. */
export interface LimitUsage {
  readonly limit: Limit
  /** What the sliding window counts as used now, rounded up. */
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
   * or none. Never rejects or throws: a store that fails is a degraded decision, by `service.onFailure`.
   */
  take(service: Service, policy: Policy, consumer: string, cost: number): Decision | Promise<Decision>
  /** Reads without charging. Rejects when the store is out of reach. */
  usage(service: Service, policy: Policy, consumer: string): Promise<readonly LimitUsage[]>
  /** Forgets what the consumer has used of the service, under the policies of all tiers. */
  reset(service: Service, consumer: string): Promise<void>
  /** `degraded` while decisions are made without the store. The memory limiter is always up. */
  state(): 'up' | 'degraded'
  close(): Promise<void>
}

/**
 * Which consumer was put on which tier by an operator. Held whole in the process, so a look-up is a Map read;
 * kept in step by a message at once and by a poll within a second when the message is lost.
 */
export interface TierAssignments {
  /** The assigned tier's name, whatever the current config says of it. */
  get(consumer: string): string | undefined
  /** Stores the assignment; `undefined` removes it. Rejects when the store is out of reach. */
  set(consumer: string, tier: string | undefined): Promise<void>
  /** The assignment as the store has it now, for the operator's tools. */
  read(consumer: string): Promise<string | undefined>
  /** Resolves when the first full load is done. Reads before that see what has come so far. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

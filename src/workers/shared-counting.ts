import { forTenant, type Policy } from '../config/snapshot/policy.js'
import type { Service, Snapshot } from '../config/snapshot/snapshot.js'
import type { Store } from '../fleet/open-store.js'
import type { Decision } from '../limiter/limiter.js'
import type { Settle, Take, Whose } from './messages.js'

/** Answers of the primary when there is no Redis: it holds the counts of all workers. */
export interface CountForAll {
  /** Adds a configuration that workers may ask about from now on. */
  know(snapshot: Snapshot): void
  /** Keeps the configuration that workers start with from now on, whatever comes after. */
  startWith(snapshot: Snapshot): void
  take(takes: readonly Take[], store: Counting): Promise<readonly Decision[]>
  settle(settle: Settle, store: Counting): Promise<number>
}

/** The store that holds the counts, and the operators' changes to limits. */
type Counting = Pick<Store, 'limiter' | 'amounts'>

/** Configurations that are kept. A worker that drains uses an older one, but not one that is so old. */
const KEPT = 16

export function createCountForAll(): CountForAll {
  const snapshots = new Map<string, Snapshot>()
  let first: Snapshot | undefined

  function find(
    { config, service, tier, candidate, consumer, levels }: Whose,
    amounts: Store['amounts'],
  ): { service: Service; policy: Policy } {
    const snapshot = snapshots.get(config) ?? (first?.hash === config ? first : undefined)
    const found = snapshot?.services[service]
    const live = found?.policies[tier]
    const policy = candidate ? live?.candidate : live
    if (found === undefined || policy === undefined) {
      throw new Error(`a worker counts by a configuration that is not known here: ${config}`)
    }
    const tenant = levels?.tenant
    const own = forTenant(policy, tenant)
    return { service: found, policy: candidate ? own : amounts.policyFor(found, own, consumer, tenant) }
  }

  return {
    know(snapshot) {
      snapshots.delete(snapshot.hash)
      snapshots.set(snapshot.hash, snapshot)
      for (const oldest of snapshots.keys()) {
        if (snapshots.size <= KEPT) break
        snapshots.delete(oldest)
      }
    },
    startWith(snapshot) {
      first = snapshot
      this.know(snapshot)
    },
    take: (takes, { limiter, amounts }) =>
      Promise.all(
        takes.map((take) => {
          const { service, policy } = find(take, amounts)
          return limiter.take(service, policy, take.consumer, take.cost, take.levels)
        }),
      ),
    async settle(settle, { limiter, amounts }) {
      const { consumer, levels, cost, decidedBy, at, slotAt, quota, slot } = settle
      const charge = { ...find(settle, amounts), consumer, levels, cost, decidedBy, at, slotAt }
      await limiter.settle(charge, quota, slot)
      return charge.slotAt
    },
  }
}

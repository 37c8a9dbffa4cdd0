import { forTenant, type Policy } from '../config/snapshot/policy.js'
import type { Service, Snapshot } from '../config/snapshot/snapshot.js'
import type { Store } from '../fleet/open-store.js'
import type { Decision } from '../limiter/limiter.js'
import type { CountSubject, Settle, Take } from './messages.js'

/** The store that holds the counts, and the operators' changes to limits. */
type Counting = Pick<Store, 'limiter' | 'amounts'>

/** Configurations that are kept. A worker that drains uses an older one, but not one that is so old. */
const KEPT = 16

/** Counts for all workers, in the primary, when there is no Redis. */
export function createCountForAll() {
  const snapshots = new Map<string, Snapshot>()
  let first: Snapshot | undefined

  function find(
    { config, service, tier, candidate, consumer, levels }: CountSubject,
    amounts: Store['amounts'],
  ): { service: Service; policy: Policy } {
    const snapshot = snapshots.get(config) ?? (first?.fingerprint === config ? first : undefined)
    const found = snapshot?.services[service]
    const live = found?.policies[tier]
    const policy = candidate ? live?.candidate : live
    if (found === undefined || policy === undefined) {
      throw new Error(`a worker asked with a configuration that the primary does not know: ${config}`)
    }
    const tenant = levels?.tenant
    const own = forTenant(policy, tenant)
    return { service: found, policy: candidate ? own : amounts.policyFor(found, own, consumer, tenant) }
  }

  /** Adds a configuration that workers may ask about from now on. */
  function know(snapshot: Snapshot): void {
    snapshots.delete(snapshot.fingerprint)
    snapshots.set(snapshot.fingerprint, snapshot)
    for (const oldest of snapshots.keys()) {
      if (snapshots.size <= KEPT) break
      snapshots.delete(oldest)
    }
  }

  return {
    know,
    /** Keeps the configuration that workers start with from now on, whatever comes after. */
    startWith(snapshot: Snapshot): void {
      first = snapshot
      know(snapshot)
    },
    take: (takes: readonly Take[], { limiter, amounts }: Counting): Promise<readonly Decision[]> =>
      Promise.all(
        takes.map((take) => {
          const { service, policy } = find(take, amounts)
          return limiter.take(service, policy, take.consumer, take.cost, take.levels, take.shows)
        }),
      ),
    async settle(settle: Settle, { limiter, amounts }: Counting): Promise<number> {
      const { consumer, levels, cost, decidedBy, at, slotAt, quota, slot } = settle
      const charge = { ...find(settle, amounts), consumer, levels, cost, decidedBy, at, slotAt }
      await limiter.settle(charge, quota, slot)
      return charge.slotAt
    },
  }
}

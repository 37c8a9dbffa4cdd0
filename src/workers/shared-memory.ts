import type { Config } from '../config/schema/schema.js'
import type { Policy } from '../config/snapshot/policy.js'
import type { Service, Snapshot } from '../config/snapshot/snapshot.js'
import { createMemoryAuditStream } from '../fleet/audit-stream.js'
import type { LastUsed } from '../fleet/last-used.js'
import { createStore, type Store } from '../fleet/open-store.js'
import { decideDegraded } from '../limiter/degraded.js'
import { countersThatFit } from '../limiter/heap-room.js'
import type { Charge, Levels, Limiter, Slot, Taking } from '../limiter/limiter.js'
import { createLocal } from '../limiter/local.js'
import { deliver, promised } from '../limiter/taking.js'
import { type Log, throttledWarning } from '../log-throttle.js'
import type { Channel } from './channel.js'
import type { CountSubject, OfPrimary, Take } from './messages.js'
import type { FollowedMaps } from './shared-maps.js'

/** A store without Redis, in a worker: the counts are in the primary, which decides for all. */
export interface SharedMemory extends Store {
  /** Adds a snapshot that may be asked about from now on. */
  know(snapshot: Snapshot): void
}

export interface SharedMemoryOptions {
  readonly primary: Channel<Pick<OfPrimary, 'take' | 'settle' | 'keysUsed'>>
  readonly maps: FollowedMaps
  /** Number of workers that share the counts, for `local`. */
  readonly workers: number
  readonly settings: Config['store']
  readonly log: Log
}

interface Asked {
  readonly take: Take
  readonly taking: Taking
}

/** Ms for which the store counts as lost after it did not respond. */
const LOST_MS = 1000
const SETTLE_MS = 1000
const TELL_MS = 1000

export function createSharedMemory(options: SharedMemoryOptions): SharedMemory {
  const { primary, maps, workers, settings, log } = options
  const hashes = new WeakMap<Service, string>()
  const local = createLocal(countersThatFit(settings.max_keys), () => workers)
  const warn = throttledWarning(log)
  let asked: Asked[] = []
  let lostAt = Number.NEGATIVE_INFINITY

  function whose(
    service: Service,
    policy: Policy,
    consumer: string,
    levels: Levels | undefined,
  ): CountSubject {
    const ofTier = policy.base ?? policy
    const isOf = (one: Policy | undefined) => one === ofTier || one?.alone === ofTier
    const tier = service.policies.findIndex((one) => isOf(one) || isOf(one?.candidate))
    const candidate = !isOf(service.policies[tier])
    return { config: hashes.get(service) ?? '', service: service.index, tier, candidate, consumer, levels }
  }

  /** Sends everything that came in one turn of the event loop as one message. */
  async function flush(): Promise<void> {
    const batch = asked
    asked = []
    try {
      const decisions = await primary.ask(
        'take',
        batch.map(({ take }) => take),
        settings.timeout,
      )
      for (const [i, { taking }] of batch.entries()) deliver(taking, decisions[i]!, warn)
    } catch (error) {
      lostAt = performance.now()
      warn({ error: (error as Error).message }, 'the primary, which counts for all workers, does not answer')
      for (const { taking } of batch) {
        const { service, policy, consumer, cost, levels } = taking
        deliver(taking, decideDegraded(local, 'timeout', service, policy, consumer, cost, levels), warn)
      }
    }
  }

  function decide(taking: Taking): undefined {
    const { service, policy, consumer, cost, levels, shows } = taking
    const take = { ...whose(service, policy, consumer, levels), cost, shows }
    if (asked.push({ take, taking }) === 1) setImmediate(flush)
  }

  const limiter: Limiter = {
    take: promised(decide),
    decide,
    async settle(charge: Charge, quota: number, slot: Slot) {
      if (charge.decidedBy === 'local') return local.settle(charge, quota, slot)
      const { service, policy, consumer, levels, cost, at, slotAt, decidedBy } = charge
      const of = whose(service, policy, consumer, levels)
      try {
        charge.slotAt = await primary.ask(
          'settle',
          { ...of, cost, at, slotAt, decidedBy, quota, slot },
          SETTLE_MS,
        )
      } catch {
        // A lost message does no harm: a slot expires by itself.
      }
    },
    preview: () => Promise.reject(new Error('only the primary can do this')),
    usage: () => Promise.reject(new Error('only the primary can do this')),
    reset: () => Promise.reject(new Error('only the primary can do this')),
    state: () => (performance.now() - lostAt < LOST_MS ? 'degraded' : 'up'),
    foreignKeys: () => 0,
    close: () => Promise.resolve(),
  }

  const lastUsed: LastUsed = {
    touch: async (ids, minute) => void (await primary.ask('keysUsed', { ids, minute }, TELL_MS)),
    read: () => Promise.reject(new Error('only the primary can do this')),
    forget: () => Promise.reject(new Error('only the primary can do this')),
  }

  return {
    // The primary has the admin API, and with it the changes of operators.
    ...createStore({ limiter, openMap: maps.open, lastUsed, audit: createMemoryAuditStream() }),
    know(snapshot) {
      for (const service of snapshot.services) hashes.set(service, snapshot.fingerprint)
    },
  }
}

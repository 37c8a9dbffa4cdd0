import { createRecent } from '../../limiter/generational-cache.js'
import type { RequestRecord } from '../record/record.js'

/** By which credential a consumer was known last, and what came with it. */
export interface Seen {
  readonly identified_by: NonNullable<RequestRecord['identifiedBy']>
  /** Name of the tier that the credential said; null: none. */
  readonly tier: string | null
  readonly tenant: string | null
  /** Unix ms. */
  readonly at: number
}

/** What a gateway keeps for support: where a tier comes with a credential, only a request has it. */
export interface LastSeen {
  /** Notes the credential of a request, before sources of tiers add to it. */
  saw(r: SeenRequest): void
  find(consumer: string): Seen | undefined
}

interface SeenRequest extends Pick<RequestRecord, 'consumer' | 'identifiedBy' | 'tenant' | 'snapshot'> {
  /** `performance.now()` at accept. */
  readonly started: number
  /** Index into the tiers of the snapshot. */
  readonly credentialTier: number | undefined
}

type Writable = { -readonly [K in keyof Seen]: Seen[K] }

/** Consumers that are remembered, at least. */
const CONSUMERS = 20_000

/** @param origin unix ms at which `performance.now()` was 0 */
export function createLastSeen(origin = performance.timeOrigin): LastSeen {
  const seen = createRecent<Writable>(CONSUMERS)
  return {
    saw({ consumer, identifiedBy, tenant = null, started, snapshot, credentialTier }) {
      // Nothing comes with an address.
      if (consumer === undefined || identifiedBy === undefined || identifiedBy === 'ip') return
      const tier = credentialTier === undefined ? null : snapshot.tiers[credentialTier]!
      const known = seen.get(consumer)
      if (known === undefined) {
        seen.set(consumer, { identified_by: identifiedBy, tier, tenant, at: origin + started })
        return
      }
      known.identified_by = identifiedBy
      known.tier = tier
      known.tenant = tenant
      known.at = origin + started
    },
    find: seen.get,
  }
}

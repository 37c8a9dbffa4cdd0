import { createRecent } from '../../limiter/generational-cache.js'
import type { RequestRecord } from '../record/record.js'

/** Credential that a consumer used last, with the data that it carried. */
export interface Seen {
  readonly identified_by: NonNullable<RequestRecord['identifiedBy']>
  /** Name of the tier in the credential; null: none. */
  readonly tier: string | null
  readonly tenant: string | null
  /** Unix ms. */
  readonly at: number
}

/** Remembers credentials for support: if a tier comes with a credential, only a request has it. */
export type LastSeen = ReturnType<typeof createLastSeen>

interface SeenRequest extends Pick<RequestRecord, 'consumer' | 'identifiedBy' | 'tenant' | 'snapshot'> {
  /** `performance.now()` at accept. */
  readonly started: number
  /** Index into the tiers of the snapshot. */
  readonly credentialTier: number | undefined
}

type Writable = { -readonly [K in keyof Seen]: Seen[K] }

/** Least number of consumers that are remembered. */
const CONSUMERS = 20_000

/**
 * Creates the memory of one process.
 *
 * @param origin Unix ms at which `performance.now()` was 0
 */
export function createLastSeen(origin = performance.timeOrigin) {
  const seen = createRecent<Writable>(CONSUMERS)
  return {
    /** Records the credential of a request, before tier sources add to it. */
    saw({ consumer, identifiedBy, tenant, started, snapshot, credentialTier }: SeenRequest): void {
      // An address carries no tier or tenant.
      if (consumer === undefined || identifiedBy === undefined || identifiedBy === 'ip') return
      const tier = credentialTier === undefined ? null : snapshot.tiers[credentialTier]!
      const at = origin + started
      const known = seen.get(consumer)
      if (known === undefined) {
        seen.set(consumer, { identified_by: identifiedBy, tier, tenant: tenant ?? null, at })
        return
      }
      known.identified_by = identifiedBy
      known.tier = tier
      known.tenant = tenant ?? null
      known.at = at
    },
    find: (consumer: string): Seen | undefined => seen.get(consumer),
  }
}

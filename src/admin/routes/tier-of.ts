import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { Standing } from '../../telemetry/decisions/standing.js'
import { isoOf } from './read-request.js'

/** Describes how a tier was found, with the details, in the words of the admin API. */
export function tierPart({ tiers }: Snapshot, standing: Standing): object {
  const { tier, from, stale, identifiedBy, seenAt, notes } = standing
  const byCredential = from === 'credential' && identifiedBy !== undefined
  return {
    tier: tiers[tier],
    tier_from: from,
    ...(byCredential && { identified_by: identifiedBy }),
    ...(seenAt !== undefined && { seen_at: isoOf(Math.round(seenAt)) }),
    ...(stale && { tier_stale: true }),
    ...(notes.length > 0 && { tier_notes: notes }),
  }
}

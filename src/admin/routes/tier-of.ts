import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { Standing } from '../../telemetry/decisions/standing.js'

/** How a tier was found, and what is to be known of that, in the words of the admin API. */
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

/** Unix ms for a program to read; null: no end. */
export function isoOf(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString()
}

/** For a refusal: the names to choose from. */
export function listed(names: readonly string[]): string {
  return names.join(', ')
}

import { secondOf } from '../../config/snapshot/limit.js'
import { CREDENTIAL_KINDS, credentialKind } from '../../config/values/credential-kinds.js'

const FROM: Readonly<Record<string, string>> = { assignment: 'assigned', query: 'given by --tier' }

/** Origin of a consumer's tier, in the words of the admin API. */
export interface TierPart {
  readonly tier: string
  readonly tier_from: string
  readonly tier_stale?: boolean
  readonly tier_notes?: readonly string[]
  readonly identified_by?: string
  /** When the credential was last seen, if the tier came from it. */
  readonly seen_at?: string
}

/** Describes the origin in words: `said by its token, last seen 2026-11-25T05:00:00Z`. */
export function tierText({ tier_from, tier_stale, identified_by, seen_at }: TierPart): string {
  const seen = seen_at === undefined ? '' : `, last seen ${secondOf(Date.parse(seen_at))}`
  return foundBy(tier_from, tier_stale, identified_by) + (tier_from === 'credential' ? seen : '')
}

/**
 * Describes `tier_from` of the admin API in words.
 *
 * @param identifiedBy kind of credential, if known. For a consumer without a request, only API keys are known.
 */
export function foundBy(tierFrom: string, stale = false, identifiedBy: string | null = null): string {
  if (tierFrom.startsWith('source:')) {
    const source = tierFrom.slice('source:'.length)
    return stale ? `as ${source} said last, longer ago than its ttl` : `as ${source} says`
  }
  const ofCredential = credentialKind(identifiedBy)?.tierFrom ?? CREDENTIAL_KINDS.api_key.tierFrom
  return tierFrom === 'credential' ? ofCredential : (FROM[tierFrom] ?? 'the default')
}

/** Formats an end: ` until 2026-11-25T05:00:00Z`; empty for null. */
export function untilText(iso: string | null | undefined): string {
  return iso === null || iso === undefined ? '' : ` until ${secondOf(Date.parse(iso))}`
}

/** Formats notes on a tier: ` (billing did not answer)`. */
export function notesText(notes: readonly string[] = []): string {
  return notes.length === 0 ? '' : ` (${notes.join('; ')})`
}

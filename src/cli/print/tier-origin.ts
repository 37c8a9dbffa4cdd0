import { secondOf } from '../../config/snapshot/limit.js'

const GIVEN_BY: Readonly<Record<string, string>> = {
  jwt: 'said by its token',
  signature: 'given by its signing key',
  header: 'said by its header',
  client_certificate: 'said by its certificate',
}

/** How the tier of a consumer was found, in the fields of the admin API. */
export interface TierPart {
  readonly tier: string
  readonly tier_from: string
  readonly tier_stale?: boolean
  readonly tier_notes?: readonly string[]
  readonly identified_by?: string
  /** When its credential was seen last, where that is what tells. */
  readonly seen_at?: string
}

/** The same in words: `said by its token, seen last 2026-11-25T05:00:00Z`. */
export function tierText({ tier_from, tier_stale, identified_by, seen_at }: TierPart): string {
  const seen = seen_at === undefined ? '' : `, seen last ${secondOf(Date.parse(seen_at))}`
  return foundBy(tier_from, tier_stale, identified_by) + (tier_from === 'credential' ? seen : '')
}

/**
 * How a tier was found, in words: `tier_from` of the admin API.
 *
 * @param identifiedBy where that is known; of a consumer without a request only API keys are
 */
export function foundBy(tierFrom: string, stale = false, identifiedBy: string | null = null): string {
  if (tierFrom.startsWith('source:')) {
    const source = tierFrom.slice('source:'.length)
    return stale ? `as ${source} said last, longer ago than its ttl` : `as ${source} says`
  }
  switch (tierFrom) {
    case 'assignment':
      return 'assigned'
    case 'credential':
      return GIVEN_BY[identifiedBy ?? ''] ?? 'given by its API key'
    case 'query':
      return 'as asked for'
    default:
      return 'the default'
  }
}

/** Of what ends by itself: ` until 2026-11-25T05:00:00Z`; null: nothing. */
export function untilText(iso: string | null | undefined): string {
  return iso === null || iso === undefined ? '' : ` until ${secondOf(Date.parse(iso))}`
}

/** What is to be known of a tier beside it: ` (billing did not answer)`. */
export function notesText(notes: readonly string[] = []): string {
  return notes.length === 0 ? '' : ` (${notes.join('; ')})`
}

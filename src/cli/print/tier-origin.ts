import { secondOf } from '../../config/snapshot/limit.js'

const GIVEN_BY: Readonly<Record<string, string>> = {
  jwt: 'said by its token',
  signature: 'given by its signing key',
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

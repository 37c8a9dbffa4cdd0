import { secondOf } from '../config/limit.js'

/** How a tier was found, in words: `tier_from` of the admin API. */
export function foundBy(tierFrom: string, stale = false): string {
  if (tierFrom.startsWith('source:')) {
    const source = tierFrom.slice('source:'.length)
    return stale ? `as ${source} said last, longer ago than its ttl` : `as ${source} says`
  }
  switch (tierFrom) {
    case 'assignment':
      return 'assigned'
    case 'credential':
      return 'given by its API key'
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

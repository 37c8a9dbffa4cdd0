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

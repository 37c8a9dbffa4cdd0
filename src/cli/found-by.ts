/** How a tier was found, in words: `tier_from` of the admin API. */
export function foundBy(tierFrom: string): string {
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

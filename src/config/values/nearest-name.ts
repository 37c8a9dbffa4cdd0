import { closest, distance } from 'fastest-levenshtein'

/** Returns the known word that was probably meant, if one is similar enough. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > 64) return undefined
  const best = closest(word.toLowerCase(), known)
  const edits = distance(word.toLowerCase(), best.toLowerCase())
  const within = known.find((name) => isWithin(word, name))
  if (within !== undefined && edits > 1) return within
  // Two swapped letters are two edits, which is allowed in short words, too. Of three letters, two edits leave one.
  if (best.length > 3) return edits <= Math.max(2, best.length / 3) ? best : undefined
  if (edits <= best.length - 2 || lettersOf(word) === lettersOf(best)) return best
  return edits <= 2 && word.toLowerCase().startsWith(best.slice(0, 2)) ? best : undefined
}

/**
 * Returns true if one name begins with the other, however its words are joined: `healthcheck` with `health`, `jwks`
 * with `jwks_url`.
 */
function isWithin(word: string, name: string): boolean {
  const [one, other] = [word, name].map((text) => text.toLowerCase().replace(/[_-]/g, ''))
  const [short, long] = one!.length < other!.length ? [one!, other!] : [other!, one!]
  return short.length >= 4 && long.startsWith(short)
}

function lettersOf(word: string): string {
  return [...word.toLowerCase()].sort().join('')
}

/** Describes what to do about an unknown word. */
export function suggest(word: string, known: readonly string[], what: string): string {
  const guess = nearest(word, known)
  if (guess !== undefined) return `did you mean "${guess}"?`
  if (known.length === 0) return `there are no ${what}`
  const shown = known.slice(0, 20).join(', ')
  return `the ${what} are ${shown}${known.length > 20 ? ', …' : ''}`
}

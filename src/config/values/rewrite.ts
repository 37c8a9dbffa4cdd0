/** What a route's `rewrite` says, compiled: pieces of the new path, one for each of its segments. */
export interface Rewrite {
  /**
   * A text as it is, the number of a segment of the path that was asked for, or with `rest` the segments from a number
   * on, which may be none.
   */
  readonly segments: readonly (string | number)[]
  /** Number of the first segment of what `*` stands for; -1 without one. */
  readonly rest: number
}

/**
 * @param path of the route
 * @param to with the route's own `:name` and `*` in it
 */
export function compileRewrite(path: string, to: string): Rewrite {
  const from = segmentsOf(path)
  const segments = segmentsOf(to)
  const wild = segments.at(-1) === '*'
  return {
    segments: (wild ? segments.slice(0, -1) : segments).map((segment) =>
      segment.startsWith(':') ? from.indexOf(segment) : segment,
    ),
    rest: wild ? from.indexOf('*') : -1,
  }
}

/** What a rewrite would need of the route's path and does not find there. */
export function missingIn(path: string, to: string): string | undefined {
  const from = segmentsOf(path)
  return segmentsOf(to).find(
    (segment) => (segment === '*' || segment.startsWith(':')) && !from.includes(segment),
  )
}

/** A parameter that the path has twice, so that nobody can say which is meant. */
export function repeatedIn(path: string, to: string): string | undefined {
  const from = segmentsOf(path)
  return segmentsOf(to).find(
    (segment) => segment.startsWith(':') && from.indexOf(segment) !== from.lastIndexOf(segment),
  )
}

function segmentsOf(path: string): readonly string[] {
  return path.slice(1).split('/')
}

/**
 * The path for the upstream. What it takes from a canonical path are whole segments, and the texts around them are
 * canonical, too: nothing in the result can become a separator or a dot segment that was none before.
 *
 * @param path canonical, of a request that the route has matched
 */
export function rewritten({ segments, rest }: Rewrite, path: string): string {
  const from = segmentsOf(path)
  let to = ''
  for (const segment of segments) to += `/${typeof segment === 'string' ? segment : from[segment]!}`
  if (rest < 0) return to
  // `/payments/*` has matched `/payments`: without a rest there is no slash in front of it either.
  for (let i = rest; i < from.length; i++) to += `/${from[i]!}`
  return to === '' ? '/' : to
}

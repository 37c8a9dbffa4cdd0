/** Compiled `rewrite` of a route: pieces of the new path, one for each of its segments. */
export interface Rewrite {
  /**
   * Each is a literal text, or the number of a segment of the requested path. With `rest`, the segments from a number
   * on follow, of which there may be none.
   */
  readonly segments: readonly (string | number)[]
  /** Number of the first segment that `*` stands for; -1 without `*`. */
  readonly rest: number
}

/**
 * Compiles a rewrite.
 *
 * @param path of the route
 * @param to new path, with the route's own `:name` and `*` in it
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

/** Returns a name that a rewrite uses and the route's path does not have. */
export function missingIn(path: string, to: string): string | undefined {
  const from = segmentsOf(path)
  return segmentsOf(to).find(
    (segment) => (segment === '*' || segment.startsWith(':')) && !from.includes(segment),
  )
}

/** Returns a parameter that occurs twice in the path, so that the rewrite is ambiguous. */
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
 * Returns the path for the upstream. It takes whole segments from a canonical path, and the texts around them are
 * canonical, too: nothing in the result can become a separator or a dot segment that was none before.
 *
 * @param path canonical, of a request that the route has matched
 */
export function rewritten({ segments, rest }: Rewrite, path: string): string {
  const from = segmentsOf(path)
  let to = ''
  for (const segment of segments) to += `/${typeof segment === 'string' ? segment : from[segment]!}`
  if (rest < 0) return to
  // `/payments/*` also matches `/payments`: without a rest, no slash is added.
  for (let i = rest; i < from.length; i++) to += `/${from[i]!}`
  return to === '' ? '/' : to
}

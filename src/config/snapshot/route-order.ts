import type { Route } from './snapshot.js'

/** Route under one of its hosts: one line in a table of routes. */
export interface RouteLine {
  readonly route: Route
  /** Host name; empty for any host. */
  readonly host: string
}

/**
 * Sorts the routes, the most specific first, as `config/snapshot/router.ts` prefers them. If a request matches two
 * lines, the upper one gets it.
 */
export function mostSpecificFirst(routes: readonly Route[]): readonly RouteLine[] {
  return routes
    .flatMap((route) => (route.hosts.length === 0 ? [''] : route.hosts).map((host) => ({ route, host })))
    .sort(
      (a, b) =>
        compareHosts(a.host, b.host) ||
        comparePaths(a.route.path, b.route.path) ||
        Number(a.route.methods.length === 0) - Number(b.route.methods.length === 0) ||
        a.route.index - b.route.index,
    )
}

/** Compares hosts: exact ones first, then `*.` with the longest suffix, then any. */
function compareHosts(a: string, b: string): number {
  const rank = (host: string) => (host === '' ? 2 : host.startsWith('*') ? 1 : 0)
  return rank(a) - rank(b) || (rank(a) === 1 ? b.length - a.length : 0) || compareText(a, b)
}

/** Compares paths by segment: a literal, a parameter, the end of the path, a wildcard. */
function comparePaths(a: string, b: string): number {
  const [left, right] = [segments(a), segments(b)]
  for (let i = 0; i <= Math.max(left.length, right.length); i++) {
    const difference = rankOf(left[i]) - rankOf(right[i])
    if (difference !== 0) return difference
    const [x = '', y = ''] = [left[i], right[i]]
    if (rankOf(x) === 0 && x !== y) return compareText(x, y)
  }
  return 0
}

function segments(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}

function rankOf(segment: string | undefined): number {
  if (segment === undefined) return 2
  return segment === '*' ? 3 : segment.startsWith(':') ? 1 : 0
}

/** Compares by code unit: the same on every machine, whatever its language. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

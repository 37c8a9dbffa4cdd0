import Router from 'find-my-way'
import { ROUTABLE_METHODS } from './kinds.js'

/** What decides which requests a route gets. */
export interface Pattern {
  readonly path: string
  readonly hosts: readonly string[]
  readonly methods: readonly string[]
}

/**
 * A path without what makes no difference to matching: names of parameters, and a slash at the end. Two routes of
 * one shape get the same requests.
 */
export function shapeOf(path: string): string {
  const shape = path
    .split('/')
    .map((segment) => (segment.startsWith(':') ? ':' : segment))
    .join('/')
  return shape.length > 1 && shape.endsWith('/') ? shape.slice(0, -1) : shape
}

/** How strongly a route claims a method on its own path: written out, HEAD that follows from GET, any. 0: not at all. */
function claim({ methods }: Pattern, method: string): 0 | 1 | 2 | 3 {
  if (methods.length === 0) return ROUTABLE_METHODS.includes(method) ? 1 : 0
  if (methods.includes(method)) return 3
  return method === 'HEAD' && methods.includes('GET') ? 2 : 0
}

/** `undefined`: no route has this path; an array: only these methods do. */
export type Match<R> = (method: string, host: string, path: string) => R | readonly string[] | undefined

type Finder<R> = (path: string) => R | undefined
/** By method. Methods that no route of the host names share one finder. */
type HostTable<R> = ReadonlyMap<string, Finder<R>>

/**
 * Builds the look-up from method, lower-case host without port and canonical path to route. Host: exact, then `*.` with the longest suffix, then any; path: segment by segment a
 * literal before a parameter before a wildcard; method: written out before any. What finds nothing at one step
 * falls back to the next.
 */
export function compileRouter<R extends Pattern>(routes: readonly R[]): Match<R> {
  const byHost = new Map<string, R[]>()
  for (const route of routes) {
    for (const host of route.hosts.length === 0 ? ['*'] : route.hosts) {
      const sharing = byHost.get(host)
      if (sharing === undefined) byHost.set(host, [route])
      else sharing.push(route)
    }
  }
  const exact = new Map<string, HostTable<R>>()
  const below = new Map<string, HostTable<R>>()
  for (const [host, sharing] of byHost) {
    if (host.startsWith('*')) below.set(host.slice(1), compileHost(sharing))
    else exact.set(host, compileHost(sharing))
  }
  // Longest first; the empty one, any host, comes last.
  const suffixLengths = [...new Set([...below.keys()].map((suffix) => suffix.length))].sort((a, b) => b - a)

  const tableAt = (step: number, host: string): HostTable<R> | undefined => {
    if (step < 0) return exact.get(host)
    const length = suffixLengths[step]!
    if (length === 0) return below.get('')
    return host.length > length ? below.get(host.slice(-length)) : undefined
  }

  return (method, host, path) => {
    if (path.charCodeAt(0) !== 0x2f) return undefined
    const key = routingKey(path)
    for (let step = -1; step < suffixLengths.length; step++) {
      const route = tableAt(step, host)?.get(method)?.(key)
      if (route !== undefined) return route
    }
    const allowed = new Set<string>()
    for (let step = -1; step < suffixLengths.length; step++) {
      const table = tableAt(step, host)
      if (table !== undefined) for (const name of methodsAt(table, key)) allowed.add(name)
    }
    return allowed.size === 0 ? undefined : [...allowed].sort()
  }
}

/**
 * find-my-way would decode what is escaped, and so see another path than the one that is forwarded; with no percent
 * sign in sight it takes the path as it is. A canonical path never holds a control character itself.
 */
function routingKey(path: string): string {
  return path.includes('%') ? path.replaceAll('%', '\u0001') : path
}

function compileHost<R extends Pattern>(routes: readonly R[]): HostTable<R> {
  const named = new Set(routes.flatMap(({ methods }) => methods))
  if (named.has('GET')) named.add('HEAD')
  const other = ROUTABLE_METHODS.find((method) => !named.has(method))
  const rest = other === undefined ? undefined : compileFinder(routes, other)
  const table = new Map<string, Finder<R>>()
  for (const method of ROUTABLE_METHODS) {
    const finder = named.has(method) ? compileFinder(routes, method) : rest
    if (finder !== undefined) table.set(method, finder)
  }
  return table
}

/** For one method; undefined when no route takes it. */
function compileFinder<R extends Pattern>(routes: readonly R[], method: string): Finder<R> | undefined {
  const best = new Map<string, { route: R; rank: number }>()
  const offer = (shape: string, route: R, rank: number) => {
    const held = best.get(shape)
    if (held === undefined || rank > held.rank) best.set(shape, { route, rank })
  }
  for (const route of routes) {
    const strength = claim(route, method)
    if (strength === 0) continue
    const shape = shapeOf(route.path)
    // `/payments/*` takes `/payments`, too, unless a route has that very path.
    offer(shape, route, 4 + strength)
    if (shape.endsWith('/*')) offer(shape.slice(0, -2) || '/', route, strength)
  }
  if (best.size === 0) return undefined
  const router = Router({
    ignoreTrailingSlash: true,
    caseSensitive: true,
    maxParamLength: Number.MAX_SAFE_INTEGER,
    querystringParser: () => ({}),
  })
  for (const [shape, { route }] of best) {
    // Parameters are not read: numbered names keep what the file says out of the code that the router generates.
    let count = 0
    const pattern = shape
      .split('/')
      .map((segment) => (segment === ':' ? `:p${count++}` : segment.replaceAll(':', '::')))
      .join('/')
    router.on('GET', routingKey(pattern), unused, route)
  }
  // find-my-way would take the end of `/` for an empty parameter.
  const root = best.get('/')?.route
  return (path) => (path.length === 1 ? root : (router.find('GET', path)?.store as R | undefined))
}

function unused(): void {}

function methodsAt<R>(table: HostTable<R>, key: string): readonly string[] {
  const answers = new Map<Finder<R>, boolean>()
  const allowed: string[] = []
  for (const [method, finder] of table) {
    let found = answers.get(finder)
    if (found === undefined) {
      found = finder(key) !== undefined
      answers.set(finder, found)
    }
    if (found) allowed.push(method)
  }
  return allowed
}

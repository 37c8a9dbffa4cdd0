import { getOrAdd } from '../../common/maps.js'
import { ROUTABLE_METHODS } from '../values/scalar-http.js'

/** Conditions that select the requests of a route. */
export interface Pattern {
  readonly path: string
  readonly hosts: readonly string[]
  readonly methods: readonly string[]
}

/**
 * Removes from a path what does not affect matching: parameter names, and a trailing slash. Two routes of one shape
 * match the same requests.
 */
export function shapeOf(path: string): string {
  const shape = path
    .split('/')
    .map((segment) => (segment.startsWith(':') ? ':' : segment))
    .join('/')
  return shape.length > 1 && shape.endsWith('/') ? shape.slice(0, -1) : shape
}

/** Finds a route. `undefined`: no route has this path. An array: only these methods match. */
export type Match<R> = (method: string, host: string, path: string) => R | readonly string[] | undefined

/**
 * Builds the lookup from method, lower-case host without port and canonical path to a route. Host: exact, then `*.`
 * with the longest suffix, then any. Path: for each segment a literal before a parameter before a wildcard. Method: a
 * named one before any. If one step finds nothing, the lookup falls back to the next.
 */
export function compileRouter<R extends Pattern>(routes: readonly R[]): Match<R> {
  const byHost = new Map<string, R[]>()
  for (const route of routes) {
    for (const host of route.hosts.length === 0 ? ['*'] : route.hosts) {
      getOrAdd(byHost, host, () => []).push(route)
    }
  }
  const exact = new Map<string, HostTable<R>>()
  const below = new Map<string, HostTable<R>>()
  for (const [host, sharing] of byHost) {
    if (host.startsWith('*')) below.set(host.slice(1), compileHost(sharing))
    else exact.set(host, compileHost(sharing))
  }
  // Longest first. The empty suffix, for any host, is last.
  const suffixLengths = [...new Set([...below.keys()].map((suffix) => suffix.length))].sort((a, b) => b - a)

  const tableAt = (step: number, host: string): HostTable<R> | undefined => {
    if (step < 0) return exact.get(host)
    const length = suffixLengths[step]!
    if (length === 0) return below.get('')
    return host.length > length ? below.get(host.slice(-length)) : undefined
  }

  return (method, host, path) => {
    if (path.charCodeAt(0) !== SLASH) return undefined
    for (let step = -1; step < suffixLengths.length; step++) {
      const route = tableAt(step, host)?.find(method, path)
      if (route !== undefined) return route
    }
    const allowed = new Set<string>()
    for (let step = -1; step < suffixLengths.length; step++) {
      const table = tableAt(step, host)
      if (table !== undefined) for (const name of table.methodsAt(path)) allowed.add(name)
    }
    return allowed.size === 0 ? undefined : [...allowed].sort()
  }
}

interface HostTable<R> {
  find(method: string, path: string): R | undefined
  methodsAt(path: string): readonly string[]
}

/**
 * Node in the tree of segments. A lookup does one map access per segment, so its time does not depend on the number of
 * routes. Nodes are small, because a configuration may have tens of thousands.
 */
interface Place<R> {
  literals: Map<string, Place<R>> | undefined
  parameter: Place<R> | undefined
  /** Routes for exactly this path. */
  own: Claims<R> | undefined
  /** Routes for everything below it: `/*`. */
  below: Claims<R> | undefined
}

/** Routes of a node by method. */
interface Claims<R> {
  any: R | undefined
  named: Map<string, R> | undefined
}

const SLASH = 0x2f
const ROUTABLE: ReadonlySet<string> = new Set(ROUTABLE_METHODS)

function compileHost<R extends Pattern>(routes: readonly R[]): HostTable<R> {
  const root = newPlace<R>()
  for (const route of routes) insert(root, route)
  const named = new Set(routes.flatMap(({ methods }) => methods))
  if (named.has('GET')) named.add('HEAD')
  const unnamed = ROUTABLE_METHODS.filter((method) => !named.has(method))

  // A trailing slash makes no difference. For `/`, the slash is a trailing one, too.
  const find = (method: string, path: string) =>
    search(root, method, path, 1, path.charCodeAt(path.length - 1) === SLASH ? path.length - 1 : path.length)
  return {
    find,
    methodsAt(path) {
      const allowed = [...named].filter((method) => find(method, path) !== undefined)
      // All methods that no route of the host names have the same result.
      if (unnamed.length > 0 && find(unnamed[0]!, path) !== undefined) allowed.push(...unnamed)
      return allowed
    },
  }
}

function newPlace<R>(): Place<R> {
  return { literals: undefined, parameter: undefined, own: undefined, below: undefined }
}

function insert<R extends Pattern>(root: Place<R>, route: R): void {
  let place = root
  for (const segment of shapeOf(route.path).split('/').slice(1)) {
    if (segment === '*') {
      place.below = withClaim(place.below, route)
      return
    }
    if (segment !== '') place = segment === ':' ? parameterOf(place) : literalOf(place, segment)
  }
  place.own = withClaim(place.own, route)
}

function parameterOf<R>(place: Place<R>): Place<R> {
  place.parameter ??= newPlace()
  return place.parameter
}

function literalOf<R>(place: Place<R>, segment: string): Place<R> {
  place.literals ??= new Map()
  return getOrAdd(place.literals, segment, newPlace<R>)
}

/** Adds a route. The first of two with the same claim wins. An explicit HEAD wins over one implied by GET. */
function withClaim<R extends Pattern>(claims: Claims<R> | undefined, route: R): Claims<R> {
  const { any, named } = claims ?? { any: undefined, named: undefined }
  if (route.methods.length === 0) return { any: any ?? route, named }
  const all = new Map(named)
  for (const method of route.methods) {
    const held = all.get(method)
    if (held === undefined || !held.methods.includes(method)) all.set(method, route)
  }
  if (route.methods.includes('GET') && !all.has('HEAD')) all.set('HEAD', route)
  return { any, named: all }
}

function claimed<R>({ any, named }: Claims<R>, method: string): R | undefined {
  return named?.get(method) ?? (any !== undefined && ROUTABLE.has(method) ? any : undefined)
}

/**
 * Finds the route for the segments from `at`, where one begins, up to `end`. It visits each node of the tree at most
 * once, so no path takes long.
 */
function search<R>(place: Place<R>, method: string, path: string, at: number, end: number): R | undefined {
  if (at >= end) {
    const own = place.own && claimed(place.own, method)
    if (own !== undefined) return own
  } else {
    const { literals, parameter } = place
    const slash = path.indexOf('/', at)
    const next = slash < 0 || slash > end ? end : slash
    if (literals !== undefined) {
      const literal = literals.get(path.slice(at, next))
      const found = literal && search(literal, method, path, next + 1, end)
      if (found !== undefined) return found
    }
    if (parameter !== undefined && next > at) {
      const found = search(parameter, method, path, next + 1, end)
      if (found !== undefined) return found
    }
  }
  return place.below && claimed(place.below, method)
}

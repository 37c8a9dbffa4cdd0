import type { Config } from '../schema/schema.js'
import type { ConsumerSource } from './consumers.js'
import { compileForward, type ForwardCheck } from './forward.js'

/** Compiled requirements of a route on its clients. */
export interface RouteAuth {
  /** True unless the file lists the kinds of credentials that the route takes. */
  readonly anyKind: boolean
  /** Sources that identify clients here, in the order of the file. */
  readonly sources: readonly ConsumerSource[]
  /** Scopes that a credential must all have. */
  readonly scopes: readonly string[]
  /** Service that decides on every request; undefined if there is none. */
  readonly forward: ForwardCheck | undefined
}

const ADDRESS: ConsumerSource = { kind: 'ip', headers: [] }

export function compileAuth(
  { auth }: Config['routes'][number],
  consumers: readonly ConsumerSource[],
): RouteAuth | undefined {
  if (auth === undefined) return undefined
  const { any_of: kinds, required, scopes, forward: settings } = auth
  const accepted = consumers.filter(
    ({ kind }) => kind !== 'ip' && (kinds === undefined || (kinds as readonly string[]).includes(kind)),
  )
  const forward = settings && (checkOf(settings.url, accepted) ?? compileForward(settings))
  const sources = accepted.map((source) =>
    source.kind === 'forward' && source.check === forward ? { ...source, always: true } : source,
  )
  // Where consumers are known by address only, the service alone decides.
  const byAddress = !required || (forward !== undefined && sources.length === 0)
  return {
    anyKind: kinds === undefined,
    sources: byAddress ? [...sources, ADDRESS] : sources,
    scopes,
    forward,
  }
}

/** Returns the check of a consumer source with this address: one call then serves both. */
function checkOf(url: string, sources: readonly ConsumerSource[]): ForwardCheck | undefined {
  const { origin, pathname, search } = new URL(url)
  for (const source of sources) {
    if (source.kind !== 'forward') continue
    const { upstream, path } = source.check
    if (upstream.origin === origin && path === pathname + search) return source.check
  }
  return undefined
}

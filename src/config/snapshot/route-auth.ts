import type { Config } from '../schema/schema.js'
import type { ConsumerSource } from './consumers.js'

/** Compiled requirements of a route on its clients. */
export interface RouteAuth {
  /** True unless the file lists the kinds of credentials that the route takes. */
  readonly anyKind: boolean
  /** Sources that identify clients here, in the order of the file. */
  readonly sources: readonly ConsumerSource[]
  /** Scopes that a credential must all have. */
  readonly scopes: readonly string[]
}

const ADDRESS: ConsumerSource = { kind: 'ip', headers: [] }

export function compileAuth(
  { auth }: Config['routes'][number],
  consumers: readonly ConsumerSource[],
): RouteAuth | undefined {
  if (auth === undefined) return undefined
  const { any_of: kinds, required, scopes } = auth
  const sources = consumers.filter(
    ({ kind }) => kind !== 'ip' && (kinds === undefined || (kinds as readonly string[]).includes(kind)),
  )
  return { anyKind: kinds === undefined, sources: required ? sources : [...sources, ADDRESS], scopes }
}

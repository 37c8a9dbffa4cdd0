import { headersOf } from '../values/credential-kinds.js'
import { suggest } from '../values/nearest-name.js'
import type { Config } from './schema.js'

/** Configuration during its checks: as much of it as could be read. */

export type DraftConfig = Draft<Config>
export type Path = readonly (string | number)[]
export type Report = (path: Path, message: string) => void
/** Names a place for a message at another one: `routes[0] on line 3`, with the file if it is in another. */
export type Locate = (path: Path, from: Path) => string
export type Draft<T> = T extends object ? { readonly [K in keyof T]?: Draft<T[K]> | undefined } : T

/** Returns a list of a draft, which may have holes. */
export function asList<T>(list: { readonly [index: number]: T } | undefined): readonly (T | undefined)[] {
  return Array.isArray(list) ? list : []
}

/** Returns the entries of a list that could be read, with their index. */
export function present<T>(list: { readonly [index: number]: T } | undefined): [number, NonNullable<T>][] {
  return [...asList(list).entries()].filter(
    (entry): entry is [number, NonNullable<T>] => entry[1] !== undefined,
  )
}

/** Returns the indices of entries that repeat an earlier one. */
export function repeated(list: Draft<readonly unknown[]> | undefined): number[] {
  const seen = new Set<unknown>()
  return present(list).flatMap(([i, item]) => (seen.size === seen.add(item).size ? [i] : []))
}

/** Reports texts that a list holds twice. */
export function reportTwice(
  list: Draft<readonly (string | undefined)[]> | undefined,
  path: Path,
  error: Report,
): void {
  for (const i of repeated(list)) error([...path, i], `"${list![i]}" is listed twice; remove one`)
}

export function named(list: Draft<readonly string[]> | undefined): string[] {
  return asList(list).filter((item): item is string => item !== undefined)
}

/** Returns the names of all headers from which a consumer is read, as far as they are known. */
export function identityHeaders({ consumers }: DraftConfig): ReadonlySet<string | undefined> {
  return new Set(asList(consumers).flatMap((source) => headersOf(source ?? {}).map(([name]) => name)))
}

/** Returns the names of the tiers, with holes for those that could not be read. */
export function tierNames(tiers: DraftConfig['tiers']): (string | undefined)[] {
  return asList(tiers).map((tier) => tier?.name)
}

export function knownTier(
  tiers: DraftConfig['tiers'],
  tier: string | undefined,
  path: Path,
  error: Report,
): void {
  // A tier that could not be read may be the one.
  if (
    tier === undefined ||
    tiers === undefined ||
    tierNames(tiers).includes(tier) ||
    tierNames(tiers).includes(undefined)
  )
    return
  error(path, `no tier is named "${tier}"; ${suggest(tier, named(tierNames(tiers)), 'tiers')}`)
}

import type { ReplicatedMap } from './replicated-map.js'

/** Reads a map from the store in pages, for operators: a process may not hold all of it. */

/** Conditions that select records. */
export interface MapSearch<V> {
  /** `next` of the search that this one continues. Default: it begins. */
  readonly cursor?: string | undefined
  /** Returns false for a stored text that need not be parsed. Default: all are. */
  readonly mayFit?: ((text: string) => boolean) | undefined
  readonly fits: (key: string, value: V) => boolean
  /** Number of values after which the search stops. The last page may bring some more. */
  readonly most: number
  /** Time after which the search stops, in ms. */
  readonly forMs: number
}

export interface MapFound<V> {
  /** In no particular order. A value may come again in the search that continues this one. */
  readonly found: (readonly [key: string, value: V])[]
  /** Where to go on; undefined if all is read. */
  readonly next: string | undefined
}

/** Searches a map in the store. Rejects when the store is unreachable. */
export async function searchMap<V>(
  map: Pick<ReplicatedMap<V>, 'page'>,
  { cursor, mayFit, fits, most, forMs }: MapSearch<V>,
): Promise<MapFound<V>> {
  const end = performance.now() + forMs
  // The store may tell a key twice, and if its shards move meanwhile the search begins anew.
  const found = new Map<string, V>()
  let next = cursor
  do {
    const page = await map.page(next, mayFit)
    for (const [key, value] of page.values) if (fits(key, value)) found.set(key, value)
    next = page.next
  } while (next !== undefined && found.size < most && performance.now() < end)
  return { found: [...found], next }
}

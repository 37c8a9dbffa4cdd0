import { COLUMNS } from './columns.js'

/** Labels of a group. `null`: not counted by this, or there is none. */
export interface Labels {
  readonly consumer: string | null
  readonly tenant: string | null
  readonly service: string | null
  readonly tier: string | null
  readonly route: string | null
}

/** The labels that come from the configuration. Groups share them. */
export type Place = Pick<Labels, 'service' | 'tier' | 'route'>

/** Group of an interval with its counts so far, one for each column. */
export interface Group {
  readonly index: number
  readonly labels: Labels
  readonly counts: readonly number[]
}

/** Groups in one page of counts. */
const PAGE = 1024

export type UsageTable = ReturnType<typeof createUsageTable>

/**
 * Creates the counts of one interval, by group. A group takes about 100 bytes and 8 for each column. Counts only grow, so
 * a group that is saved twice counts once.
 *
 * @param from start of the interval, in unix ms
 * @param filtered number of columns besides COLUMNS
 */
export function createUsageTable(from: number, filtered: number) {
  const width = COLUMNS.length + filtered
  const pages: Float64Array[] = []
  const places: Place[] = []
  const consumers: (string | null)[] = []
  const tenants: (string | null)[] = []
  let isChanged = new Uint8Array(PAGE)
  /** Groups that changed since they were last taken. */
  let changed: number[] = []

  function read(index: number): Group {
    const at = (index % PAGE) * width
    const { service, tier, route } = places[index]!
    return {
      index,
      labels: { consumer: consumers[index]!, tenant: tenants[index]!, service, tier, route },
      counts: [...pages[Math.floor(index / PAGE)]!.subarray(at, at + width)],
    }
  }

  function* groupsAt(indexes: readonly number[]): Generator<Group> {
    for (const index of indexes) yield read(index)
  }

  return {
    from,
    size: (): number => places.length,
    /** Adds a group, and returns its index. */
    add(place: Place, consumer: string | null, tenant: string | null): number {
      const index = places.push(place) - 1
      consumers.push(consumer)
      tenants.push(tenant)
      if (index % PAGE === 0) pages.push(new Float64Array(PAGE * width))
      if (index === isChanged.length) {
        const longer = new Uint8Array(index * 2)
        longer.set(isChanged)
        isChanged = longer
      }
      return index
    },
    /** Returns the page with the counts of a group, and marks the group as changed. They begin at `startOf`. */
    countsOf(index: number): Float64Array {
      if (isChanged[index] === 0) {
        isChanged[index] = 1
        changed.push(index)
      }
      return pages[Math.floor(index / PAGE)]!
    },
    tenantOf: (index: number): string | null => tenants[index]!,
    startOf: (index: number): number => (index % PAGE) * width,
    /** Returns the groups that changed since the last call. They are read as they are taken. */
    takeChanged(): Iterable<Group> {
      const taken = changed
      changed = []
      for (const index of taken) isChanged[index] = 0
      return groupsAt(taken)
    },
    /** Returns all groups, or those of a consumer or tenant. */
    *groups(id?: string): Generator<Group> {
      for (let index = 0; index < places.length; index++)
        if (id === undefined || consumers[index] === id || tenants[index] === id) yield read(index)
    },
  }
}

/** Decides whether a process holds all values of a map, or only those that were asked for lately. */
export type CopySize = ReturnType<typeof createCopySize>

/** Bounds of what a process holds. */
export interface CopyBounds {
  /** Maximum number of values that are held as a whole. */
  readonly most?: number
  /** Number of values from which on downwards all are held again. */
  readonly least?: number
}

export interface CopySizeOptions extends CopyBounds {
  /** Counts the values in the store. */
  readonly count: () => Promise<number>
  /** Number of shards that share the decision. */
  readonly shards?: number
  /** Clock in ms, monotonic. */
  readonly now?: () => number
}

const MOST_WHOLE = 500_000
const LEAST_RECENT = 400_000
/** Interval between two counts while not all values are held, in ms. */
const COUNT_EVERY = 300_000
/** Shortest interval between two counts of a whole map that seems too large, in ms. */
const COUNT_AT_MOST_EVERY = 1000

/** Creates the decision. All shards of a map share it. */
export function createCopySize(options: CopySizeOptions) {
  const { count, most = MOST_WHOLE, least = LEAST_RECENT, shards = 1 } = options
  const { now = () => performance.now() } = options
  let isWhole = true
  let countedAt = Number.NEGATIVE_INFINITY
  let counting: Promise<boolean> | undefined

  async function decide(): Promise<boolean> {
    const counted = await count()
    isWhole = counted <= (isWhole ? most : least)
    countedAt = now()
    return isWhole
  }

  return {
    /**
     * Returns true if all values are to be held. Counts those in the store if need be.
     *
     * @param held number of values that a shard holds, if these are all
     * @param loads true if all values of the shard are about to be loaded
     */
    isWhole(held: number, loads: boolean): boolean | Promise<boolean> {
      const age = now() - countedAt
      // Many shards that load at the same time share a count.
      const isDue = isWhole
        ? (loads || held * shards > most) && age >= COUNT_AT_MOST_EVERY
        : age >= COUNT_EVERY
      if (!isDue) return isWhole
      counting ??= decide().finally(() => {
        counting = undefined
      })
      return counting
    },
  }
}

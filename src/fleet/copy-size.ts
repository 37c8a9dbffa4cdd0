/** Decides whether a process holds all values of a map, or only those that were asked for lately. */
export type CopySize = ReturnType<typeof createCopySize>

export interface CopySizeOptions {
  /** Counts the values in the store. */
  readonly count: () => Promise<number>
  /** Maximum number of values that are held as a whole. */
  readonly most?: number
  /** Number of values from which on downwards all are held again. */
  readonly least?: number
  /** Clock in ms, monotonic. */
  readonly now?: () => number
}

const MOST_WHOLE = 500_000
const LEAST_RECENT = 400_000
/** Interval between two counts while not all values are held, in ms. */
const COUNT_EVERY = 60_000

/** Creates the decision. All shards of a map share it. */
export function createCopySize(options: CopySizeOptions) {
  const { count, most = MOST_WHOLE, least = LEAST_RECENT, now = () => performance.now() } = options
  let isWhole = true
  let countAgainAt = Number.NEGATIVE_INFINITY
  let counting: Promise<boolean> | undefined

  async function decide(): Promise<boolean> {
    const counted = await count()
    isWhole = counted <= (isWhole ? most : least)
    countAgainAt = now() + COUNT_EVERY
    return isWhole
  }

  return {
    /** Maximum number of keys that are held while not all are. */
    most,
    /**
     * Returns true if all values are to be held. Counts those in the store if need be.
     *
     * @param held number of values that are held, if these are all
     * @param loads true if all values are about to be loaded
     */
    isWhole(held: number, loads: boolean): boolean | Promise<boolean> {
      const counts = isWhole ? loads || held > most : now() >= countAgainAt
      if (!counts) return isWhole
      counting ??= decide().finally(() => {
        counting = undefined
      })
      return counting
    },
  }
}

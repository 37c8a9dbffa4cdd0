/** The limit algorithms by name: what the configuration, the keys of the counts and the Redis scripts know of each. */

interface AlgorithmTraits {
  /** Description in the schema. */
  readonly text: string
  /** Keys of a limit that have to be given, beside those of every limit. */
  readonly required: readonly ('window' | 'period')[]
  /** Further keys that may be given. */
  readonly optional: readonly ('burst' | 'time_zone' | 'lease')[]
  /** Says what to do about a window; set if the algorithm has none. */
  readonly noWindow?: string
  /** Begins the part of the Redis key that names the limit. A change of the algorithm thus starts new counts. */
  readonly keyPrefix: string
  /** Its letter in the arguments of the Redis scripts (`lua/algorithms.lua`). */
  readonly letter: string
}

const TRAITS = {
  sliding: {
    text: 'a window that slides, estimated from two counters',
    required: ['window'],
    optional: [],
    keyPrefix: '',
    letter: 's',
  },
  strict: {
    text: 'never above the amount in any window',
    required: ['window'],
    optional: [],
    keyPrefix: 'strict.',
    letter: 'x',
  },
  token_bucket: {
    text: 'a steady rate of amount per window, and a burst',
    required: ['window'],
    optional: ['burst'],
    keyPrefix: 'bucket.',
    letter: 'b',
  },
  fixed: {
    text: 'windows from multiples of their length',
    required: ['window'],
    optional: [],
    keyPrefix: 'fixed.',
    letter: 'f',
  },
  calendar: {
    text: 'by day or month in a time zone',
    required: ['period'],
    optional: ['time_zone'],
    noWindow: 'a calendar has no window; write period: day or period: month',
    keyPrefix: '',
    letter: 'k',
  },
  concurrency: {
    text: 'requests under way at once',
    required: [],
    optional: ['lease'],
    noWindow:
      'requests at once have no window; remove it, or give a lease: the time after which an unreturned slot lapses',
    keyPrefix: 'slots.',
    letter: 'c',
  },
} satisfies Record<string, AlgorithmTraits>

export type Algorithm = keyof typeof TRAITS

export const ALGORITHM_TRAITS: Readonly<Record<Algorithm, AlgorithmTraits>> = TRAITS

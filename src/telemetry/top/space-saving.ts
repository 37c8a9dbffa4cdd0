/**
 * Finds the most frequent keys in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi 2005, "Efficient
 * computation of frequent and top-k elements in data streams"), for weights that are whole numbers. With `size` counters
 * and a total of N, `count - error <= true count <= count` for every key that has a counter. A key without one has at
 * most the least count, which is at most N / size. So every key with more than N / size has a counter.
 */
export interface Summary {
  readonly size: number
  readonly counters: Map<string, Counter>
  /** The same counters in the order in which they were made. */
  readonly ring: Counter[]
  /** Sum of everything counted. */
  total: number
  /** No count is below it. */
  floor: number
  /** Place in `ring`: since the floor was found, no counter before it has that count. */
  hand: number
}

type Counter = { -readonly [K in keyof Entry]: Entry[K] }

/**
 * Creates a summary.
 *
 * @param size most counters, from 1
 */
export function createSummary(size: number): Summary {
  return { size, counters: new Map(), ring: [], total: 0, floor: 0, hand: 0 }
}

/** Removes all counts. */
export function clear(summary: Summary): void {
  summary.counters.clear()
  summary.ring.length = 0
  summary.total = 0
  summary.floor = 0
  summary.hand = 0
}

/**
 * Counts a key. A known key takes one step. A new one looks for a counter with the least count: one round of the ring
 * serves all that have it. Allocates only for the first `size` keys.
 *
 * @param weight integer from 1
 * @param label kept with the key; the latest one replaces others
 * @returns the counter if the key is new, so that the caller can set its start time; else undefined
 */
export function hit(
  summary: Summary,
  key: string,
  weight: number,
  label: string,
  since: number,
): { since: number } | undefined {
  summary.total += weight
  const { counters, ring } = summary
  const known = counters.get(key)
  if (known !== undefined) {
    known.label = label
    known.count += weight
    return undefined
  }
  if (ring.length < summary.size) {
    const counter: Counter = { key, count: weight, error: 0, label, since }
    ring.push(counter)
    counters.set(key, counter)
    return counter
  }
  const counter = leastOf(summary)
  counters.delete(counter.key)
  counter.key = key
  counter.error = counter.count
  counter.count += weight
  counter.label = label
  counter.since = since
  counters.set(key, counter)
  return counter
}

/** Returns a counter with the least count. */
function leastOf(summary: Summary): Counter {
  const { ring } = summary
  for (;;) {
    for (; summary.hand < ring.length; summary.hand++) {
      if (ring[summary.hand]!.count === summary.floor) return ring[summary.hand]!
    }
    summary.hand = 0
    summary.floor = leastCount(ring)
  }
}

function leastCount(counters: readonly Counter[]): number {
  let least = Number.POSITIVE_INFINITY
  for (const { count } of counters) if (count < least) least = count
  return least
}

/** A summary as data, the highest count first. */
export interface Sketch {
  readonly total: number
  /** Highest count that a key without an entry can have. */
  readonly floor: number
  readonly entries: readonly Entry[]
}

export interface Entry {
  readonly key: string
  /** The true count is between `count - error` and `count`. */
  readonly count: number
  readonly error: number
  readonly label: string
  readonly since: number
}

export function sketchOf({ size, ring, total }: Summary): Sketch {
  const entries = ring.map((counter) => ({ ...counter })).sort(byCount)
  return { total, floor: ring.length < size ? 0 : leastCount(ring), entries }
}

const byCount = (a: Entry, b: Entry) => b.count - a.count

/**
 * Merges sketches of different streams into one of all of them (Agarwal et al. 2012, "Mergeable summaries"). The
 * guarantees of each sketch hold for the result: bounds are added, and with sketches of `size` counters `floor <= N /
 * size`, where N is now the total of all. So every key with more than N / size of everything has an entry, wherever it
 * was counted.
 *
 * @param size most entries of the result
 */
export function merge(sketches: readonly Sketch[], size: number): Sketch {
  let total = 0
  let floors = 0
  const known = new Map<string, { key: string; above: number; sure: number; label: string; since: number }>()
  for (const { total: counted, floor, entries } of sketches) {
    total += counted
    floors += floor
    for (const { key, count, error, label, since } of entries) {
      const found = known.get(key)
      const above = count - floor
      if (found === undefined) known.set(key, { key, above, sure: count - error, label, since })
      else {
        found.above += above
        found.sure += count - error
        if (since < found.since) found.since = since
      }
    }
  }
  // A key that is not in a sketch may have been counted there up to its floor.
  const entries = Array.from(known.values(), ({ key, above, sure, label, since }) => {
    return { key, count: floors + above, error: floors + above - sure, label, since }
  })
  return cut({ total, floor: floors, entries: entries.sort(byCount) }, size)
}

/** Keeps the first `size` entries. The others are covered by the floor from now on. */
export function cut(sketch: Sketch, size: number): Sketch {
  const { total, entries } = sketch
  if (entries.length <= size) return sketch
  return { total, floor: Math.max(sketch.floor, entries[size]!.count), entries: entries.slice(0, size) }
}

/**
 * Finds the most frequent keys in bounded memory: Space-Saving with its stream summary (Metwally, Agrawal, El Abbadi
 * 2005, "Efficient computation of frequent and top-k elements in data streams"), for weights that are whole numbers.
 * With `size` counters and a total of N, `count - error <= true count <= count` for every key that has a counter. A key
 * without one has at most `floor`, the least count. `floor <= N / size`, so every key with more than N / size has a
 * counter.
 */
export interface Summary {
  readonly size: number
  readonly counters: Map<string, Counter>
  /** Sum of everything counted. */
  total: number
  /** Counters with equal counts share a bucket; the buckets are in a list, ascending by count. */
  least: Bucket | undefined
  spare: Bucket | undefined
}

interface Counter {
  key: string
  error: number
  /** Label of the latest hit. */
  label: string
  since: number
  bucket: Bucket
  before: Counter | undefined
  after: Counter | undefined
}

interface Bucket {
  count: number
  first: Counter | undefined
  below: Bucket | undefined
  above: Bucket | undefined
}

/**
 * Creates a summary.
 *
 * @param size most counters, from 1
 */
export function createSummary(size: number): Summary {
  return { size, counters: new Map(), total: 0, least: undefined, spare: undefined }
}

/** Removes all counts. */
export function clear(summary: Summary): void {
  summary.counters.clear()
  summary.total = 0
  summary.least = undefined
  summary.spare = undefined
}

/**
 * Counts a key. O(1) for a weight of 1; at most `min(weight, size)` steps for another. Allocates only for the first
 * `size` keys.
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
  const { counters } = summary
  const known = counters.get(key)
  if (known !== undefined) {
    known.label = label
    raise(summary, known, known.bucket.count + weight)
    return undefined
  }
  if (counters.size < summary.size) {
    const bucket = bucketAbove(summary, undefined, 0)
    const counter: Counter = { key, error: 0, label, since, bucket, before: undefined, after: undefined }
    bucket.first = counter
    counters.set(key, counter)
    raise(summary, counter, weight)
    return counter
  }
  const { count, first } = summary.least!
  const counter = first!
  counters.delete(counter.key)
  counter.key = key
  counter.error = count
  counter.label = label
  counter.since = since
  counters.set(key, counter)
  raise(summary, counter, count + weight)
  return counter
}

/** Moves a counter up to the bucket of `count`. */
function raise(summary: Summary, counter: Counter, count: number): void {
  const from = counter.bucket
  const alone = counter.before === undefined && counter.after === undefined
  let at = from
  while (at.above !== undefined && at.above.count <= count) at = at.above
  if (alone && at === from) {
    from.count = count
    return
  }
  if (counter.before === undefined) from.first = counter.after
  else counter.before.after = counter.after
  if (counter.after !== undefined) counter.after.before = counter.before
  const to = at.count === count ? at : bucketAbove(summary, at, count)
  counter.bucket = to
  counter.before = undefined
  counter.after = to.first
  if (to.first !== undefined) to.first.before = counter
  to.first = counter
  if (alone) drop(summary, from)
}

/** Adds an empty bucket to the list, above the given one or at its beginning. */
function bucketAbove(summary: Summary, below: Bucket | undefined, count: number): Bucket {
  const above = below === undefined ? summary.least : below.above
  let bucket = summary.spare
  if (bucket === undefined) bucket = { count, first: undefined, below, above }
  else {
    summary.spare = bucket.above
    bucket.count = count
    bucket.below = below
    bucket.above = above
  }
  if (below === undefined) summary.least = bucket
  else below.above = bucket
  if (above !== undefined) above.below = bucket
  return bucket
}

function drop(summary: Summary, bucket: Bucket): void {
  const { below, above } = bucket
  if (below === undefined) summary.least = above
  else below.above = above
  if (above !== undefined) above.below = below
  bucket.below = undefined
  bucket.first = undefined
  bucket.above = summary.spare
  summary.spare = bucket
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

export function sketchOf({ size, counters, total, least }: Summary): Sketch {
  const entries = Array.from(counters.values(), ({ key, error, label, since, bucket }) => {
    return { key, count: bucket.count, error, label, since }
  })
  entries.sort(byCount)
  return { total, floor: counters.size < size ? 0 : least!.count, entries }
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

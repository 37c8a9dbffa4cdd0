/**
 * Base-2 exponential histograms (OTel data model, "ExponentialHistogram"): at scale s, bucket i holds values above
 * 2^(i/2^s) up to 2^((i+1)/2^s). They begin with the finest scale. Two buckets become one whenever the range of the
 * values needs more than the 160 buckets that the SDKs have, too: values that differ a thousandfold still have an error
 * of at most 5 %. A histogram is a row of an array that many share. In a row of zeros, nothing has been recorded.
 */
export const ROW = 164

const COARSER = 0
const LEAST = 1
const SPAN = 2
const ZEROS = 3
const COUNTS = 4
const BUCKETS = ROW - COUNTS
/** The finest scale. */
const MAX_SCALE = 20
/**
 * Zero threshold in seconds. Smaller values count as zero: a rounding error of a clock would make all buckets coarse.
 */
export const ZERO_THRESHOLD = 1e-6
const MOST = 2 ** 30

/** A separate histogram: `counts[i]` is bucket `offset + i`. */
export interface Exponential {
  readonly scale: number
  readonly zeros: number
  readonly offset: number
  readonly counts: readonly number[]
}

/** Adds one value, in seconds, to the row that begins at `at`. */
export function recordExponential(rows: Float64Array, at: number, value: number): void {
  if (!(value > ZERO_THRESHOLD)) {
    rows[at + ZEROS]! += 1
    return
  }
  const scale = MAX_SCALE - rows[at + COARSER]!
  addTo(rows, at, Math.ceil(Math.log2(Math.min(value, MOST)) * 2 ** scale) - 1, 1)
}

/** Adds `count` to a bucket; its index is at the scale that the row has before. */
function addTo(rows: Float64Array, at: number, bucket: number, count: number): void {
  const span = rows[at + SPAN]!
  let index = bucket
  if (span === 0) {
    rows[at + LEAST] = index
    rows[at + SPAN] = 1
  } else {
    let low = Math.min(rows[at + LEAST]!, index)
    let high = Math.max(rows[at + LEAST]! + span - 1, index)
    if (high - low >= BUCKETS) {
      let by = 0
      for (; high - low >= BUCKETS; by++) {
        low >>= 1
        high >>= 1
      }
      coarsen(rows, at, by)
      index >>= by
    }
    rows[at + LEAST] = low
    rows[at + SPAN] = high - low + 1
  }
  rows[at + COUNTS + placeOf(index)]! += count
}

/** Returns the place of a bucket, which stays the same however the range grows. */
function placeOf(index: number): number {
  const place = index % BUCKETS
  return place < 0 ? place + BUCKETS : place
}

const scratch = new Float64Array(BUCKETS)

/** Merges 2^by buckets into one. */
function coarsen(rows: Float64Array, at: number, by: number): void {
  const least = rows[at + LEAST]!
  const span = rows[at + SPAN]!
  rows[at + COARSER]! += by
  if (span === 0) return
  for (let i = 0; i < span; i++) scratch[i] = rows[at + COUNTS + placeOf(least + i)]!
  rows.fill(0, at + COUNTS, at + ROW)
  for (let i = 0; i < span; i++) rows[at + COUNTS + placeOf((least + i) >> by)]! += scratch[i]!
  rows[at + LEAST] = least >> by
  rows[at + SPAN] = ((least + span - 1) >> by) - (least >> by) + 1
}

/** Adds another histogram to a row: the sum has the coarser of the two scales. */
export function mergeExponential(rows: Float64Array, at: number, other: Exponential): void {
  rows[at + ZEROS]! += other.zeros
  if (other.counts.length === 0) return
  const coarser = MAX_SCALE - other.scale
  if (coarser > rows[at + COARSER]!) coarsen(rows, at, coarser - rows[at + COARSER]!)
  for (let i = 0; i < other.counts.length; i++) {
    // Adding a bucket may make the row coarser.
    const by = rows[at + COARSER]! - coarser
    if (other.counts[i] !== 0) addTo(rows, at, (other.offset + i) >> by, other.counts[i]!)
  }
}

export function readExponential(rows: Float64Array, at: number): Exponential {
  const offset = rows[at + LEAST]!
  const counts = Array.from({ length: rows[at + SPAN]! }, (_, i) => rows[at + COUNTS + placeOf(offset + i)]!)
  return { scale: MAX_SCALE - rows[at + COARSER]!, zeros: rows[at + ZEROS]!, offset, counts }
}

import type { TraceContext } from '../record/trace-context.js'
import { createExemplars, type Exemplar } from './exemplars.js'
import { type Exponential, mergeExponential, ROW, readExponential, recordExponential } from './exponential.js'
import type { readOnce } from './metric-sources.js'

/**
 * A metric under both of its names. OTLP sends `otlp` with `unit`, from which Prometheus' own OTLP receiver makes the
 * name that `/metrics` serves directly. Both are written out.
 */
export interface Definition {
  readonly otlp: string
  readonly prometheus: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  /** UCUM, as OTel's semantic conventions write it: `s`, `{request}`, or empty. */
  readonly unit: string
  readonly help: string
  /** OTel attribute names; Prometheus shows them with `_` for `.`. */
  readonly labels: readonly string[]
  /** Upper bounds of a histogram's buckets in ms, ascending; larger values go into one more bucket. */
  readonly boundsMs?: Float64Array
  /**
   * How the values of several workers are merged: summed unless this says otherwise. `primary`: only the process that
   * supervises the workers counts it.
   */
  readonly across?: 'sum' | 'max' | 'min' | 'primary'
  /** Reads the values, if they are read each time that somebody asks for the metrics. */
  readonly read?: (
    readingOf: ReturnType<typeof readOnce>,
    set: (value: number, ...labels: readonly LabelValue[]) => void,
  ) => void
  /** True if series that are not read again are gone. Default: true for a gauge. */
  readonly anew?: boolean
}

export type LabelValue = string | number

/** Index of the first figure of a series in its family. */
export type Cell = number

/** The series of a metric at one moment. */
export interface View {
  readonly definition: Definition
  readonly size: number
  /** Figures per series: its value, or a histogram's bucket counts followed by the sum in ms. */
  readonly width: number
  /** Figures of all series, in series order. */
  readonly figures: Float64Array
  /** Label values of all series, in series order. */
  readonly labels: readonly LabelValue[]
  /** Only for a histogram that is also recorded as an exponential one. */
  readonly exponential?: ((series: number) => Exponential) | undefined
  /** Returns the exemplar of a histogram's bucket, by its place in the figures. */
  readonly exemplar: (bucket: number) => Exemplar | undefined
}

/**
 * One metric and its series. All figures of a family are in one array and all label values in another: with 10,000
 * routes, an array, a map entry and an object for each series took most of the memory. Series live as long as the
 * process: the same labels have the same cell after a reload, and their order does not change.
 */
export type Family = ReturnType<typeof createFamily>

/** Series that the first arrays have room for. */
const ROOM = 4
const FREE = -1

/**
 * Creates a family.
 *
 * @param withExponential true if a histogram is also recorded as an exponential one
 */
export function createFamily(definition: Definition, withExponential = false) {
  const { boundsMs } = definition
  const width = boundsMs === undefined ? 1 : boundsMs.length + 2
  const perSeries = definition.labels.length
  let size = 0
  let figures = new Float64Array(ROOM * width)
  let labels: LabelValue[] = []
  let rows = withExponential && boundsMs !== undefined ? new Float64Array(ROOM * ROW) : undefined
  const exemplars = createExemplars()
  /** Index of series by labels: a hash table with open addressing, at most two thirds full. */
  let index = new Int32Array(2 * ROOM).fill(FREE)

  function slotOf(values: readonly LabelValue[], from = 0): number {
    const mask = index.length - 1
    let slot = hashOf(values, from, perSeries) & mask
    for (; index[slot] !== FREE; slot = (slot + 1) & mask) {
      const known = index[slot]! * perSeries
      let i = 0
      while (i < perSeries && labels[known + i] === values[from + i]) i++
      if (i === perSeries) break
    }
    return slot
  }

  function makeRoom(): void {
    if ((size + 1) * width > figures.length) figures = longer(figures)
    if (rows !== undefined && (size + 1) * ROW > rows.length) rows = longer(rows)
    if (3 * (size + 1) <= 2 * index.length) return
    index = new Int32Array(2 * index.length).fill(FREE)
    for (let series = 0; series < size; series++) index[slotOf(labels, series * perSeries)] = series
  }

  function cell(...values: readonly LabelValue[]): Cell {
    const found = index[slotOf(values)]!
    if (found !== FREE) return found * width
    makeRoom()
    index[slotOf(values)] = size
    for (let i = 0; i < perSeries; i++) labels.push(values[i]!)
    return size++ * width
  }

  return {
    definition,
    /** Returns the cell of these label values; creates it on first use. */
    cell,
    add(at: Cell, amount: number): void {
      figures[at]! += amount
    },
    /**
     * Adds one measurement, in ms, to a histogram's cell. A value that is not a number ≥ 0 counts as 0: NaN would stay in
     * the sum for ever. With a recorded trace, the measurement becomes the exemplar of its bucket.
     */
    observe(at: Cell, ms: number, trace?: TraceContext): void {
      const bounds = boundsMs!
      const value = Number.isNaN(ms) ? 0 : Math.max(ms, 0)
      const last = bounds.length
      let i = 0
      while (i < last && value > bounds[i]!) i++
      figures[at + i]! += 1
      figures[at + last + 1]! += value
      if (rows !== undefined) recordExponential(rows, (at / width) * ROW, value / 1000)
      if (trace?.sampled) {
        const now = Date.now()
        if (exemplars.due(at + i, now)) {
          exemplars.note(at + i, { traceId: trace.traceId, spanId: trace.spanId, ms: value, at: now })
        }
      }
    },
    /** Sets a value that is read again each time. */
    set(value: number, ...values: readonly LabelValue[]): void {
      const at = cell(...values)
      figures[at] = value
    },
    /** Returns the first figure of a series, if it exists. */
    get(...values: readonly LabelValue[]): number | undefined {
      const found = index[slotOf(values)]!
      return found === FREE ? undefined : figures[found * width]
    },
    /** Adds what another process has recorded for the same series. */
    merge(at: Cell, more: ArrayLike<number>, exponential: Exponential | undefined): void {
      for (let i = 0; i < width; i++) figures[at + i]! += more[i] ?? 0
      if (rows !== undefined && exponential !== undefined) {
        mergeExponential(rows, (at / width) * ROW, exponential)
      }
    },
    exemplars,
    view(): View {
      const kept = rows?.slice(0, size * ROW)
      return {
        definition,
        size,
        width,
        figures: figures.slice(0, size * width),
        // Only appended to: clear() begins a new one.
        labels,
        exponential: kept && ((series) => readExponential(kept, series * ROW)),
        exemplar: exemplars.of,
      }
    },
    /** Resets all figures to 0; the series stay. */
    zero(): void {
      figures.fill(0)
      rows?.fill(0)
    },
    /** Removes all series: for gauges that are read again each time. */
    clear(): void {
      size = 0
      figures.fill(0)
      rows?.fill(0)
      labels = []
      index.fill(FREE)
    },
  }
}

function longer(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const next = new Float64Array(Math.ceil(array.length * 1.5))
  next.set(array)
  return next
}

/** Returns the FNV-1a hash of `count` values, with a step between them. */
function hashOf(values: readonly LabelValue[], from: number, count: number): number {
  let hash = 0x811c9dc5
  for (let k = from; k < from + count; k++) {
    const text = String(values[k])
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
    hash = Math.imul(hash ^ 0xff, 0x01000193)
  }
  return hash ^ (hash >>> 15)
}

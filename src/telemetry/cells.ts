import type { Attributes } from '@opentelemetry/api'

/**
 * A metric as it leaves by both doors. OTLP sends `otlp` with `unit`, from which Prometheus' own OTLP receiver makes
 * the name that `/metrics` serves directly; the SDK's Prometheus serializer adds no unit to a name, so both are written down.
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
  /** Upper bounds of a histogram's buckets in ms, ascending; what lies above goes to one more bucket. */
  readonly boundsMs?: Float64Array
  /**
   * How the figures of several workers become one: added up unless this says otherwise. `primary`: only the process that
   * looks after them counts it.
   */
  readonly across?: 'sum' | 'max' | 'min' | 'primary'
}

/** A counter's value, or a histogram's bucket counts followed by the sum in ms. */
export type Cell = Float64Array

export interface Point {
  readonly attributes: Attributes
  readonly cell: Cell
}

/** One metric and its series. Cells live as long as the process: the same labels are the same cell after a reload. */
export interface Family {
  readonly definition: Definition
  readonly points: ReadonlyMap<string, Point>
  /** The cell of these label values, made when it is asked for first. */
  cell(...values: readonly (string | number)[]): Cell
  /** Forgets all series: for gauges that are read anew each time. */
  clear(): void
}

export function createFamily(definition: Definition): Family {
  const points = new Map<string, Point>()
  const size = definition.boundsMs === undefined ? 1 : definition.boundsMs.length + 2
  return {
    definition,
    points,
    cell(...values) {
      const key = JSON.stringify(values)
      const known = points.get(key)
      if (known !== undefined) return known.cell
      const attributes: Attributes = {}
      definition.labels.forEach((label, i) => {
        attributes[label] = values[i] ?? ''
      })
      const cell = new Float64Array(size)
      points.set(key, { attributes, cell })
      return cell
    },
    clear: () => points.clear(),
  }
}

/** Adds one measurement, in ms, to a histogram's cell. What is not a number ≥ 0 counts as 0: NaN would stay in the sum for ever. */
export function observe(cell: Cell, boundsMs: Float64Array, ms: number): void {
  const value = Number.isNaN(ms) ? 0 : Math.max(ms, 0)
  const last = boundsMs.length
  let i = 0
  while (i < last && value > boundsMs[i]!) i++
  cell[i]! += 1
  cell[last + 1]! += value
}

import type { View } from './cells.js'
import { type Exponential, sinceExponential } from './exponential.js'

/**
 * For a collector that wants what came since the last push instead of totals. What could not be pushed is in the next
 * one: only a push that has arrived moves the point from which it is counted.
 */
export interface Deltas {
  since(views: readonly View[]): View[]
  /** The views that `since` was given last have arrived. */
  arrived(): void
}

interface Earlier {
  readonly figures: Float64Array
  readonly exponential: Exponential | undefined
}

export function createDeltas(): Deltas {
  let earlier: ReadonlyMap<string, Earlier> = new Map()
  let latest = earlier
  return {
    since(views) {
      const now = new Map<string, Earlier>()
      latest = now
      return views.map((view) => (view.definition.kind === 'gauge' ? view : since(view, earlier, now)))
    },
    arrived() {
      earlier = latest
    },
  }
}

function since(view: View, earlier: ReadonlyMap<string, Earlier>, now: Map<string, Earlier>): View {
  const { definition, size, width, labels } = view
  const perSeries = definition.labels.length
  const figures = view.figures.slice()
  const before: (Exponential | undefined)[] = []
  for (let series = 0; series < size; series++) {
    const key = JSON.stringify([
      definition.otlp,
      ...labels.slice(series * perSeries, (series + 1) * perSeries),
    ])
    const at = series * width
    now.set(key, { figures: view.figures.slice(at, at + width), exponential: view.exponential?.(series) })
    const known = earlier.get(key)
    before.push(known?.exponential)
    // A worker that crashed may have taken along what it had not told: a total is never less than it was, but for that.
    if (known !== undefined) {
      for (let i = 0; i < width; i++) figures[at + i] = Math.max(0, figures[at + i]! - known.figures[i]!)
    }
  }
  const { exponential } = view
  return {
    ...view,
    figures,
    exponential:
      exponential &&
      ((series) => {
        const known = before[series]
        return known === undefined ? exponential(series) : sinceExponential(exponential(series), known)
      }),
  }
}

import type { Definition } from '../telemetry/cells.js'
import type { Families } from '../telemetry/families.js'
import type { ProcessReading, ProcessValue, Reading } from '../telemetry/reading.js'

/** The latest that a worker has told of what it counted. */
export interface WorkerReading {
  /** Which place among the workers it has: the label `worker`. */
  readonly place: number
  readonly reading: Reading
}

/** The figures of all workers as those of one gateway. */
export interface Totals {
  /** A worker is gone: what it counted stays counted. */
  retire(of: WorkerReading): void
  /** Brings the families up to date with the workers that live, the newest of a place last. */
  show(live: readonly WorkerReading[]): void
  /** The processes' own metrics, each sample with the place of its worker, in the Prometheus text form. */
  processes(live: readonly WorkerReading[], primary: readonly ProcessReading[]): string
}

/**
 * Counters and histograms are added up, and those of workers that are gone stay in: none ever goes down. A gauge is the
 * sum, the least or the greatest, as its definition says.
 */
export function createTotals(families: Families): Totals {
  const byName = new Map(Object.values(families).map((family) => [family.definition.prometheus, family]))
  const retired = new Map<string, Map<string, number[]>>()
  const retiredOfProcesses = new Map<string, number>()

  const accumulates = ({ kind, across }: Definition) => kind !== 'gauge' && across !== 'primary'

  function add(to: Float64Array | number[], cell: readonly number[]): void {
    for (let i = 0; i < to.length; i++) to[i]! += cell[i] ?? 0
  }

  return {
    retire({ place, reading }) {
      for (const { name, points } of reading.families) {
        const family = byName.get(name)
        if (family === undefined || !accumulates(family.definition)) continue
        const kept = retired.get(name) ?? new Map<string, number[]>()
        retired.set(name, kept)
        for (const [labels, cell] of points) {
          const known = kept.get(labels)
          if (known === undefined) kept.set(labels, [...cell])
          else add(known, cell)
        }
      }
      for (const { name, type, values } of reading.process) {
        if (type === 'gauge') continue
        for (const value of values) {
          const key = sampleOf(name, value, place)
          retiredOfProcesses.set(key, (retiredOfProcesses.get(key) ?? 0) + value.value)
        }
      }
    },
    show(live) {
      for (const family of byName.values()) {
        const { definition } = family
        if (definition.across === 'primary') continue
        // Cells stay where they can: what is written of a series is remembered by it.
        if (definition.kind === 'gauge') family.clear()
        else for (const { cell } of family.points.values()) cell.fill(0)
        for (const [labels, cell] of retired.get(definition.prometheus) ?? []) {
          add(family.cell(...(JSON.parse(labels) as string[])), cell)
        }
      }
      const seen = new Set<Float64Array>()
      for (const { reading } of live) {
        for (const { name, points } of reading.families) {
          const family = byName.get(name)
          const across = family?.definition.across ?? 'sum'
          if (family === undefined || across === 'primary') continue
          for (const [labels, values] of points) {
            const cell = family.cell(...(JSON.parse(labels) as string[]))
            if (across === 'sum' || !seen.has(cell)) add(cell, values)
            else cell[0] = Math[across](cell[0]!, values[0]!)
            seen.add(cell)
          }
        }
      }
    },
    processes(live, primary) {
      const metrics = new Map<string, { help: string; type: string; samples: Map<string, number> }>()
      const put = (readings: readonly ProcessReading[], place: number | 'primary') => {
        for (const { name, help, type, values } of readings) {
          const metric = metrics.get(name) ?? { help, type, samples: new Map<string, number>() }
          metrics.set(name, metric)
          for (const value of values) {
            const key = sampleOf(name, value, place)
            // While one worker takes over from another they share a place: of a gauge the newer one's is shown.
            const before =
              type === 'gauge' ? 0 : (metric.samples.get(key) ?? retiredOfProcesses.get(key) ?? 0)
            metric.samples.set(key, before + value.value)
          }
        }
      }
      put(primary, 'primary')
      for (const { place, reading } of live) put(reading.process, place)
      let text = ''
      for (const [name, { help, type, samples }] of metrics) {
        text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
        for (const [sample, value] of samples) text += `${sample} ${value}\n`
      }
      return text
    },
  }
}

/** `name{label="…",worker="1"}`. prom-client's labels are its own words, and need no escape. */
function sampleOf(name: string, { metricName, labels }: ProcessValue, place: number | 'primary'): string {
  const pairs = Object.entries({ ...labels, worker: place }).map(([label, value]) => `${label}="${value}"`)
  return `${metricName ?? name}{${pairs.join(',')}}`
}

import { sampleName } from '../telemetry/export/text-format.js'
import type { Families } from '../telemetry/metrics/metric-definitions.js'
import type { Cell, Definition, Family } from '../telemetry/metrics/metric-family.js'
import {
  type FamilyReading,
  type ProcessReading,
  type ProcessValue,
  type Reading,
  readFamilies,
} from '../telemetry/metrics/process-counts.js'

/** Counts that a worker reported last. */
export interface WorkerReading {
  /** Slot of the worker: the label `worker`. */
  readonly place: number
  readonly reading: Reading
}

/**
 * Merges the counts of all workers into those of one gateway. Counters and histograms are summed, including those of ended workers: none ever goes down. A
 * gauge is the sum, the minimum or the maximum, as its definition says.
 *
 * @param families families that are shown
 * @param retired families of the same kind, with the counts of ended workers
 */
export function createTotals(families: Families, retired: Families) {
  const byName = namesOf(families)
  const retiredByName = namesOf(retired)
  const retiredOfProcesses = new Map<string, number>()

  const accumulates = ({ kind, across }: Definition) => kind !== 'gauge' && across !== 'primary'

  return {
    /** Retires a worker that has ended: its counts stay included. */
    retire({ place, reading }: WorkerReading): void {
      for (const one of reading.families) {
        const family = retiredByName.get(one.name)
        if (family !== undefined && accumulates(family.definition)) addReading(family, one)
      }
      for (const { name, type, values } of reading.process) {
        if (type === 'gauge') continue
        for (const value of values) {
          const key = sampleName(name, ofWorker(value, place))
          retiredOfProcesses.set(key, (retiredOfProcesses.get(key) ?? 0) + value.value)
        }
      }
    },
    /** Updates the families from the live workers; of two workers in one slot, the newest comes last. */
    show(live: readonly WorkerReading[]): void {
      for (const { definition, zero, clear } of byName.values()) {
        if (definition.across === 'primary') continue
        if (definition.kind === 'gauge') clear()
        else zero()
      }
      const seen = new Map<Family, Set<Cell>>()
      const before = readFamilies(Object.values(retired))
      for (const readings of [before, ...live.map(({ reading }) => reading.families)]) {
        for (const one of readings) {
          const family = byName.get(one.name)
          if (family === undefined || family.definition.across === 'primary') continue
          const { across = 'sum' } = family.definition
          if (across === 'sum') {
            addReading(family, one)
            continue
          }
          const known = seen.get(family) ?? new Set()
          seen.set(family, known)
          takeExtreme(family, one, Math[across], known)
        }
      }
    },
    /** Returns the metrics of the processes, each sample with the slot of its worker. */
    processes(live: readonly WorkerReading[], primary: readonly ProcessReading[]): ProcessReading[] {
      const metrics = new Map<
        string,
        Omit<ProcessReading, 'values'> & { readonly values: Map<string, ProcessValue> }
      >()
      const put = (readings: readonly ProcessReading[], worker: number | 'primary') => {
        for (const { name, help, type, values } of readings) {
          const metric = metrics.get(name) ?? { name, help, type, values: new Map() }
          metrics.set(name, metric)
          for (const one of values) {
            const value = ofWorker(one, worker)
            const key = sampleName(name, value)
            // While one worker takes over from another they share a slot: for a gauge, the newer one's value is shown.
            const before =
              type === 'gauge' ? 0 : (metric.values.get(key)?.value ?? retiredOfProcesses.get(key) ?? 0)
            metric.values.set(key, { ...value, value: before + value.value })
          }
        }
      }
      put(primary, 'primary')
      for (const { place, reading } of live) put(reading.process, place)
      return Array.from(metrics.values(), (metric) => ({ ...metric, values: [...metric.values.values()] }))
    },
  }
}

function ofWorker(value: ProcessValue, worker: number | 'primary'): ProcessValue {
  return { ...value, labels: { ...value.labels, worker } }
}

function namesOf(families: Families): ReadonlyMap<string, Family> {
  return new Map(Object.values(families).map((family) => [family.definition.prometheus, family]))
}

function addReading(family: Family, { size, labels, figures, exponentials, exemplars }: FamilyReading): void {
  const width = figures.length / size
  const perSeries = labels.length / size
  const cells: Cell[] = []
  for (let i = 0; i < size; i++) {
    const cell = family.cell(...labels.slice(i * perSeries, (i + 1) * perSeries))
    family.merge(cell, figures.slice(i * width, (i + 1) * width), exponentials?.[i])
    cells.push(cell)
  }
  for (const [bucket, exemplar] of exemplars ?? []) {
    const at = cells[Math.floor(bucket / width)]! + (bucket % width)
    if ((family.exemplars.of(at)?.at ?? 0) < exemplar.at) family.exemplars.note(at, exemplar)
  }
}

function takeExtreme(
  family: Family,
  { size, labels, figures }: FamilyReading,
  extreme: (a: number, b: number) => number,
  seen: Set<Cell>,
): void {
  const perSeries = labels.length / size
  for (let i = 0; i < size; i++) {
    const values = labels.slice(i * perSeries, (i + 1) * perSeries)
    const cell = family.cell(...values)
    family.set(seen.has(cell) ? extreme(family.get(...values)!, figures[i]!) : figures[i]!, ...values)
    seen.add(cell)
  }
}

import type { Registry } from 'prom-client'
import type { Exemplar } from './exemplars.js'
import type { Exponential } from './exponential.js'
import type { Family, LabelValue } from './metric-family.js'

/** What one process has counted so far, as data that can be sent to another: JSON keeps it. */
export interface Reading {
  readonly families: readonly FamilyReading[]
  readonly process: readonly ProcessReading[]
}

export interface FamilyReading {
  /** The name in the Prometheus form. */
  readonly name: string
  readonly size: number
  /** Label values of all series, one after the other. */
  readonly labels: readonly LabelValue[]
  /** Figures of all series, one after the other. */
  readonly figures: readonly number[]
  /** By series, where histograms are recorded in this way, too. */
  readonly exponentials?: readonly Exponential[]
  /** By place in the figures. */
  readonly exemplars?: readonly (readonly [bucket: number, exemplar: Exemplar])[]
}

/** A metric of prom-client's, about the process itself. */
export interface ProcessReading {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly values: readonly ProcessValue[]
}

export interface ProcessValue {
  /** Of the sample, where it is not the metric's: `…_bucket`. */
  readonly metricName?: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

export function readFamilies(families: readonly Family[]): FamilyReading[] {
  const readings: FamilyReading[] = []
  for (const family of families) {
    const { definition, size, figures, labels, exponential } = family.view()
    if (size === 0) continue
    readings.push({
      name: definition.prometheus,
      size,
      labels,
      figures: Array.from(figures),
      ...(exponential && { exponentials: Array.from({ length: size }, (_, series) => exponential(series)) }),
      ...(family.exemplars.empty ? {} : { exemplars: [...family.exemplars.all()] }),
    })
  }
  return readings
}

export async function readProcess(registry: Registry): Promise<ProcessReading[]> {
  const metrics = (await registry.getMetricsAsJSON()) as unknown as ProcessReading[]
  return metrics.map(({ name, help, type, values }) => ({ name, help, type, values }))
}

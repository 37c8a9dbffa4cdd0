import type { Registry } from 'prom-client'
import type { Exemplar } from './exemplars.js'
import type { Exponential } from './exponential.js'
import type { Family, LabelValue } from './metric-family.js'

/** Counts of one process so far, as JSON data for another process. */
export interface Reading {
  readonly families: readonly FamilyReading[]
  readonly process: readonly ProcessReading[]
}

export interface FamilyReading {
  /** Name in the Prometheus form. */
  readonly name: string
  readonly size: number
  /** Label values of all series, in series order. */
  readonly labels: readonly LabelValue[]
  /** Figures of all series, in series order. */
  readonly figures: readonly number[]
  /** One for each series, if histograms are also recorded as exponential ones. */
  readonly exponentials?: readonly Exponential[]
  /** Exemplars by place in the figures. */
  readonly exemplars?: readonly (readonly [bucket: number, exemplar: Exemplar])[]
}

/** A metric of prom-client about the process itself. */
export interface ProcessReading {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly values: readonly ProcessValue[]
}

export interface ProcessValue {
  /** Name of the sample, if it differs from that of the metric: `…_bucket`. */
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

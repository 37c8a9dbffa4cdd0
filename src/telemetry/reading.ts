import type { Registry } from 'prom-client'
import type { Family } from './cells.js'

/** What one process has counted so far, as data that can be sent to another. */
export interface Reading {
  readonly families: readonly FamilyReading[]
  readonly process: readonly ProcessReading[]
}

export interface FamilyReading {
  /** The name in the Prometheus form. */
  readonly name: string
  /** The label values as JSON text, and the cell. */
  readonly points: readonly (readonly [labels: string, cell: readonly number[]])[]
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
  for (const { definition, points } of families) {
    if (points.size === 0) continue
    const read = Array.from(points, ([labels, { cell }]) => [labels, Array.from(cell)] as const)
    readings.push({ name: definition.prometheus, points: read })
  }
  return readings
}

export async function readProcess(registry: Registry): Promise<ProcessReading[]> {
  const metrics = (await registry.getMetricsAsJSON()) as unknown as ProcessReading[]
  return metrics.map(({ name, help, type, values }) => ({ name, help, type, values }))
}

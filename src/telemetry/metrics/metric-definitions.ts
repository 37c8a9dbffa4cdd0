import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { CALLER_METRICS } from './caller-metrics.js'
import { GATEWAY_METRICS } from './gateway-metrics.js'
import { type Cell, createFamily, type Definition, type Family } from './metric-family.js'
import { type MetricSources, readOnce } from './metric-sources.js'
import { REQUEST_METRICS } from './request-metrics.js'
import { UPSTREAM_METRICS } from './upstream-metrics.js'

/** All metrics that Tidegate defines: a test compares `docs/metrics.md` with this table. */
const DEFINITIONS = { ...REQUEST_METRICS, ...CALLER_METRICS, ...UPSTREAM_METRICS, ...GATEWAY_METRICS }

export type Families = { readonly [K in keyof typeof DEFINITIONS]: Family }

/**
 * Creates the families of all metrics.
 *
 * @param exponential true if histograms are also recorded as exponential ones
 */
export function createFamilies(exponential = false): Families {
  const entries = Object.entries<Definition>(DEFINITIONS).map(([key, definition]) => [
    key,
    createFamily(definition, exponential),
  ])
  return Object.fromEntries(entries) as Families
}

/** Updates all metrics that are read from these sources. */
export function readMetrics(families: Partial<Families>, sources: Partial<MetricSources>): void {
  const readingOf = readOnce(sources)
  for (const { definition, set, clear } of Object.values(families)) {
    const { read, kind, anew = kind === 'gauge' } = definition
    if (read === undefined) continue
    if (anew) clear()
    read(readingOf, set)
  }
}

/**
 * Updates the metrics of the configuration: which one is in force, since when, and whether the last reading of the file
 * was valid.
 */
export function showConfig(families: Families, { hash, loadedAt, config }: Snapshot, good = true): void {
  families.configGood.set(good ? 1 : 0)
  families.configInfo.clear()
  families.configInfo.set(1, hash, config.group ?? '')
  families.configLoaded.set(loadedAt / 1000)
}

/**
 * Creates the cells of all reload results at the start: a counter that begins with its first event hides that event
 * from `increase()`.
 */
export function reloadCells({ configReloads }: Families): Record<'applied' | 'rejected' | 'unchanged', Cell> {
  return {
    applied: configReloads.cell('applied'),
    rejected: configReloads.cell('rejected'),
    unchanged: configReloads.cell('unchanged'),
  }
}

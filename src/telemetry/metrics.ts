import type { Snapshot } from '../config/snapshot/snapshot.js'
import { countFailedPushes, createExposition } from './export/exposition.js'
import type { ExtensionMeters } from './export/extension-meters.js'
import type { OtlpOptions } from './export/push.js'
import type { TextFormat } from './export/text-format.js'
import { createFamilies, readMetrics, reloadCells, showConfig } from './metrics/metric-definitions.js'
import type { MetricSources } from './metrics/metric-sources.js'
import { type LimitCounts, limitCountsOf, requestsIn, type Traffic, trafficOf } from './metrics/overview.js'
import { type Reading, readFamilies, readProcess } from './metrics/process-counts.js'
import { processMetrics } from './metrics/process-metrics.js'
import { createRecorder, type Recorder } from './metrics/recorder.js'

export type ReloadResult = 'applied' | 'rejected' | 'unchanged'

export interface MetricsOptions extends MetricSources {
  readonly otlp?: OtlpOptions | undefined
  /** True if histograms are also recorded as exponential ones. */
  readonly exponential?: boolean
  /** OTel resource attribute `service.name`. */
  readonly serviceName: string
  /** Metrics that extensions record. */
  readonly extensions?: ExtensionMeters
  readonly log: { warn(details: object, message: string): void }
}

export interface Metrics extends Recorder {
  /** Sets the configuration that is in force from now on. */
  loaded(snapshot: Snapshot): void
  /** Counts one attempt to reload the configuration; `snapshot` is the one in force after it. */
  reloaded(result: ReloadResult, snapshot: Snapshot): void
  /** Counts one attempt to reload the certificates. */
  certificatesReloaded(result: ReloadResult): void
  /** Returns the metrics, by default in the Prometheus text format, version 0.0.4. */
  scrape(format?: TextFormat): Promise<string>
  /** Returns the metrics as data, for the process that merges those of several. */
  read(): Promise<Reading>
  /** Returns the number of requests that have ended. */
  requests(): number
  /** Returns the requests and their outcomes. Cheap enough for every few seconds. */
  traffic(): Traffic
  /** Returns the decisions of each limit. */
  limitCounts(): readonly LimitCounts[]
  /** Pushes the last metrics over OTLP, if enabled, and stops. */
  close(): Promise<void>
}

export function createMetrics(options: MetricsOptions): Metrics {
  const families = createFamilies(options.exponential)
  const ofProcess = processMetrics()
  const reloads = reloadCells(families)
  // Starts at 0, so that the first event is an increase.
  for (const result of ['applied', 'rejected', 'unchanged']) families.tlsReloads.cell(result)

  const refresh = () => readMetrics(families, options)
  const { extensions } = options
  const processes = async () => [...(await readProcess(ofProcess)), ...((await extensions?.read()) ?? [])]

  const exposition = createExposition({
    families,
    refresh,
    processes,
    serviceName: options.serviceName,
    otlp: options.otlp,
    producers: extensions && [extensions],
    onPushFailed: countFailedPushes(families, options.log),
  })

  const loaded = (snapshot: Snapshot) => showConfig(families, snapshot)

  return {
    ...createRecorder(families),
    loaded,
    reloaded(result, snapshot) {
      families.configReloads.add(reloads[result], 1)
      showConfig(families, snapshot, result !== 'rejected')
    },
    certificatesReloaded(result) {
      families.tlsReloads.add(families.tlsReloads.cell(result), 1)
    },
    scrape: exposition.scrape,
    requests: () => requestsIn(trafficOf(families)),
    traffic() {
      const { connections, storeState } = families
      readMetrics({ connections, storeState }, options)
      return trafficOf(families)
    },
    limitCounts: () => limitCountsOf(families),
    async read() {
      refresh()
      return { families: readFamilies(Object.values(families)), process: await processes() }
    },
    close: () => exposition.close(),
  }
}

import type { ReloadResult } from '../config/load/recent-reloads.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { Share } from '../shares.js'
import { countFailedPushes, createExposition } from '../telemetry/export/exposition.js'
import type { OtlpOptions } from '../telemetry/export/push.js'
import {
  createFamilies,
  readMetrics,
  reloadCells,
  showConfig,
} from '../telemetry/metrics/metric-definitions.js'
import { type LimitCounts, limitCountsOf } from '../telemetry/metrics/overview.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'
import { readFamilies, readProcess } from '../telemetry/metrics/process-counts.js'
import { processMetrics } from '../telemetry/metrics/process-metrics.js'
import type { State } from './supervisor.js'
import { createTotals, type WorkerReading } from './totals.js'

export interface FiguresOptions {
  /** Returns the live workers, each with its counts up to now, as far as it responds. */
  readonly read: () => Promise<readonly WorkerReading[]>
  readonly states: () => Iterable<State>
  readonly logLinesDropped: () => number
  /** Shares of this process: those of the admin port. */
  readonly shares: () => Iterable<Share>
  readonly otlp: OtlpOptions | undefined
  /** True if workers also record histograms as exponential ones. */
  readonly exponential: boolean
  readonly serviceName: string
  readonly log: { warn(details: object, message: string): void }
}

const STATES: readonly State[] = ['starting', 'serving', 'draining']

/** Creates the metrics of all processes as one exposition. */
export function createFigures(options: FiguresOptions) {
  const { exponential } = options
  const families = createFamilies(exponential)
  /** Families that this process counts as well as the workers. */
  const own = createFamilies()
  const totals = createTotals(families, createFamilies(exponential))
  const ofProcess = processMetrics()
  const reloads = reloadCells(families)
  const exits = { drained: families.workerExits.cell('drained'), failed: families.workerExits.cell('failed') }
  let latest: readonly WorkerReading[] = []

  async function refresh(): Promise<void> {
    latest = await options.read()
    readMetrics(own, options)
    const ofOwn: Reading = { families: readFamilies(Object.values(own)), process: [] }
    totals.show([...latest, { place: 0, reading: ofOwn }])
    const states = [...options.states()]
    for (const state of STATES) {
      families.workers.set(states.filter((one) => one === state).length, state)
    }
  }

  const exposition = createExposition({
    families,
    refresh,
    processes: async () => totals.processes(latest, await readProcess(ofProcess)),
    serviceName: options.serviceName,
    otlp: options.otlp,
    onPushFailed: countFailedPushes(own, options.log),
  })

  const loaded = (snapshot: Snapshot) => showConfig(families, snapshot)

  return {
    loaded,
    reloaded(result: ReloadResult, snapshot: Snapshot): void {
      families.configReloads.add(reloads[result], 1)
      showConfig(families, snapshot, result !== 'rejected')
    },
    /** Reports the end of a worker. `last`: the counts that it reported last, when asked or by itself. */
    ended(reason: 'drained' | 'failed', last: WorkerReading | undefined): void {
      families.workerExits.add(exits[reason], 1)
      if (last !== undefined) totals.retire(last)
    },
    scrape: exposition.scrape,
    /** Returns the decisions of each limit in all workers. */
    async limitCounts(): Promise<readonly LimitCounts[]> {
      await refresh()
      return limitCountsOf(families)
    },
    close: () => exposition.close(),
  }
}

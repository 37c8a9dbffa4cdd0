import type { ReloadResult } from '../config/load/reload.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { Share } from '../shares.js'
import { countFailedPushes, createExposition } from '../telemetry/export/exposition.js'
import type { OtlpOptions } from '../telemetry/export/push.js'
import type { TextFormat } from '../telemetry/export/text-format.js'
import { createFamilies, reloadCells, showConfig } from '../telemetry/metrics/metric-definitions.js'
import { type Traffic, trafficOf } from '../telemetry/metrics/overview.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'
import { readFamilies, readProcess } from '../telemetry/metrics/process-counts.js'
import { createProcessMetrics } from '../telemetry/metrics/process-metrics.js'
import { showShares } from '../telemetry/metrics/shares.js'
import type { State } from './supervisor.js'
import { createTotals, type WorkerReading } from './totals.js'

export interface FiguresOptions {
  /** Those that live, with what each has counted by now, as far as it can be had. */
  readonly read: () => Promise<readonly WorkerReading[]>
  readonly states: () => Iterable<State>
  readonly logLinesDropped: () => number
  /** Of this process: those of the admin port. */
  readonly shares: () => Iterable<Share>
  readonly otlp: OtlpOptions | undefined
  /** Whether workers record histograms as exponential ones, too. */
  readonly exponential: boolean
  readonly serviceName: string
  readonly log: { warn(details: object, message: string): void }
}

/** The metrics of all processes as one exposition. */
export interface Figures {
  loaded(snapshot: Snapshot): void
  reloaded(result: ReloadResult, snapshot: Snapshot): void
  /** A worker has ended. `last`: what it had counted when it was last asked, or said so itself. */
  ended(reason: 'drained' | 'failed', last: WorkerReading | undefined): void
  scrape(format?: TextFormat): Promise<string>
  /** What has come to all workers, and what became of it. */
  traffic(): Promise<Traffic>
  close(): Promise<void>
}

const STATES: readonly State[] = ['starting', 'serving', 'draining']

export function createFigures(options: FiguresOptions): Figures {
  const { exponential } = options
  const families = createFamilies(exponential)
  /** What this process counts of what the workers count as well. */
  const own = createFamilies()
  const totals = createTotals(families, createFamilies(exponential))
  const ofProcess = createProcessMetrics()
  const reloads = reloadCells(families)
  const exits = { drained: families.workerExits.cell('drained'), failed: families.workerExits.cell('failed') }
  let latest: readonly WorkerReading[] = []

  async function refresh(): Promise<void> {
    latest = await options.read()
    own.logLinesDropped.set(options.logLinesDropped())
    showShares(own, options.shares())
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
    reloaded(result, snapshot) {
      families.configReloads.add(reloads[result], 1)
      showConfig(families, snapshot, result !== 'rejected')
    },
    ended(reason, last) {
      families.workerExits.add(exits[reason], 1)
      if (last !== undefined) totals.retire(last)
    },
    scrape: exposition.scrape,
    async traffic() {
      await refresh()
      return trafficOf(families)
    },
    close: () => exposition.close(),
  }
}

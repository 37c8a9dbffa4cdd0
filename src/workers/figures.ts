import { randomUUID } from 'node:crypto'
import type { ReloadResult } from '../config/reload.js'
import type { Snapshot } from '../config/snapshot.js'
import { countFailedPushes, createExposition, type OtlpOptions } from '../telemetry/exposition.js'
import { createFamilies, showConfig } from '../telemetry/families.js'
import { createProcessMetrics } from '../telemetry/process-metrics.js'
import type { Reading } from '../telemetry/reading.js'
import { readFamilies, readProcess } from '../telemetry/reading.js'
import type { State } from './supervisor.js'
import { createTotals, type WorkerReading } from './totals.js'

export interface FiguresOptions {
  /** Those that live, with what each has counted by now, as far as it can be had. */
  readonly read: () => Promise<readonly WorkerReading[]>
  readonly states: () => Iterable<State>
  readonly logLinesDropped: () => number
  readonly otlp: OtlpOptions | undefined
  readonly serviceName: string
  readonly log: { warn(details: object, message: string): void }
}

/** The metrics of all processes as one exposition. */
export interface Figures {
  loaded(snapshot: Snapshot): void
  reloaded(result: ReloadResult, snapshot: Snapshot): void
  /** A worker has ended. `last`: what it had counted when it was last asked, or said so itself. */
  ended(reason: 'drained' | 'failed', last: WorkerReading | undefined): void
  scrape(): Promise<string>
  close(): Promise<void>
}

const STATES: readonly State[] = ['starting', 'serving', 'draining']

export function createFigures(options: FiguresOptions): Figures {
  const families = createFamilies()
  /** What this process counts of what the workers count as well. */
  const own = createFamilies()
  const totals = createTotals(families)
  const ofProcess = createProcessMetrics()
  const reloads = {
    applied: families.configReloads.cell('applied'),
    rejected: families.configReloads.cell('rejected'),
    unchanged: families.configReloads.cell('unchanged'),
  }
  const exits = { drained: families.workerExits.cell('drained'), failed: families.workerExits.cell('failed') }
  let latest: readonly WorkerReading[] = []

  async function refresh(): Promise<void> {
    latest = await options.read()
    own.logLinesDropped.cell()[0] = options.logLinesDropped()
    const ofOwn: Reading = { families: readFamilies(Object.values(own)), process: [] }
    totals.show([...latest, { place: 0, reading: ofOwn }])
    const states = [...options.states()]
    for (const state of STATES) {
      families.workers.cell(state)[0] = states.filter((one) => one === state).length
    }
  }

  const exposition = createExposition({
    families: Object.values(families),
    refresh,
    resource: { 'service.name': options.serviceName, 'service.instance.id': randomUUID() },
    otlp: options.otlp,
    onPushFailed: countFailedPushes(families.otlpFailures.cell(), options.log),
  })

  const loaded = (snapshot: Snapshot) => showConfig(families, snapshot)

  return {
    loaded,
    reloaded(result, snapshot) {
      reloads[result][0]! += 1
      showConfig(families, snapshot, result !== 'rejected')
    },
    ended(reason, last) {
      exits[reason][0]! += 1
      if (last !== undefined) totals.retire(last)
    },
    async scrape() {
      const text = await exposition.prometheus()
      return text + totals.processes(latest, await readProcess(ofProcess))
    },
    close: () => exposition.close(),
  }
}

import type { Snapshot } from '../config/snapshot/snapshot.js'
import type { IssuerReading } from '../credentials/tokens.js'
import type { MapHistory } from '../fleet/replicated-map.js'
import type { Share } from '../shares.js'
import type { SourceState } from '../tier-sources/source.js'
import type { GuardState } from '../upstream/guard/guard.js'
import type { UpstreamReading } from '../upstream/pool/state.js'
import { countFailedPushes, createExposition } from './export/exposition.js'
import type { OtlpOptions } from './export/push.js'
import type { TextFormat } from './export/text-format.js'
import { readGuards } from './metrics/guards.js'
import { createFamilies, reloadCells, showConfig } from './metrics/metric-definitions.js'
import { type Traffic, trafficOf } from './metrics/overview.js'
import { type Reading, readFamilies, readProcess } from './metrics/process-counts.js'
import { createProcessMetrics } from './metrics/process-metrics.js'
import { createRecorder, type Recorder } from './metrics/recorder.js'
import { showShares } from './metrics/shares.js'
import { showTierSources } from './metrics/tier-sources.js'
import { showTokens } from './metrics/tokens.js'
import { showUpstreams } from './metrics/upstreams.js'
import { type SpanCounts, showSpans } from './traces/span-counts.js'

export type ReloadResult = 'applied' | 'rejected' | 'unchanged'

export interface MetricsOptions {
  /** State of the store. These functions are called each time that metrics are read. */
  readonly storeState: () => 'up' | 'degraded'
  /** Returns how often a key of the store held something other than counts; left out: this cannot happen. */
  readonly foreignKeys?: () => number
  /** Returns the connections that were closed because the store broke the protocol. */
  readonly storeProtocolErrors?: () => number
  /** Returns the maps that the store keeps for all gateways. Left out: it loses nothing. */
  readonly maps?: () => Iterable<{ history(): MapHistory }>
  readonly upstreams: () => Iterable<UpstreamReading>
  readonly waiting?: () => Iterable<readonly [service: string, count: number]>
  readonly logLinesDropped: () => number
  readonly logLinesLeftOut?: () => Readonly<Record<string, number>>
  readonly connections?: () => { readonly open: number; readonly rejected: Readonly<Record<string, number>> }
  readonly http2?: () => { readonly open: number; readonly closed: Readonly<Record<string, number>> }
  /** Returns the certificates; `notAfter` is in Unix ms. */
  readonly certificates?: () => Iterable<{ readonly certificate: string; readonly notAfter: number }>
  /** Returns the guards of the services. Left out: there are none. */
  readonly guards?: () => Iterable<GuardState>
  /** Left out: no caller uses a token. */
  readonly tokens?: () => Iterable<IssuerReading>
  /** Returns the number of banned blocks of addresses, by who banned them. */
  readonly bans?: () => Readonly<Record<string, number>>
  /** Returns the number of requests shed because the gateway is overloaded, by reason. */
  readonly overload?: () => Readonly<Record<string, number>>
  /** Returns the resources that are bounded and shared. */
  readonly shares?: () => Iterable<Share>
  readonly tierSources?: () => Iterable<SourceState>
  /** Left out: no request is recorded as a trace. */
  readonly spans?: (() => SpanCounts) | undefined
  readonly otlp?: OtlpOptions | undefined
  /** True if histograms are also recorded as exponential ones. */
  readonly exponential?: boolean
  /** OTel resource attribute `service.name`. */
  readonly serviceName: string
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
  /** Returns the requests and their outcomes. */
  traffic(): Traffic
  /** Pushes the last metrics over OTLP, if enabled, and stops. */
  close(): Promise<void>
}

export function createMetrics(options: MetricsOptions): Metrics {
  const families = createFamilies(options.exponential)
  const ofProcess = createProcessMetrics()
  const reloads = reloadCells(families)
  // Starts at 0, so that the first event is an increase.
  for (const result of ['applied', 'rejected', 'unchanged']) families.tlsReloads.cell(result)

  function refresh(): void {
    const up = options.storeState() === 'up'
    families.storeState.set(up ? 1 : 0, 'up')
    families.storeState.set(up ? 0 : 1, 'degraded')
    families.storeForeignKeys.set(options.foreignKeys?.() ?? 0)
    for (const map of options.maps?.() ?? []) {
      const { what, rollbacks, forgottenAt } = map.history()
      families.storeRollbacks.set(rollbacks, what)
      families.storeForgotten.set(forgottenAt === undefined ? 0 : 1, what)
    }
    families.storeProtocolErrors.set(options.storeProtocolErrors?.() ?? 0)
    families.logLinesDropped.set(options.logLinesDropped())
    for (const [reason, count] of Object.entries(options.logLinesLeftOut?.() ?? {})) {
      families.logLinesLeftOut.set(count, reason)
    }
    const connections = options.connections?.()
    if (connections !== undefined) {
      families.connections.set(connections.open)
      for (const [reason, count] of Object.entries(connections.rejected)) {
        families.connectionsRejected.set(count, reason)
      }
    }
    const http2 = options.http2?.()
    if (http2 !== undefined) {
      families.http2Connections.set(http2.open)
      for (const [reason, count] of Object.entries(http2.closed)) families.http2Aborted.set(count, reason)
    }
    families.certificateExpiry.clear()
    for (const { certificate, notAfter } of options.certificates?.() ?? []) {
      families.certificateExpiry.set(notAfter / 1000, certificate)
    }
    if (options.spans !== undefined) showSpans(families, options.spans())
    showShares(families, options.shares?.() ?? [])
    showTierSources(families, options.tierSources?.() ?? [])
    showTokens(families, options.tokens?.() ?? [])
    showUpstreams(families, options.upstreams(), options.waiting?.() ?? [])
    for (const [source, count] of Object.entries(options.bans?.() ?? {})) families.bans.set(count, source)
    readGuards(families, options.guards?.() ?? [], options.overload?.() ?? {})
  }

  const exposition = createExposition({
    families,
    refresh,
    processes: () => readProcess(ofProcess),
    serviceName: options.serviceName,
    otlp: options.otlp,
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
    traffic() {
      refresh()
      return trafficOf(families)
    },
    async read() {
      refresh()
      return { families: readFamilies(Object.values(families)), process: await readProcess(ofProcess) }
    },
    close: () => exposition.close(),
  }
}

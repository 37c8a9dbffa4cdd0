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
  /** These are asked each time that metrics are read. */
  readonly storeState: () => 'up' | 'degraded'
  /** How often a key of the store held something else than counts; left out: it cannot. */
  readonly foreignKeys?: () => number
  /** Connections that were ended because the store broke the protocol. */
  readonly storeProtocolErrors?: () => number
  /** What the store keeps for all gateways. Left out: it forgets nothing. */
  readonly maps?: () => Iterable<{ history(): MapHistory }>
  readonly upstreams: () => Iterable<UpstreamReading>
  readonly waiting?: () => Iterable<readonly [service: string, count: number]>
  readonly logLinesDropped: () => number
  readonly logLinesLeftOut?: () => Readonly<Record<string, number>>
  readonly connections?: () => { readonly open: number; readonly rejected: Readonly<Record<string, number>> }
  readonly http2?: () => { readonly open: number; readonly closed: Readonly<Record<string, number>> }
  /** Unix ms. */
  readonly certificates?: () => Iterable<{ readonly certificate: string; readonly notAfter: number }>
  /** What stands between the requests and their services. Left out: nothing does. */
  readonly guards?: () => Iterable<GuardState>
  /** Left out: no caller is known by a token. */
  readonly tokens?: () => Iterable<IssuerReading>
  /** How many blocks of addresses are turned away, by who said so. */
  readonly bans?: () => Readonly<Record<string, number>>
  /** How much is shed because the gateway cannot keep up, by reason. */
  readonly overload?: () => Readonly<Record<string, number>>
  /** What is bounded and shared. */
  readonly shares?: () => Iterable<Share>
  readonly tierSources?: () => Iterable<SourceState>
  /** Left out: no request is recorded as a trace. */
  readonly spans?: (() => SpanCounts) | undefined
  readonly otlp?: OtlpOptions | undefined
  /** Whether histograms are recorded as exponential ones, too. */
  readonly exponential?: boolean
  /** OTel resource attribute `service.name`. */
  readonly serviceName: string
  readonly log: { warn(details: object, message: string): void }
}

export interface Metrics extends Recorder {
  /** The configuration that is in force from now on. */
  loaded(snapshot: Snapshot): void
  /** One attempt to load the configuration again; `snapshot` is the one in force after it. */
  reloaded(result: ReloadResult, snapshot: Snapshot): void
  /** One attempt to read the certificates again. */
  certificatesReloaded(result: ReloadResult): void
  /** By default in the Prometheus text format, version 0.0.4. */
  scrape(format?: TextFormat): Promise<string>
  /** The same as data, for the process that shows the figures of several. */
  read(): Promise<Reading>
  /** What has come and what became of it. */
  traffic(): Traffic
  /** Pushes the last figures over OTLP, if at all, and stops. */
  close(): Promise<void>
}

export function createMetrics(options: MetricsOptions): Metrics {
  const families = createFamilies(options.exponential)
  const ofProcess = createProcessMetrics()
  const reloads = reloadCells(families)
  // From 0 on, so that the first of them is an increase.
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

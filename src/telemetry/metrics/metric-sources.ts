import type { AuthReading } from '../../credentials/forward-auth.js'
import type { IssuerReading } from '../../credentials/tokens.js'
import type { ForgettableMap } from '../../fleet/replicated-map.js'
import type { Share } from '../../shares.js'
import type { SourceState } from '../../tier-sources/tier-source.js'
import type { GuardState } from '../../upstream/guard/guard.js'
import type { UpstreamReading } from '../../upstream/pool/state.js'

type Counts = Readonly<Record<string, number>>

/** Parts of a process that metrics are read from, each time that somebody asks for the metrics. */
export interface MetricSources {
  /** State of the store. */
  readonly storeState: () => 'up' | 'degraded'
  /** Returns how often a key of the store held something other than counts. */
  readonly foreignKeys?: () => number
  /** Returns the connections that were closed because the store broke the protocol. */
  readonly storeProtocolErrors?: () => number
  /** Returns the maps that the store keeps for all gateways. */
  readonly maps?: () => Iterable<Pick<ForgettableMap, 'history' | 'confirmedAt'>>
  readonly upstreams: () => Iterable<UpstreamReading>
  readonly waiting?: () => Iterable<readonly [service: string, count: number]>
  readonly logLinesDropped: () => number
  readonly logLinesLeftOut?: () => Counts
  readonly connections?: () => { readonly open: number; readonly rejected: Counts }
  readonly http2?: () => { readonly open: number; readonly closed: Counts }
  /** Returns the certificates; `notAfter` is in Unix ms. */
  readonly certificates?: () => Iterable<{ readonly certificate: string; readonly notAfter: number }>
  /** Returns the guards of the services. */
  readonly guards?: () => Iterable<GuardState>
  readonly tokens?: () => Iterable<IssuerReading>
  readonly forwardAuth?: () => Iterable<AuthReading>
  /** Returns the number of banned blocks of addresses, by who banned them. */
  readonly bans?: () => Counts
  /** Returns the share of requests that is shed because the gateway is overloaded, by reason. */
  readonly overload?: () => Counts
  /** Returns the resources that are bounded and shared. */
  readonly shares?: () => Iterable<Share>
  readonly tierSources?: () => Iterable<SourceState>
  /** State of the metering. Undefined: nothing is metered. */
  readonly meter?: (() => MeterReading) | undefined
  /** Undefined: no request is recorded as a trace. */
  readonly spans?: (() => SpanCounts) | undefined
}

/** State of the metering, in ms and bytes. */
export interface MeterReading {
  readonly lag_ms: number
  readonly unsaved_ms: number
  readonly spool_bytes: number
  readonly sent: number
  readonly failed: number
}

/** Outcomes of spans since the start. */
export interface SpanCounts {
  readonly sent: number
  /** Failed pushes. */
  readonly failed: number
  /** Lost spans, by reason. */
  readonly dropped: Counts
}

/** Values that the sources have returned. Lists are arrays, because several metrics read the same one. */
export type MetricReadings = {
  [K in keyof Required<MetricSources>]: Listed<ReturnType<NonNullable<MetricSources[K]>>>
}

type Listed<T> = T extends string ? T : T extends Iterable<infer One> ? readonly One[] : T

/** Returns a function that reads a source at its first call; undefined: the process does not have it. */
export function readOnce(
  sources: Partial<MetricSources>,
): <K extends keyof MetricReadings>(source: K) => MetricReadings[K] | undefined {
  const known = new Map<string, unknown>()
  return (source) => {
    if (!known.has(source)) {
      const reading: unknown = sources[source]?.()
      const isList = typeof reading === 'object' && reading !== null && Symbol.iterator in reading
      known.set(source, isList ? [...(reading as Iterable<unknown>)] : reading)
    }
    return known.get(source) as MetricReadings[typeof source] | undefined
  }
}

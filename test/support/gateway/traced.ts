import type { Test } from 'tap'
import type { Sampling } from '../../../src/telemetry/traces/sampler.js'
import { createTracing, type Tracing } from '../../../src/telemetry/traces/tracing.js'
import { type CollectedSpan, type Collector, startCollector } from '../telemetry/otlp-collector.js'

export interface Traced {
  readonly tracing: Tracing
  readonly collector: Collector
  readonly warned: string[]
}

/** Starts a gateway that traces every request, unless told otherwise, to a collector that accepts everything. */
export async function startTracing(
  t: Test,
  sampling: Partial<Sampling> = {},
  collector?: Collector,
): Promise<Traced> {
  const to = collector ?? (await startCollector(t))
  const warned: string[] = []
  const tracing = createTracing({
    sampling: { sample: 1, parent: 'trusted', maxPerSecond: 10_000, ...sampling },
    endpoint: {
      url: `${to.origin}/v1/traces`,
      headers: { authorization: 'Bearer s3cret' },
      // Long, so that a busy machine causes no second export of the same spans.
      timeoutMs: 20_000,
      compression: 'none',
    },
    resource: { 'service.name': 'edge', 'service.instance.id': 'one' },
    delayMs: 1,
    log: { warn: (details, message) => warned.push(`${JSON.stringify(details)} ${message}`) },
  })
  t.teardown(() => tracing.close())
  return { tracing, collector: to, warned }
}

export const serverSpan = (spans: readonly CollectedSpan[]) => spans.find(({ kind }) => kind === 'server')!
export const limiterSpan = (spans: readonly CollectedSpan[]) =>
  spans.find(({ name }) => name === 'take quota')
/** Spans of the attempts: one for each time that the request was sent to an upstream, in order. */
export const callSpans = (spans: readonly CollectedSpan[]) =>
  spans
    .filter(({ attributes, kind }) => kind === 'client' && attributes['url.full'] !== undefined)
    .sort((a, b) => a.start - b.start)

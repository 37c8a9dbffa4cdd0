import type { MetricProducer } from '@opentelemetry/sdk-metrics'
import { A_MINUTE, type Log, throttledWarning } from '../../log-throttle.js'
import type { Families } from '../metrics/metric-definitions.js'
import type { Family, View } from '../metrics/metric-family.js'
import type { ProcessReading } from '../metrics/process-counts.js'
import { type OtlpOptions, startPush } from './push.js'
import { ending, formatMetrics, formatProcesses, type TextFormat } from './text-format.js'

export type Exposition = ReturnType<typeof createExposition>

export interface ExpositionOptions {
  readonly families: Families
  /** Updates gauges; called before each reading. */
  readonly refresh: () => void | Promise<void>
  readonly processes: () => Promise<readonly ProcessReading[]>
  readonly serviceName: string
  readonly otlp: OtlpOptions | undefined
  /** Further metrics to push: those of extensions. */
  readonly producers?: readonly MetricProducer[] | undefined
  /** Called for each push that failed. */
  readonly onPushFailed: (error: Error) => void
}

/** Creates the exposition: metrics for scrapes and, with `otlp`, pushed. */
export function createExposition(options: ExpositionOptions) {
  const families: Family[] = Object.values(options.families)

  async function read(): Promise<View[]> {
    await options.refresh()
    return families.map((family) => family.view())
  }

  const push =
    options.otlp &&
    startPush({
      otlp: options.otlp,
      resource: { 'service.name': options.serviceName },
      read,
      more: options.producers ?? [],
      onFailed: options.onPushFailed,
    })

  return {
    /** Returns all series as text, ending in a newline. */
    async scrape(format: TextFormat = 'plain'): Promise<string> {
      const text = await formatMetrics(await read(), format)
      return text + formatProcesses(await options.processes(), format) + ending(format)
    },
    /** Pushes the remaining metrics and stops pushing; waits at most two seconds for a slow collector. */
    close: async (): Promise<void> => push?.close(),
  }
}

/** Handles failed pushes: counts each one, and logs one a minute. */
export function countFailedPushes(
  { otlpFailures }: Families,
  log: Pick<Log, 'warn'>,
): (error: Error) => void {
  const count = otlpFailures.cell('metrics')
  const warn = throttledWarning(log, A_MINUTE)
  return (error) => {
    otlpFailures.add(count, 1)
    warn(
      { error: error.message },
      'metrics could not be pushed over OTLP; counting goes on and the next push carries the totals; check telemetry.otlp',
    )
  }
}

import type { Families } from '../metrics/metric-definitions.js'
import type { Family, View } from '../metrics/metric-family.js'
import type { ProcessReading } from '../metrics/process-counts.js'
import { type OtlpOptions, startPush } from './push.js'
import { ending, formatMetrics, formatProcesses, type TextFormat } from './text-format.js'

export interface Exposition {
  /** All series as text, ending in a newline. */
  scrape(format?: TextFormat): Promise<string>
  /** Pushes what is left and stops pushing; waits two seconds for a slow collector at most. */
  close(): Promise<void>
}

export interface ExpositionOptions {
  readonly families: Families
  /** Brings gauges up to date, before each reading. */
  readonly refresh: () => void | Promise<void>
  readonly processes: () => Promise<readonly ProcessReading[]>
  readonly serviceName: string
  readonly otlp: OtlpOptions | undefined
  /** Told of each push that failed. */
  readonly onPushFailed: (error: Error) => void
}

/** Serves the figures to whoever asks and, with `otlp`, pushes them. */
export function createExposition(options: ExpositionOptions): Exposition {
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
      onFailed: options.onPushFailed,
    })

  return {
    async scrape(format = 'plain') {
      const text = await formatMetrics(await read(), format)
      return text + formatProcesses(await options.processes(), format) + ending(format)
    },
    close: async () => push?.close(),
  }
}

/** Between two lines about pushes that failed, ms: each one is counted. */
const COMPLAINT_MS = 60_000

/** What is done about a push that failed: it is counted, and logged once a minute. */
export function countFailedPushes(
  { otlpFailures }: Families,
  log: { warn(details: object, message: string): void },
): (error: Error) => void {
  const count = otlpFailures.cell('metrics')
  let complainedAt = Number.NEGATIVE_INFINITY
  return (error) => {
    otlpFailures.add(count, 1)
    const now = performance.now()
    if (now - complainedAt < COMPLAINT_MS) return
    complainedAt = now
    log.warn(
      { error: error.message },
      'metrics could not be pushed over OTLP; counting goes on and the next push carries the totals; check telemetry.otlp',
    )
  }
}

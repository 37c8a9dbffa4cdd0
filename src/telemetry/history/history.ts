import type { Reload } from '../../config/load/recent-reloads.js'
import { shownText } from '../../fleet/gateway-status.js'
import { DURATIONS_MS, type ServiceTraffic, type Traffic } from '../metrics/overview.js'

/**
 * The last hour of a gateway, in samples of ten seconds that begin at whole ten seconds of the clock, so that those of
 * several gateways add up. It takes 100 kB at most, whatever the traffic, and lives as long as the process with the admin port.
 */

/** Length of a sample in ms. */
export const EVERY_MS = 10_000
/** Samples in an hour. */
export const SAMPLES = 360
export const MOST_EVENTS = 50
const CLASSES = ['ok', 'client_error', 'limited', 'server_error'] as const
/** Counts of a sample, before those of its durations by bucket: responses by class, and more of `GET /history`. */
export const COUNTED = [...CLASSES, 'shed', 'without_store'] as const
/** Values of a sample: its start in unix ms, COUNTED, and the durations. */
export const SAMPLE_LENGTH = 1 + COUNTED.length + DURATIONS_MS.length + 1
/** How much too early a sample may be taken, in ms: a timer fires early, or the clock was set back a little meanwhile. */
const EARLY = 2500

export const EVENT_KINDS = [
  'started',
  'config_applied',
  'config_rejected',
  'degraded',
  'recovered',
  'draining',
] as const
export type EventKind = (typeof EVENT_KINDS)[number]

export interface HistoryEvent {
  /** Unix ms. */
  readonly at: number
  readonly kind: EventKind
  /** One line for an operator; bounded, and can be shown. */
  readonly text: string
}

/** Samples and events of one gateway, as it answers other gateways. */
export interface HistoryReading {
  /** Bounds of the durations in the samples. */
  readonly bounds_ms: readonly number[]
  /** Samples in the order of time, each SAMPLE_LENGTH long. One is missing if the process was not running. */
  readonly samples: readonly (readonly number[])[]
  readonly events: readonly HistoryEvent[]
}

export interface HistoryOptions {
  /** Returns the traffic of this gateway since its start. */
  readonly read: () => Traffic | Promise<Traffic>
  /** Returns the latest reloads of the configuration, the newest first. */
  readonly reloads: () => readonly Reload[]
  readonly version: string
  /** Clock, in unix ms. */
  readonly now?: () => number
}

export interface History {
  /** Takes the sample that has just ended. */
  sample(): Promise<void>
  note(kind: EventKind, text: string): void
  /** Returns the samples that began at `since`, in unix ms, or later, and the events since then. */
  read(since: number): HistoryReading
  close(): void
}

/** Creates the history of this gateway. It takes a sample every ten seconds by itself. */
export function createHistory({ read, reloads, version, now = Date.now }: HistoryOptions): History {
  let samples: readonly (readonly number[])[] = []
  let counted: readonly number[] = new Array(SAMPLE_LENGTH - 1).fill(0)
  let events: readonly HistoryEvent[] = []
  let degraded = false
  let timer: NodeJS.Timeout

  function note(kind: EventKind, text: string): void {
    events = [...events, { at: now(), kind, text: shownText(text) }].slice(-MOST_EVENTS)
  }

  async function sample(): Promise<void> {
    const at = Math.floor((now() + EARLY) / EVERY_MS) * EVERY_MS - EVERY_MS
    const traffic = await read()
    if (traffic.degraded !== degraded) {
      degraded = traffic.degraded
      if (degraded) note('degraded', 'Deciding without the store')
      else note('recovered', 'The store decides again')
    }
    const counts = countsOf(traffic)
    // A clock that was set back comes to the same ten seconds twice.
    const known = samples.find(([start]) => start === at)
    const added = counts.map((count, i) => Math.max(0, count - counted[i]!) + (known?.[i + 1] ?? 0))
    samples = [...samples.filter(([start]) => start! < at), [at, ...added]].slice(-SAMPLES)
    counted = counts
  }

  function next(): void {
    const wait = EVERY_MS - ((now() + EARLY) % EVERY_MS) + EARLY
    timer = setTimeout(() => void sample().then(next, next), wait).unref()
  }
  next()
  note('started', `Started, version ${version}`)

  return {
    sample,
    note,
    read(since) {
      const all = [...events, ...reloads().map(eventOf)]
      return {
        bounds_ms: DURATIONS_MS,
        samples: samples.filter(([at]) => at! >= since),
        events: all
          .filter(({ at }) => at >= since)
          .sort((a, b) => a.at - b.at)
          .slice(-MOST_EVENTS),
      }
    },
    close: () => clearTimeout(timer),
  }
}

function countsOf({ services, shed, duration }: Traffic): number[] {
  const sum = (of: (one: ServiceTraffic) => number | undefined) =>
    services.reduce((total, one) => total + (of(one) ?? 0), 0)
  const withoutStore = (['local', 'open', 'closed'] as const).map((by) => sum((one) => one.decided_by[by]))
  return [
    ...CLASSES.map((name) => sum(({ responses }) => responses[name])),
    shed,
    withoutStore.reduce((total, count) => total + count),
    ...duration.counts,
  ]
}

function eventOf({ at, result, changed, messages }: Reload): HistoryEvent {
  const [what, [first = '', ...more]] =
    result === 'applied'
      ? ['Configuration applied', changed]
      : result === 'rejected'
        ? ['Configuration rejected', messages]
        : ['Configuration valid again', []]
  const text = `${what}${first === '' ? '' : `: ${first}`}${more.length === 0 ? '' : ' (and more)'}`
  const kind = result === 'rejected' ? 'config_rejected' : 'config_applied'
  return { at: Date.parse(at), kind, text: shownText(text) }
}

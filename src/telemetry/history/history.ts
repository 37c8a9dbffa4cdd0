import type { Reload } from '../../config/load/recent-reloads.js'
import { shownText } from '../../fleet/gateway-status.js'
import type { Question } from '../../fleet/question.js'
import { COUNTED, DURATIONS_MS, type TrafficCounts } from '../metrics/traffic-counts.js'

/**
 * The last hour of a gateway, in samples of ten seconds that begin at whole ten seconds of the clock, so that those of
 * several gateways add up. It takes 75 kB, whatever the traffic, and lives as long as the process with the admin port.
 */

/** Length of a sample in ms. */
export const EVERY_MS = 10_000
/** Samples in an hour. */
export const SAMPLES = 360
export const MOST_EVENTS = 50
/** Values of a sample: its start in unix ms, then what was counted in it, as TrafficCounts. */
export const SAMPLE_LENGTH = 1 + COUNTED.length + DURATIONS_MS.length + 1
/** A timer may fire that much too early, in ms. */
const EARLY = 50

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

/** State of one process that serves requests. */
export interface ProcessTraffic {
  /** Process id. */
  readonly process: number
  readonly counts: TrafficCounts
  readonly degraded: boolean
}

/** Parts of a process that count its traffic. */
export interface TrafficParts {
  readonly metrics: { counts(): TrafficCounts }
  readonly limiter: { state(): 'up' | 'degraded' }
}

/** Asks the processes of this gateway what they have counted. A busy one has half of a sample's time to answer. */
export const TRAFFIC: Question<TrafficParts, null, readonly ProcessTraffic[]> = {
  name: 'traffic',
  answer: ({ metrics, limiter }) => [
    { process: process.pid, counts: metrics.counts(), degraded: limiter.state() === 'degraded' },
  ],
  merge: (answers) => answers.flat(),
  timeoutMs: EVERY_MS / 2,
}

export interface HistoryOptions {
  /** Asks the processes that serve requests. */
  readonly read: () => Promise<readonly ProcessTraffic[]>
  /** Returns the latest reloads of the configuration, the newest first. */
  readonly reloads: () => readonly Reload[]
  readonly version: string
  /** Clock, in unix ms. */
  readonly now?: () => number
}

export interface History {
  /** Takes the sample that has just ended. */
  sample(): Promise<void>
  /** Adds what a process had counted when it ended, as far as that is known. */
  ended(process: number, counts: TrafficCounts | undefined): void
  note(kind: EventKind, text: string): void
  /** Returns the samples that began at `since`, in unix ms, or later, and the events since then. */
  read(since: number): HistoryReading
  close(): void
}

/** Creates the history of this gateway. It takes a sample every ten seconds by itself. */
export function createHistory({ read, reloads, version, now = Date.now }: HistoryOptions): History {
  const ring = new Float64Array(SAMPLES * SAMPLE_LENGTH)
  /** What was counted since the last sample. */
  const fresh = new Array<number>(SAMPLE_LENGTH - 1).fill(0)
  const known = new Map<number, TrafficCounts>()
  /** Processes that have ended since the last sample: an answer may come after its process has ended. */
  const gone = new Set<number>()
  let events: readonly HistoryEvent[] = []
  let degraded = false
  let timer: NodeJS.Timeout

  function note(kind: EventKind, text: string): void {
    events = [...events, { at: now(), kind, text: shownText(text) }].slice(-MOST_EVENTS)
  }

  /** Adds what a process has counted since its last counts, or since its start. */
  function add(process: number, counts: TrafficCounts): void {
    const before = known.get(process)
    for (let i = 0; i < fresh.length; i++) {
      // The last counts of a process that was killed may be older.
      fresh[i]! += Math.max(0, counts[i]! - (before?.[i] ?? 0))
    }
  }

  async function sample(): Promise<void> {
    const at = Math.floor((now() + EARLY) / EVERY_MS) * EVERY_MS - EVERY_MS
    // A process that is too busy to answer is counted in the next sample.
    const processes = (await read()).filter(({ process }) => !gone.has(process))
    for (const { process, counts } of processes) {
      add(process, counts)
      known.set(process, counts)
    }
    gone.clear()
    const isDegraded = processes.some((one) => one.degraded)
    if (isDegraded !== degraded)
      note(
        isDegraded ? 'degraded' : 'recovered',
        isDegraded ? 'Deciding without the store' : 'The store decides again',
      )
    degraded = isDegraded
    const row = ((at / EVERY_MS) % SAMPLES) * SAMPLE_LENGTH
    // A clock that was set back comes to the same ten seconds twice.
    if (ring[row] !== at) ring.fill(0, row, row + SAMPLE_LENGTH)
    ring[row] = at
    for (let i = 0; i < fresh.length; i++) ring[row + 1 + i]! += fresh[i]!
    fresh.fill(0)
  }

  function next(): void {
    const wait = EVERY_MS - ((now() + EARLY) % EVERY_MS) + EARLY
    timer = setTimeout(() => void sample().finally(next), wait).unref()
  }
  next()
  note('started', `Started, version ${version}`)

  return {
    sample,
    note,
    ended(process, counts) {
      if (counts !== undefined) add(process, counts)
      known.delete(process)
      gone.add(process)
    },
    read(since) {
      const rows: number[][] = []
      // Later samples are left from before the clock was set back.
      const last = now() + EARLY - EVERY_MS
      const oldest = Math.max(since, last - SAMPLES * EVERY_MS)
      for (let row = 0; row < ring.length; row += SAMPLE_LENGTH) {
        if (ring[row]! >= oldest && ring[row]! <= last)
          rows.push([...ring.subarray(row, row + SAMPLE_LENGTH)])
      }
      const all = [...events, ...reloads().map(eventOf)]
      return {
        bounds_ms: DURATIONS_MS,
        samples: rows.sort((a, b) => a[0]! - b[0]!),
        events: all
          .filter(({ at }) => at >= oldest)
          .sort((a, b) => a.at - b.at)
          .slice(-MOST_EVENTS),
      }
    },
    close: () => clearTimeout(timer),
  }
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

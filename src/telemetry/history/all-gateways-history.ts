import { fieldsOf, isCount, isTime } from '../../common/json.js'
import { reuse } from '../../common/reuse.js'
import type { AskedNodes } from '../../fleet/ask-all.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import { shownText } from '../../fleet/gateway-status.js'
import { DURATIONS_MS } from '../metrics/overview.js'
import {
  COUNTED,
  EVENT_KINDS,
  EVERY_MS,
  type EventKind,
  type History,
  type HistoryEvent,
  type HistoryReading,
  MOST_EVENTS,
  SAMPLE_LENGTH,
  SAMPLES,
} from './history.js'

/** Name of the question that gateways ask each other. */
export const HISTORY = 'history'
const HOUR_MS = SAMPLES * EVERY_MS
/** Span of a question by those who have read the hour before, in ms. */
const RECENT_MS = 12 * EVERY_MS
/** Ms for which the answers of other gateways are reused: any number of people may look. */
const GOOD_FOR = 4000
/** Least ms between two questions. */
const APART = 1100

export interface HistoryOfAll {
  /** Unix ms. */
  readonly from: number
  readonly to: number
  readonly nodes: AskedNodes
  readonly samples: readonly MergedSample[]
  readonly events: readonly MergedEvent[]
}

export interface MergedSample {
  /** Unix ms at which the ten seconds began. */
  readonly at: number
  /** Gateways that have this sample. */
  readonly gateways: number
  /** Sums of what the samples have after their start. */
  readonly counts: ArrayLike<number>
}

export interface MergedEvent extends HistoryEvent {
  /** The first gateway with this event. */
  readonly node: string
  /** Gateways with this event in the same ten seconds. */
  readonly gateways: number
}

interface Told {
  readonly node: string
  readonly reading: HistoryReading
}

/** Registers the handler that answers other gateways for this one. */
export function answerHistory(fleet: Pick<Fleet, 'answer'>, history: Pick<History, 'read'>): void {
  // 360 samples and 50 events take at most 210 kB: less than an answer may have.
  fleet.answer(HISTORY, (body) => history.read(typeof body === 'number' ? body : 0))
}

/**
 * Creates the reader of the last hour, of this gateway or of all gateways on its store.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 * @param own undefined in a command, which is not a gateway
 */
export function createHistoryOfAll(
  fleet: () => Pick<Fleet, 'ask' | 'node'>,
  own: Pick<History, 'read'> | undefined,
  now = Date.now,
): (of: 'gateway' | 'fleet', since: number) => Promise<HistoryOfAll> {
  async function askSince(span: number) {
    const since = Math.floor(now() / EVERY_MS) * EVERY_MS - span
    const { answers, silent, problem = null } = await fleet().ask<unknown>(HISTORY, since)
    const all = answers.map(({ node, answer }) => ({ node, reading: readHistory(answer) }))
    const told = all.filter((one): one is Told => one.reading !== undefined)
    const unread = all.filter(({ reading }) => reading === undefined).map(({ node }) => node)
    return { told, silent: [...silent, ...unread], problem }
  }
  const askOthers = reuse(GOOD_FOR, askSince, APART)

  return async (of, since) => {
    const to = Math.floor(now() / EVERY_MS) * EVERY_MS
    const from = Math.min(to, Math.max(Math.floor(since / EVERY_MS) * EVERY_MS, to - HOUR_MS))
    // Callers who ask for different times share one of two questions.
    const { told, silent, problem } =
      of === 'fleet'
        ? await askOthers(to - from > RECENT_MS ? HOUR_MS : RECENT_MS)
        : { told: [], silent: [], problem: null }
    const mine = own === undefined ? [] : [{ node: fleet().node, reading: own.read(from) }]
    const all = [...mine, ...told]
    return {
      from,
      to,
      nodes: { answered: all.length, silent, problem },
      samples: mergeSamples(all, from, to),
      events: mergeEvents(all, from, to + 2 * EVERY_MS),
    }
  }
}

function mergeSamples(all: readonly Told[], from: number, to: number): MergedSample[] {
  const count = (to - from) / EVERY_MS
  const gateways = new Array<number>(count).fill(0)
  const sums = Array.from({ length: count }, () => new Float64Array(SAMPLE_LENGTH - 1))
  for (const { reading } of all) {
    // A gateway of another version may have other buckets: then its durations do not count.
    const isAlike = String(reading.bounds_ms) === String(DURATIONS_MS)
    const length = isAlike ? SAMPLE_LENGTH : 1 + COUNTED.length
    for (const sample of reading.samples) {
      const place = (sample[0]! - from) / EVERY_MS
      const sum = sums[place]
      if (sum === undefined) continue
      gateways[place]!++
      for (let i = 1; i < length; i++) sum[i - 1]! += sample[i]!
    }
  }
  return sums.flatMap((counts, i) =>
    gateways[i] === 0 ? [] : [{ at: from + i * EVERY_MS, gateways: gateways[i]!, counts }],
  )
}

/**
 * Merges events of the same text in the same ten seconds: a deploy is one line in a chart, not a hundred. Leaves out later
 * ones than `until`: a gateway whose clock is wrong must not push out the others.
 */
function mergeEvents(all: readonly Told[], from: number, until: number): MergedEvent[] {
  const merged = new Map<string, MergedEvent>()
  const each = all.flatMap(({ node, reading }) => reading.events.map((event) => ({ ...event, node })))
  for (const event of each.sort((a, b) => a.at - b.at)) {
    if (event.at < from || event.at > until) continue
    const key = `${Math.floor(event.at / EVERY_MS)} ${event.kind} ${event.text}`
    const known = merged.get(key)
    merged.set(key, known ? { ...known, gateways: known.gateways + 1 } : { ...event, gateways: 1 })
  }
  return [...merged.values()].slice(-MOST_EVENTS)
}

/**
 * Reads the answer of another gateway, which may be of another version. Returns undefined if it is invalid: anyone with
 * access to the store can send anything.
 */
function readHistory(data: unknown): HistoryReading | undefined {
  const { bounds_ms, samples, events } = fieldsOf(data)
  const isBound = (one: unknown) => typeof one === 'number'
  if (!isList(bounds_ms, 100) || !bounds_ms.every(isBound)) return undefined
  const length = 1 + COUNTED.length + bounds_ms.length + 1
  const isSample = (one: unknown) => isList(one, length) && one.length === length && one.every(isCount)
  if (!isList(samples, SAMPLES + 1) || !samples.every(isSample) || !isList(events, MOST_EVENTS))
    return undefined
  const rows = samples as number[][]
  // One of ten seconds that came twice would count twice.
  if (rows.some(([at], i) => i > 0 && at! <= rows[i - 1]![0]!)) return undefined
  return {
    bounds_ms,
    samples: rows,
    // Kinds of a later version are left out.
    events: events.flatMap((one) => readEvent(one) ?? []),
  }
}

function readEvent(data: unknown): HistoryEvent | undefined {
  const { at, kind, text } = fieldsOf(data)
  const isKnown = (EVENT_KINDS as readonly unknown[]).includes(kind)
  if (!isKnown || !isTime(at) || typeof text !== 'string') return undefined
  return { at, kind: kind as EventKind, text: shownText(text) }
}

function isList(value: unknown, most: number): value is readonly unknown[] {
  return Array.isArray(value) && value.length <= most
}

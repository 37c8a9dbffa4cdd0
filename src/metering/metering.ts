import type { Config } from '../config/schema/schema.js'
import type { RequestRecord } from '../telemetry/record/record.js'
import { columnNames } from './columns.js'
import { eventsOf, type UsageEvent } from './events.js'
import { openFileReceiver } from './file-receiver.js'
import { createHours, type HoursReading } from './hours.js'
import { openHttpReceiver, type Receiver } from './http-receiver.js'
import type { Interval } from './interval-file.js'
import { createSender } from './sender.js'
import { openSpool } from './spool.js'
import { createUsageCounter } from './usage-counter.js'
import type { UsageTable } from './usage-table.js'

/** Time between two saves, in ms: a process that is killed loses at most what it counted since the last one. */
const SAVE_MS = 1000
/** Time between two looks for folders that dead processes have left, in ms. */
const ADOPT_MS = 30_000
/** Saves that are left out after one that failed, so that a full disk does not take the time of requests. */
const LEFT_OUT = 5
/** How long a gateway that ends still sends, in ms. What is left is sent by the next one. */
const LAST_WORDS_MS = 3000

/** State of the metering of one process. */
export interface MeterState {
  /** Groups in the present interval. */
  readonly groups: number
  readonly waiting: number
  /** Age of the oldest interval that waits, in ms; 0 if none does. */
  readonly lag_ms: number
  readonly spool_bytes: number
  /** How long counts have been in memory only, in ms; 0 while they are saved. */
  readonly unsaved_ms: number
  readonly sent: number
  readonly failed: number
  readonly problem: string | null
  /** End of the latest interval that was sent, in ISO 8601. */
  readonly sent_to: string | null
}

/** One interval of a consumer or tenant. */
export interface MeterInterval {
  readonly state: 'counting' | 'waiting' | 'sent'
  readonly event: UsageEvent
}

export type Metering = Awaited<ReturnType<typeof openMetering>>

export interface MeteringOptions {
  readonly settings: NonNullable<Config['metering']>
  /** Number of the worker, from 1; undefined without workers. */
  readonly place?: number | undefined
  readonly log: Record<'warn' | 'info', (fields: object, message: string) => void>
  readonly now?: () => number
  /** Replaces the configured receiver. */
  readonly receiver?: Receiver
}

/**
 * Opens the metering: counts finished requests, saves the counts once a second, and sends whole intervals.
 *
 * @throws Error if the folder of the spool cannot be made
 */
export async function openMetering({ settings, place, log, now = Date.now, receiver }: MeteringOptions) {
  const { every, spool: room, source, by, count } = settings
  const startOf = (at: number) => Math.floor(at / every) * every
  const counter = createUsageCounter(settings, startOf(now()))
  const spool = await openSpool({ ...room, source, ...columnNames(count), log, now })
  const sender = createSender({ spool, receiver: receiver ?? receiverOf(settings.to, place), log })
  /** Interval that is over but not on disk as a whole. Until it is, nothing else is saved. */
  let ended: UsageTable | undefined
  let leftOut = 0
  let adoptAt = 0
  let last: Promise<void> = Promise.resolve()

  /** Saves, ends an interval that is over, and takes over what dead processes left. Never rejects. */
  async function turn(): Promise<void> {
    const at = now()
    if (at >= adoptAt) {
      adoptAt = at + ADOPT_MS
      await spool.adopt()
      sender.wake()
    }
    if (leftOut > 0) {
      leftOut--
      return
    }
    // Also when the clock was set back: an interval must not go on until the clock is there again.
    if (ended === undefined && startOf(at) !== startOf(counter.table().from)) {
      // Without room the present interval goes on: what it counts stays exact.
      if (counter.table().size() === 0 || (await spool.makeRoom())) ended = counter.rotate(startOf(at))
    }
    if (!(await endInterval()) || !(await spool.save(counter.table()))) leftOut = LEFT_OUT
  }

  async function endInterval(): Promise<boolean> {
    if (ended === undefined) return true
    if (!(await spool.end(ended))) return false
    ended = undefined
    sender.wake()
    return true
  }

  function tick(): Promise<void> {
    last = last.then(turn)
    return last
  }

  const timer = setInterval(() => void tick(), SAVE_MS)
  timer.unref()
  await tick()

  /** Resolves when no interval is between memory and disk: each is in `unfiled`, or a file of the spool. */
  const settled = () => last

  /** Returns what a consumer or tenant has used in the intervals that are in memory only. */
  const unfiled = (id: string): Interval[] =>
    [counter.table(), ...(ended === undefined ? [] : [ended])].map((table) => ({
      header: { spool: '', number: 0, from: table.from, source, ...columnNames(count) },
      to: now(),
      groups: [...table.groups(id)],
      ended: false,
    }))

  const byHour = createHours({ spool, settled, unfiled, now })

  return {
    record: (r: RequestRecord): void => counter.record(r),
    tick,
    state(): MeterState {
      const { waiting, oldest, bytes, unsavedSince } = spool.read()
      const { sent, failed, problem, sentTo } = sender.counts
      return {
        groups: counter.table().size(),
        waiting,
        lag_ms: oldest === undefined ? 0 : Math.max(0, now() - oldest - every),
        spool_bytes: bytes,
        unsaved_ms: unsavedSince === undefined ? 0 : now() - unsavedSince,
        sent,
        failed,
        problem: problem ?? null,
        sent_to: sentTo === undefined ? null : new Date(sentTo).toISOString(),
      }
    },
    /** Returns what a consumer or tenant has used in the latest intervals, newest first. */
    async latest(id: string, intervals: number): Promise<MeterInterval[]> {
      await settled()
      const eventsFor = (state: MeterInterval['state'], interval: Interval): MeterInterval[] =>
        [...eventsOf(interval)].map((event) => ({ state, event }))
      const files = spool.latest(0, id)
      const found = unfiled(id).flatMap((interval) => eventsFor('counting', interval))
      let left = intervals
      for await (const { state, interval } of files) {
        found.push(...eventsFor(state === 'sent' ? 'sent' : 'waiting', interval))
        if (--left === 0) break
      }
      return found
    },
    /** Returns what a consumer has used by hour; undefined if consumers are not told apart. */
    hours: (id: string): Promise<HoursReading> | undefined =>
      by.includes('consumer') ? byHour(id) : undefined,
    /** Sends the intervals between two times again. Resolves with their number. */
    async resend(from: number, to: number): Promise<number> {
      const again = await spool.resend(from, to)
      sender.wake()
      return again
    },
    /** Saves everything, sends for some seconds, and stops. */
    async close(): Promise<void> {
      clearInterval(timer)
      await last
      if (await endInterval()) {
        ended = counter.rotate(now())
        await endInterval()
      }
      await sender.close(LAST_WORDS_MS)
      await spool.close()
    },
  }
}

function receiverOf(to: NonNullable<Config['metering']>['to'], place: number | undefined): Receiver {
  if ('http' in to) return openHttpReceiver(to.http)
  // Each worker writes a file of its own.
  const path = place === undefined ? to.file.path : to.file.path.replace(/(\.[^./]*)?$/, `.${place}$1`)
  return openFileReceiver({ ...to.file, path })
}

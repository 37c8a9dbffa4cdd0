import { performance } from 'node:perf_hooks'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { consumerPart } from '../../limiter/key.js'
import type { Share } from '../../shares.js'
import { isNear } from '../metrics/recorder.js'
import type { RequestRecord } from '../record/record.js'
import { clear, createSummary, hit, merge, type Sketch, type Summary, sketchOf } from './space-saving.js'

/**
 * Who is limited now, who is near a limit, and who costs most: of each service and tier the consumers that come most often,
 * in bounded memory. No consumer is a label of a metric; this is where they are told apart.
 */

/**
 * `limited`: requests denied. `near`: requests allowed with 80 % of the binding limit used, or more. `cost`: what allowed ones
 * took. `share`: attempts of a caller to hold more at once than one may.
 */
export const DIMENSIONS = ['limited', 'near', 'cost', 'share'] as const
export type Dimension = (typeof DIMENSIONS)[number]

/**
 * Ms. Two windows count: the one that is under way and the one before. So "now" is the last 30 to 60 s: who has stopped
 * is gone a minute later, and counts stay whole numbers with an exact bound, which a decay would not leave them. They
 * begin at whole half minutes of the clock, so that those of several processes are of the same time.
 */
export const WINDOW_MS = 30_000

/** Counters of a summary: who makes up more than one in so many is never missing. */
export const COUNTERS = 100

/**
 * Summaries at once, one for each service, tier, dimension and window in which there is something to count: with all
 * counters in use 20 MB, and 43 MB when every id is as long as it may be.
 */
const MOST_SUMMARIES = 1000

/** Longest id that is kept as it is, in UTF-16 units. */
const LONGEST = 128

export interface Top {
  /**
   * Counts one finished request. Allocates for the first consumers of a window only.
   *
   * @param now `performance.now()`
   */
  record(r: RequestRecord, now: number): void
  /** Counts an attempt of a caller that has its share already. */
  overShare(share: Pick<Share, 'name' | 'service'>, caller: string): void
  /** What has been counted of one kind, of one service or tier or of all. */
  read(question: TopQuestion): TopReading
}

export interface TopQuestion {
  readonly by: Dimension
  readonly service?: string | undefined
  readonly tier?: string | undefined
}

/** Data that JSON keeps, and that of several processes is merged by `mergeTop`. */
export interface TopReading {
  /** Unix ms: of this time. */
  readonly from: number
  readonly to: number
  /** What was not counted because there was something to count of too many services and tiers at once. */
  readonly missed: number
  readonly groups: readonly TopGroup[]
}

export interface TopGroup {
  readonly service: string
  readonly tier: string
  /** Keys are consumers, labels the limits that were binding latest, `since` is in unix ms. */
  readonly sketch: Sketch
}

interface Windows {
  current: Summary | undefined
  previous: Summary | undefined
}

interface Group {
  readonly service: string
  readonly tier: string
  /** As DIMENSIONS. */
  readonly windows: readonly [Windows, Windows, Windows, Windows]
}

interface Clock {
  /** Unix ms. */
  readonly wall: () => number
  /** Ms that only go forward. */
  readonly steady: () => number
}

const CLOCK: Clock = { wall: Date.now, steady: () => performance.now() }

export function createTop({ wall, steady }: Clock = CLOCK): Top {
  /** By service and tier as JSON. There are as many as configurations have named. */
  const groups = new Map<string, Group>()
  const tables = new WeakMap<Snapshot, (Group | undefined)[]>()
  const free: Summary[] = []
  let made = 0
  let missed = 0
  let missedBefore = 0
  let snapshot: Snapshot | undefined
  let table: (Group | undefined)[] = []
  /** Number of the present window, and the steady time at which it is over. */
  let window = Math.floor(wall() / WINDOW_MS)
  let over = steady() + WINDOW_MS - (wall() % WINDOW_MS)
  /** Wall less steady time. */
  let offset = wall() - steady()
  let began = wall()

  function turn(now: number): void {
    const time = wall()
    offset = time - now
    over = now + WINDOW_MS - (time % WINDOW_MS)
    const next = Math.floor(time / WINDOW_MS)
    // Unless nothing has been counted for long, or the clock was set.
    const follows = next === window + 1 || next === window
    if (next < window) began = time
    window = next
    missedBefore = follows ? missed : 0
    missed = 0
    for (const { windows } of groups.values()) {
      for (const one of windows) {
        release(one.previous)
        one.previous = one.current
        one.current = undefined
        if (follows) continue
        release(one.previous)
        one.previous = undefined
      }
    }
  }

  function release(summary: Summary | undefined): void {
    if (summary === undefined) return
    clear(summary)
    free.push(summary)
  }

  function borrow(): Summary | undefined {
    const found = free.pop()
    if (found !== undefined || made === MOST_SUMMARIES) return found
    made++
    return createSummary(COUNTERS)
  }

  function groupOf(r: RequestRecord): Group {
    if (r.snapshot !== snapshot) {
      snapshot = r.snapshot
      table = tables.get(snapshot) ?? []
      tables.set(snapshot, table)
    }
    const service = r.route!.quotaOf
    const at = service.index * r.snapshot.tiers.length + r.tier
    let group = table[at]
    if (group === undefined) {
      group = groupNamed(service.name, r.snapshot.tiers[r.tier]!)
      table[at] = group
    }
    return group
  }

  function groupNamed(service: string, tier: string): Group {
    const name = JSON.stringify([service, tier])
    let group = groups.get(name)
    if (group === undefined) {
      group = { service, tier, windows: [{ ...NONE }, { ...NONE }, { ...NONE }, { ...NONE }] }
      groups.set(name, group)
    }
    return group
  }

  function count(windows: Windows, consumer: string, weight: number, limit: string, now: number): void {
    windows.current ??= borrow()
    if (windows.current === undefined) {
      missed++
      return
    }
    const fresh = hit(windows.current, consumer, weight, limit, now + offset)
    if (fresh === undefined) return
    const before = windows.previous?.counters.get(consumer)
    if (before !== undefined) fresh.since = before.since
  }

  function record(r: RequestRecord, now: number): void {
    if (now >= over) turn(now)
    const { route, consumer, decision, tier } = r
    if (route === undefined || consumer === undefined || tier < 0) return
    if (decision === undefined) {
      // Unlimited, if it got as far as an upstream.
      if (r.upstream === undefined) return
      countCost(r, groupOf(r), keyOf(consumer), '', now)
      return
    }
    const { decidedBy } = decision
    // Those two look at no limit: one lets everything pass, and one nothing.
    if (decidedBy === 'closed') return
    const limit = decidedBy === 'open' ? undefined : r.policy?.limits[decision.binding]
    const group = groupOf(r)
    const key = keyOf(consumer)
    const name = limit?.name ?? ''
    if (!decision.allowed) {
      count(group.windows[0], key, 1, name, now)
      return
    }
    if (isNear(decision, limit)) count(group.windows[1], key, 1, name, now)
    countCost(r, group, key, name, now)
  }

  function countCost(r: RequestRecord, group: Group, key: string, limit: string, now: number): void {
    const cost = r.cost ?? r.route!.cost
    if (cost > 0) count(group.windows[2], key, cost, limit, now)
  }

  return {
    record,
    overShare({ name, service }, caller) {
      const now = steady()
      if (now >= over) turn(now)
      count(groupNamed(service, 'none').windows[3], keyOf(caller), 1, name, now)
    },
    read({ by, service, tier }) {
      const now = steady()
      if (now >= over) turn(now)
      const dimension = DIMENSIONS.indexOf(by)
      const read: TopGroup[] = []
      for (const group of groups.values()) {
        if (service !== undefined && group.service !== service) continue
        if (tier !== undefined && group.tier !== tier) continue
        const { current, previous } = group.windows[dimension]!
        const counted = [current, previous].flatMap((one) => (one === undefined ? [] : [sketchOf(one)]))
        if (counted.length === 0) continue
        read.push({ service: group.service, tier: group.tier, sketch: merge(counted, COUNTERS) })
      }
      const from = Math.max((window - 1) * WINDOW_MS, began)
      return { from, to: now + offset, missed: missed + missedBefore, groups: read }
    },
  }
}

const NONE: Windows = { current: undefined, previous: undefined }

/** What a consumer is counted under: its id, or of a long one the beginning and a hash of the whole. */
function keyOf(consumer: string): string {
  if (consumer.length <= LONGEST) return consumer
  return `${consumer.slice(0, 64)}…${consumerPart(consumer)}`
}

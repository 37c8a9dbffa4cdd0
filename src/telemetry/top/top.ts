import { performance } from 'node:perf_hooks'
import { getOrAdd } from '../../common/maps.js'
import { consumerPart } from '../../limiter/key.js'
import type { Share } from '../../shares.js'
import { isNear } from '../metrics/recorder.js'
import { perSnapshot } from '../record/per-snapshot.js'
import type { RequestRecord } from '../record/record.js'
import { clear, createSummary, hit, merge, type Sketch, type Summary, sketchOf } from './space-saving.js'

/**
 * Finds the consumers that are limited now, near a limit, or cost most: for each service and tier, the most frequent
 * consumers, in bounded memory. No metric has a consumer as a label; this is where consumers are told apart.
 */

/**
 * `limited`: requests denied. `near`: requests allowed with 80 % of the binding limit used, or more. `cost`: cost of
 * allowed requests. `share`: attempts of a caller to hold more at once than its share.
 */
export const DIMENSIONS = ['limited', 'near', 'cost', 'share'] as const
export type Dimension = (typeof DIMENSIONS)[number]

/**
 * Ms of a window. Two windows count: the current one and the one before. So "now" means the last 30 to 60 s: a consumer
 * that has stopped is gone a minute later. Counts stay whole numbers with an exact bound, unlike with a decay. Windows
 * begin at whole half minutes of the clock, so that those of several processes match in time.
 */
export const WINDOW_MS = 30_000

/** Counters in a summary: a consumer with more than 1 / COUNTERS of the total is never missing. */
export const COUNTERS = 100

/**
 * Most summaries at once, one for each service, tier, dimension and window with something to count. With all counters
 * in use they take 20 MB, and 43 MB when every id has the greatest length.
 */
const MOST_SUMMARIES = 1000

/** Longest id that is kept unchanged, in UTF-16 units. */
const LONGEST = 128

export type Top = ReturnType<typeof createTop>

export interface TopQuestion {
  readonly by: Dimension
  readonly service?: string | undefined
  readonly tier?: string | undefined
}

/** JSON data; `mergeTop` merges that of several processes. */
export interface TopReading {
  /** Start of the period, Unix ms. */
  readonly from: number
  readonly to: number
  /** Amount that was not counted, since too many services and tiers had something to count at once. */
  readonly missed: number
  readonly groups: readonly TopGroup[]
}

export interface TopGroup {
  readonly service: string
  readonly tier: string
  /** Keys are consumers, labels the limits that were binding last; `since` is in Unix ms. */
  readonly sketch: Sketch
}

interface Windows {
  current: Summary | undefined
  previous: Summary | undefined
}

interface Group {
  readonly service: string
  readonly tier: string
  /** Windows in the order of DIMENSIONS. */
  readonly windows: readonly [Windows, Windows, Windows, Windows]
}

interface Clock {
  /** Returns the current time in Unix ms. */
  readonly wall: () => number
  /** Returns ms that only go forward. */
  readonly steady: () => number
}

const CLOCK: Clock = { wall: Date.now, steady: () => performance.now() }

export function createTop({ wall, steady }: Clock = CLOCK) {
  /** Groups by service and tier as JSON. There are as many as configurations have named. */
  const groups = new Map<string, Group>()
  const tableOf = perSnapshot((): (Group | undefined)[] => [])
  const free: Summary[] = []
  let made = 0
  let missed = 0
  let missedBefore = 0
  /** Number of the current window, and the steady time at which it ends. */
  let window = Math.floor(wall() / WINDOW_MS)
  let over = steady() + WINDOW_MS - (wall() % WINDOW_MS)
  /** Wall time minus steady time. */
  let offset = wall() - steady()
  let began = wall()

  function turn(now: number): void {
    const time = wall()
    offset = time - now
    over = now + WINDOW_MS - (time % WINDOW_MS)
    const next = Math.floor(time / WINDOW_MS)
    // False if nothing has been counted for long, or the clock was set.
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
    const table = tableOf(r.snapshot)
    const service = r.route!.quotaOf
    const at = service.index * r.snapshot.tiers.length + r.tier
    table[at] ??= groupNamed(service.name, r.snapshot.tiers[r.tier]!)
    return table[at]
  }

  function groupNamed(service: string, tier: string): Group {
    return getOrAdd(groups, JSON.stringify([service, tier]), () => ({
      ...{ service, tier },
      windows: [{ ...NONE }, { ...NONE }, { ...NONE }, { ...NONE }],
    }))
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
      // An unlimited request counts if it reached an upstream.
      if (r.upstream === undefined) return
      countCost(r, groupOf(r), keyOf(consumer), '', now)
      return
    }
    const { decidedBy } = decision
    // These two check no limit: one lets every request pass, the other none.
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
    /**
     * Counts one finished request. Allocates only for the first consumers of a window.
     *
     * @param now `performance.now()`
     */
    record,
    /** Counts an attempt of a caller that already has its share. */
    overShare({ name, service }: Pick<Share, 'name' | 'service'>, caller: string): void {
      const now = steady()
      if (now >= over) turn(now)
      count(groupNamed(service, 'none').windows[3], keyOf(caller), 1, name, now)
    },
    /** Returns the counts of one dimension, for one service or tier, or for all. */
    read({ by, service, tier }: TopQuestion): TopReading {
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

/**
 * Returns the key under which a consumer is counted: its id, or for a long id, its beginning and a hash of the whole.
 */
function keyOf(consumer: string): string {
  if (consumer.length <= LONGEST) return consumer
  return `${consumer.slice(0, 64)}…${consumerPart(consumer)}`
}

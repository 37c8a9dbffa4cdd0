import { constants, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics } from 'node:v8'
import type { Config } from '../../config/schema/schema.js'
import { oldGenerationLimit } from '../../limiter/heap-room.js'

export type Overloaded = 'event_loop' | 'heap'

/** What is read of the process once in a while. */
export interface Readings {
  /** Ms: the 99th percentile since it was last asked. */
  eventLoopDelay(): number
  /** Percent of what the heap may hold before V8 ends the process, without its garbage. */
  heap(): number
  close(): void
}

export interface Overload {
  /** How much is shed, from 0 to 1: at a half, the lower half of the classes. */
  pressure: number
  /** Whether a request of this class is shed, and why. To be asked only while `pressure` is above 0. */
  sheds(rank: number, classes: number): Overloaded | undefined
  /** Of each reason how much is shed for it. */
  describe(): Readonly<Record<Overloaded, number>>
  close(): void
}

export interface OverloadOptions {
  readonly settings: Config['server']['shed']
  /** Called once, when the heap has been too full for too long: it is time to go. */
  readonly exhausted: (heap: number) => void
  readonly readings?: Readings
  readonly random?: () => number
  /** Undefined: nobody looks but `tick`. */
  readonly tickMs?: number | undefined
}

const TICK_MS = 500
/** What is above its mark so often in a row, for 2 s, is no single pause, and no neighbour that took the CPU for a moment. */
const PATIENCE = 4
/** How much more, or less, is shed at a time. */
const STEP = 1 / 4
/** Below this share of the mark less is shed. Between the two it stays as it is. */
const RELIEF = 0.8
/** The heap is above `exit_heap` for so many looks. */
const EXIT_AFTER = 4

/**
 * Watches the process, and says who is turned away while it cannot keep up: the lowest class first, and more with every half
 * second that it lasts. The last class is shed in part, then in whole, before the next one is touched.
 */
export function createOverload(options: OverloadOptions): Overload & { tick(): void } {
  const {
    settings,
    exhausted,
    readings = readingsOfProcess(),
    random = Math.random,
    tickMs = TICK_MS,
  } = options
  const loop = gauge(settings.event_loop_delay)
  const heap = gauge(settings.heap)
  let fullFor = 0

  function tick(): void {
    loop.look(readings.eventLoopDelay())
    const full = readings.heap()
    heap.look(full)
    overload.pressure = Math.max(loop.pressure, heap.pressure)
    fullFor = settings.exit_heap > 0 && full > settings.exit_heap ? fullFor + 1 : 0
    if (fullFor === EXIT_AFTER) exhausted(full)
  }

  const timer = setInterval(tick, tickMs)
  timer.unref()
  const overload: Overload & { tick(): void } = {
    pressure: 0,
    sheds(rank, classes) {
      const share = overload.pressure * classes - rank
      if (share <= 0 || (share < 1 && random() >= share)) return undefined
      return loop.pressure >= heap.pressure ? 'event_loop' : 'heap'
    },
    describe: () => ({ event_loop: loop.pressure, heap: heap.pressure }),
    tick,
    close() {
      clearInterval(timer)
      readings.close()
    },
  }
  return overload
}

/** One thing that may be too much. @param mark 0: never */
function gauge(mark: number) {
  let above = 0
  const own = {
    pressure: 0,
    look(value: number): void {
      if (mark === 0) return
      above = value > mark ? above + 1 : 0
      if (above >= PATIENCE) own.pressure = Math.min(1, own.pressure + STEP)
      else if (value < mark * RELIEF) own.pressure = Math.max(0, own.pressure - STEP)
    },
  }
  return own
}

const RESOLUTION_MS = 10
/**
 * From this share of the old generation on V8 ends the process: after four collections in a row that left more, and took
 * more than 60 % of the time (`Heap::CheckIneffectiveMarkCompact`). Seen at 82 % of 64 MiB.
 */
const ENDS_AT = 0.8

function readingsOfProcess(): Readings {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  const limit = oldGenerationLimit() * ENDS_AT
  /** Bytes that the latest collection of the old generation has left. Between two of them garbage fills it in any case. */
  let left = oldGenerationBytes()
  const collections = new PerformanceObserver((list) => {
    if (list.getEntries().some(isMajor)) left = oldGenerationBytes()
  })
  collections.observe({ entryTypes: ['gc'] })
  return {
    eventLoopDelay() {
      // It measures its own timer: what lies above its period is delay. NaN before the first measurement.
      const p99 = delay.percentile(99) / 1e6 - RESOLUTION_MS
      delay.reset()
      return Number.isNaN(p99) ? 0 : p99
    },
    heap: () => (left / limit) * 100,
    close() {
      delay.disable()
      collections.disconnect()
    },
  }
}

function isMajor(collection: object): boolean {
  return (collection as { detail?: { kind?: number } }).detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR
}

/** Of all spaces but those of the young generation: what V8 holds against its limit. */
function oldGenerationBytes(): number {
  let bytes = 0
  for (const { space_name: name, space_used_size: used } of getHeapSpaceStatistics())
    if (!name.startsWith('new_')) bytes += used
  return bytes
}

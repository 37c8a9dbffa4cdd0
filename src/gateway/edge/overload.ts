import { constants, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics } from 'node:v8'
import type { Config } from '../../config/schema/schema.js'
import { oldGenerationLimit } from '../../limiter/heap-room.js'

export type Overloaded = 'event_loop' | 'heap'

export interface OverloadOptions {
  readonly settings: Config['server']['shed']
  /** Called once, when the heap has been too full for too long: the process should end. */
  readonly exhausted: (heap: number) => void
  readonly readings?: ReturnType<typeof readingsOfProcess>
  readonly random?: () => number
  /** Interval of the measurements, in ms; undefined if only `tick` measures. */
  readonly tickMs?: number | undefined
}

const TICK_MS = 500
/**
 * Measurements in a row above the mark, for 2 s, that count as overload. A single pause, or a neighbour that took the
 * CPU for a moment, does not.
 */
const PATIENCE = 4
/** Change of the pressure per step. */
const STEP = 1 / 4
/** Share of the mark below which the pressure decreases. Between the two it does not change. */
const RELIEF = 0.8
/** Measurements in a row above `exit_heap` after which the process ends. */
const EXIT_AFTER = 4

export type Overload = ReturnType<typeof createOverload>

/**
 * Measures the process, and decides which requests are shed while it is overloaded: the lowest class first, and more
 * with every half second that the overload lasts. The last class is shed in part, then as a whole, before the next one.
 */
export function createOverload(options: OverloadOptions) {
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

  const timer = setInterval(tick, tickMs).unref()
  const overload = {
    /** Share of the classes that is shed, from 0 to 1: at 0.5, the lower half. */
    pressure: 0,
    /** Returns why a request of this class is shed, if it is. Call it only while `pressure` is above 0. */
    sheds(rank: number, classes: number): Overloaded | undefined {
      const share = overload.pressure * classes - rank
      if (share <= 0 || (share < 1 && random() >= share)) return undefined
      return loop.pressure >= heap.pressure ? 'event_loop' : 'heap'
    },
    /** Returns the pressure for each reason. */
    describe: (): Readonly<Record<Overloaded, number>> => ({
      event_loop: loop.pressure,
      heap: heap.pressure,
    }),
    tick,
    close(): void {
      clearInterval(timer)
      readings.close()
    },
  }
  return overload
}

/**
 * Tracks one measurement.
 *
 * @param mark limit; 0 for none
 */
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
 * Share of the old generation from which V8 ends the process: after four collections in a row that left more, and took
 * more than 60 % of the time (`Heap::CheckIneffectiveMarkCompact`). Seen at 82 % of 64 MiB.
 */
const ENDS_AT = 0.8

/** Measures the process. */
function readingsOfProcess() {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  const limit = oldGenerationLimit() * ENDS_AT
  /**
   * Bytes left by the latest collection of the old generation. Between two collections, garbage fills it in any case.
   */
  let left = oldGenerationBytes()
  const collections = new PerformanceObserver((list) => {
    if (list.getEntries().some(isMajor)) left = oldGenerationBytes()
  })
  collections.observe({ entryTypes: ['gc'] })
  return {
    /** Returns the 99th percentile of the delay since the last call, in ms. */
    eventLoopDelay(): number {
      // The monitor measures its own timer: only the time above its period is delay. NaN before the first measurement.
      const p99 = delay.percentile(99) / 1e6 - RESOLUTION_MS
      delay.reset()
      return Number.isNaN(p99) ? 0 : p99
    },
    /** Returns the used heap without garbage, in percent of what it may hold before V8 ends the process. */
    heap: (): number => (left / limit) * 100,
    close(): void {
      delay.disable()
      collections.disconnect()
    },
  }
}

function isMajor(collection: object): boolean {
  return (collection as { detail?: { kind?: number } }).detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR
}

/** Returns the bytes of all spaces except the young generation: V8 compares them with its limit. */
function oldGenerationBytes(): number {
  let bytes = 0
  for (const { space_name: name, space_used_size: used } of getHeapSpaceStatistics())
    if (!name.startsWith('new_')) bytes += used
  return bytes
}

import { performance } from 'node:perf_hooks'
import type { Breakable } from './faults.js'

/** Something under way that has to end in time. */
export interface Watched extends Breakable {
  /** Called every tick with `performance.now()`; ends itself when it is past its time. */
  check(now: number): void
  /** The watchdog's own: where it stands in its list, -1 when it does not. */
  watchSlot?: number
}

export interface Watchdog {
  add(watched: Watched): void
  delete(watched: Watched): void
  /** `performance.now()` at the next tick, roughly: free, and what is timed from it never ends too early. */
  now(): number
  /** Of what is under way now. */
  size(): number
  close(): void
}

/**
 * One timer for all that is under way, instead of two or three a request. Every limit of time is kept to within two
 * ticks, and late rather than early.
 *
 * A list with slots, and no Set: a Set leaves its old table behind each time it has seen so many deletions, with all that
 * was under way then still in it and a pointer to the next table. Once one such table has grown old, every later one
 * survives with it, and each request is copied by the collector, which took a fifth of the gateway's CPU.
 */
export function createWatchdog(tickMs = 100): Watchdog {
  const watched: Watched[] = []
  let now = performance.now()
  let checking: NodeJS.Immediate | undefined
  const timer = setInterval(() => {
    now = performance.now()
    // After a stall, what has come in meanwhile is read before anything is held to be late.
    checking = setImmediate(() => {
      // Backwards: what is deleted meanwhile is replaced by one that has been checked.
      for (let i = watched.length - 1; i >= 0; i--) {
        const one = watched[i]
        try {
          one?.check(now)
        } catch (error) {
          one!.broken(error)
        }
      }
    })
  }, tickMs)
  timer.unref()
  return {
    add(one) {
      if ((one.watchSlot ?? -1) >= 0) return
      one.watchSlot = watched.length
      watched.push(one)
    },
    delete(one) {
      const slot = one.watchSlot ?? -1
      if (slot < 0) return
      one.watchSlot = -1
      const last = watched.pop()!
      if (last === one) return
      watched[slot] = last
      last.watchSlot = slot
    },
    now: () => now + tickMs,
    size: () => watched.length,
    close() {
      clearInterval(timer)
      clearImmediate(checking)
    },
  }
}

import { performance } from 'node:perf_hooks'

/** Something under way that has to end in time. */
export interface Watched {
  /** Called every tick with `performance.now()`; ends itself when it is past its time. Must not throw. */
  check(now: number): void
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
 */
export function createWatchdog(tickMs = 100): Watchdog {
  const watched = new Set<Watched>()
  let now = performance.now()
  let checking: NodeJS.Immediate | undefined
  const timer = setInterval(() => {
    now = performance.now()
    // After a stall, what has come in meanwhile is read before anything is held to be late.
    checking = setImmediate(() => {
      for (const one of watched) one.check(now)
    })
  }, tickMs)
  timer.unref()
  return {
    add: (one) => void watched.add(one),
    delete: (one) => void watched.delete(one),
    now: () => now + tickMs,
    size: () => watched.size,
    close() {
      clearInterval(timer)
      clearImmediate(checking)
    },
  }
}

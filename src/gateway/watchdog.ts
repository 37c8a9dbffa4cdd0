import { performance } from 'node:perf_hooks'

/** Something under way that has to end in time. */
export interface Watched {
  /** Called every tick with `performance.now()`; ends itself when it is past its time. Must not throw. */
  check(now: number): void
}

export interface Watchdog {
  add(watched: Watched): void
  delete(watched: Watched): void
  /** `performance.now()` as of the last tick: exact enough to time out by, and free. */
  now(): number
  /** Of what is under way now. */
  size(): number
  close(): void
}

/**
 * One timer for all that is under way, instead of two or three a request. Every limit of time is kept to within
 * `tickMs`.
 */
export function createWatchdog(tickMs = 100): Watchdog {
  const watched = new Set<Watched>()
  let now = performance.now()
  const timer = setInterval(() => {
    now = performance.now()
    for (const one of watched) one.check(now)
  }, tickMs)
  timer.unref()
  return {
    add: (one) => void watched.add(one),
    delete: (one) => void watched.delete(one),
    now: () => now,
    size: () => watched.size,
    close: () => clearInterval(timer),
  }
}

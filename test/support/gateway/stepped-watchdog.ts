import type { Watchdog, Watched } from '../../../src/gateway/exchange/watchdog.js'

export interface SteppedWatchdog extends Watchdog {
  /** Moves the time on and checks everything that is watched. */
  pass(ms: number): void
}

/** Returns a watchdog whose time stands still until a test moves it. */
export function createSteppedWatchdog(): SteppedWatchdog {
  const watched = new Set<Watched>()
  // A fraction would make a limit that is just reached look exceeded.
  let now = Math.floor(performance.now())
  return {
    add: (one) => void watched.add(one),
    delete: (one) => void watched.delete(one),
    now: () => now,
    size: () => watched.size,
    close() {},
    pass(ms) {
      now += ms
      for (const one of [...watched]) one.check(now)
    },
  }
}

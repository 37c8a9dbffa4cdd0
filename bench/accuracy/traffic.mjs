/**
 * Traffic that limiters are judged by: arrival times in unix ms, from a seed, so that the same seed gives the same requests on
 * every machine. One consumer, cost 1.
 */
import { exponential, randomFrom } from '../harness/random.mjs'

export const LIMIT = 100
export const WINDOW_MS = 60_000
/** A multiple of the window, so that windows of all algorithms begin where they would in production. */
const START = 1_800_000_000_000

/** Independent callers: on average `load` times the limit arrives in a window. */
function* poisson(load, windows, random) {
  const end = START + windows * WINDOW_MS
  for (let at = START; ; ) {
    at += exponential(random, WINDOW_MS / (load * LIMIT))
    if (at >= end) return
    yield Math.floor(at)
  }
}

/** Bursts: four times the limit's rate while on, nothing while off; on a quarter of the time, for a quarter window on average. */
function* onOff(windows, random) {
  const end = START + windows * WINDOW_MS
  for (let at = START; at < end; ) {
    at += exponential(random, (3 * WINDOW_MS) / 4)
    const off = at + exponential(random, WINDOW_MS / 4)
    for (;;) {
      at += exponential(random, WINDOW_MS / (4 * LIMIT))
      if (at >= off || at >= end) break
      yield Math.floor(at)
    }
  }
}

/**
 * An attacker who knows how windows are cut: rests for a window, spends the limit in the last 50 ms of the next, asks ten times
 * as often as allowed for nearly a window from the boundary on, and rests again. Four windows a round.
 */
function* boundary(windows) {
  const burst = 50
  for (let round = START; round + 4 * WINDOW_MS <= START + windows * WINDOW_MS; round += 4 * WINDOW_MS) {
    const edge = round + 2 * WINDOW_MS
    for (let i = 0; i < LIMIT; i++) yield edge - burst + Math.floor((i * burst) / LIMIT)
    for (let at = edge; at < edge + WINDOW_MS - burst; at += WINDOW_MS / (10 * LIMIT)) yield at
  }
}

/** The marks for admitted volume hold on `steady` classes. */
export const CLASSES = [
  { name: 'Poisson, 0.8 of the limit', steady: true, arrivals: (n, random) => poisson(0.8, n, random) },
  { name: 'Poisson, 1.0 of the limit', steady: true, arrivals: (n, random) => poisson(1, n, random) },
  { name: 'Poisson, 1.5 of the limit', steady: true, arrivals: (n, random) => poisson(1.5, n, random) },
  { name: 'on/off, bursts of 4 × the limit', steady: false, arrivals: onOff },
  { name: 'attack on the boundary', steady: false, arrivals: boundary },
]

/** @param windows how many windows of traffic; for the attack a multiple of 4 */
export function arrivalsOf(trafficClass, windows, seed) {
  const index = CLASSES.indexOf(trafficClass)
  return trafficClass.arrivals(windows, randomFrom(seed * 1000 + index))
}

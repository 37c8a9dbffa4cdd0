/** Part of a pino logger that most rooms need. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** A minute, in ms: how often what goes on for long is logged. */
export const A_MINUTE = 60_000

/**
 * Creates a gate that opens at most once in `everyMs`, so that a fault that each request meets does not fill the log.
 *
 * @param clock in ms, monotonic; a caller may also bring the time
 * @returns a function that returns how often the gate was shut since it was open last; -1: it is shut now
 */
export function createThrottle(everyMs: number, clock = () => performance.now()): (now?: number) => number {
  let last = Number.NEGATIVE_INFINITY
  let shut = 0
  return (now = clock()) => {
    if (now - last < everyMs) {
      shut++
      return -1
    }
    const before = shut
    last = now
    shut = 0
    return before
  }
}

/**
 * Creates a function that warns at most once in `everyMs` (1 s). A line reports how many were suppressed before it.
 *
 * @param clock in ms, monotonic; a caller may also bring the time
 */
export function throttledWarning(log: Pick<Log, 'warn'>, everyMs = 1000, clock?: () => number) {
  const opened = createThrottle(everyMs, clock)
  return (fields: object, message: string, now?: number): void => {
    const suppressed = opened(now)
    if (suppressed >= 0) log.warn(suppressed === 0 ? fields : { ...fields, suppressed }, message)
  }
}

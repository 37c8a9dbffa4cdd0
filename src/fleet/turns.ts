/** Runs what is given, or lets it wait for its turn. */
export type Turn = <T>(work: () => Promise<T>) => Promise<T>

/** Lets at most so many run at the same time. The others wait, the first the shortest. */
export function createTurns(atOnce: number): Turn {
  const waiting: (() => void)[] = []
  let running = 0
  return async (work) => {
    if (running < atOnce) running++
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      // The next one takes over this place.
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
    }
  }
}

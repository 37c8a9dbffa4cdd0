/** Returns a promise with the functions that settle it. */
export function deferred<T = void>() {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const promise = new Promise<T>((resolves, rejects) => {
    resolve = resolves
    reject = rejects
  })
  return { promise, resolve, reject }
}

/**
 * Settles as a promise does. After `ms` it resolves with what `late` returns, or rejects with what it throws. Its timer
 * keeps the process alive until then.
 */
export async function withTimeout<T, L>(promise: T | Promise<T>, ms: number, late: () => L): Promise<T | L> {
  const { promise: over, resolve } = deferred()
  const timer = setTimeout(resolve, ms)
  return Promise.race([promise, over.then(late)]).finally(() => clearTimeout(timer))
}

/** Runs what is given, or lets it wait for its turn. */
export type Turn = <T>(work: () => Promise<T>) => Promise<T>

/** Lets at most so many run at the same time. The others wait, the first the shortest. */
export function limitConcurrency(atOnce: number): Turn {
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

import { setTimeout as delay } from 'node:timers/promises'
import { Unavailable } from './command.js'

/** Pauses before the second and each later attempt, in ms: together a minute, longer than a split of the store takes. */
const PAUSES = [1000, 2000, 4000, 8000, 15_000, 30_000]

/**
 * Runs work that may safely run twice, again after each `Unavailable`, until all pauses are used.
 *
 * @param tell is called before each pause
 */
export async function tryAgain<T>(
  work: () => Promise<T>,
  tell: (error: Unavailable, pauseMs: number) => void,
  pauses: readonly number[] = PAUSES,
): Promise<T> {
  for (const pause of pauses) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error
      tell(error, pause)
      await delay(pause)
    }
  }
  return work()
}

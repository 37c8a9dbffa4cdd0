import { getHeapStatistics } from 'node:v8'

/** Share of the heap for the old generation when V8 chooses the sizes itself: 95 to 98 %. */
const OLD_SHARE = 0.95
/** Share of the old generation that counters may take. */
const COUNTERS_SHARE = 0.5
/**
 * Size of one counter with two windows and a long id, in bytes: 370 to 490 in `local`, plus its entry of recent use.
 */
const COUNTER_BYTES = 640

/**
 * Returns the limit of V8's old generation in bytes. `heap_size_limit` is more than that, by
 * 48 to 192 MiB of young generation where `--max-old-space-size` is given (Node 20 to 26), so that a heap of 128 MiB
 * would be full at 73 % of it.
 */
export function oldGenerationLimit(
  flags: readonly string[] = [...(process.env.NODE_OPTIONS ?? '').split(/\s+/), ...process.execArgv],
  heapLimit: number = getHeapStatistics().heap_size_limit,
): number {
  // The last flag counts, and the command line comes after the environment.
  const given = flags.findLast((flag) => /^--max[-_]old[-_]space[-_]size=\d+$/.test(flag))
  return given === undefined ? heapLimit * OLD_SHARE : Number(given.split('=')[1]) * 1024 ** 2
}

/** Returns how many counters are kept: the configured number, or fewer if the heap has no room for them. */
export function countersThatFit(configured: number, limit = oldGenerationLimit()): number {
  return Math.min(configured, Math.max(1, Math.floor((limit * COUNTERS_SHARE) / COUNTER_BYTES)))
}

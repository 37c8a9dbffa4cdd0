import { getHeapStatistics } from 'node:v8'

/** Share of the heap that V8 does not give to its young generation when it chooses the sizes itself: 95 to 98 %. */
const OLD_SHARE = 0.95
/** Share of the old generation that counters may take. */
const COUNTERS_SHARE = 0.5
/** Bytes of one counter with two windows and a long id: 370 to 490 in `local`, and what was seen of it lately. */
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
  // The last one counts, and those of the command line come behind those of the environment.
  const given = flags.findLast((flag) => /^--max[-_]old[-_]space[-_]size=\d+$/.test(flag))
  return given === undefined ? heapLimit * OLD_SHARE : Number(given.split('=')[1]) * 1024 ** 2
}

/** Returns how many counters are kept: what is configured, or fewer where the heap has no room for so many. */
export function countersThatFit(configured: number, limit = oldGenerationLimit()): number {
  return Math.min(configured, Math.max(1, Math.floor((limit * COUNTERS_SHARE) / COUNTER_BYTES)))
}

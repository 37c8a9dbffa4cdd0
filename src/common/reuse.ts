import { setTimeout as delay } from 'node:timers/promises'

/** Most answers that are kept; the oldest goes first. */
const MOST_KEPT = 100
/** Longest wait for a read to begin, in ms. */
const LONGEST_WAIT = 3000

/**
 * Creates a reader whose answers are reused for some ms: any number of people may look, and the work is done once.
 *
 * @param read is called with a key for which no answer is fresh. Its promise is shared from the start, an error too
 * @param apart least time between the beginnings of two reads, in ms. A read waits for its turn, and answers for more
 *   keys are reused for longer, so that up to 100 keys that are asked for again and again keep to it
 */
export function reuse<K, A>(ms: number, read: (key: K) => Promise<A>, apart = 0): (key: K) => Promise<A> {
  const latest = new Map<string, { readonly until: number; readonly answer: Promise<A> }>()
  let next = 0
  return (key) => {
    const now = performance.now()
    for (const [name, { until }] of latest) if (until <= now) latest.delete(name)
    const name = JSON.stringify(key) ?? ''
    const known = latest.get(name)
    if (known !== undefined) return known.answer
    if (latest.size >= MOST_KEPT) latest.delete(latest.keys().next().value!)
    const begin = Math.min(Math.max(now, next), now + LONGEST_WAIT)
    next = begin + apart
    const answer = begin === now ? read(key) : delay(begin - now).then(() => read(key))
    latest.set(name, { until: begin + Math.max(ms, (latest.size + 1) * apart), answer })
    return answer
  }
}

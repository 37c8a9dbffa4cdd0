import { setTimeout as delay } from 'node:timers/promises'

/** Most answers that are kept; the oldest goes first. */
const MOST_KEPT = 100
/** Longest wait for a read to begin, in ms. */
const LONGEST_WAIT = 5000

/**
 * Creates a reader whose answers are reused for some ms: any number of people may look, and the work is done once.
 *
 * @param read is called with a key for which no answer is fresh. Its promise is shared from the start, an error too
 * @param apart least time between the beginnings of two reads, in ms. Until it has passed, a key keeps its older answer,
 *   and the first read of a key waits
 */
export function reuse<K, A>(ms: number, read: (key: K) => Promise<A>, apart = 0): (key: K) => Promise<A> {
  const latest = new Map<string, { readonly at: number; readonly answer: Promise<A> }>()
  /** Ms for which an answer is kept: until it would be the turn of its key if all were asked for. */
  const kept = Math.max(ms, MOST_KEPT * apart)
  let next = 0
  return (key) => {
    const now = performance.now()
    for (const [name, { at }] of latest) if (at + kept <= now) latest.delete(name)
    const name = JSON.stringify(key) ?? ''
    const known = latest.get(name)
    if (known !== undefined && (now < known.at + ms || now < next)) return known.answer
    const begin = Math.min(Math.max(now, next), now + LONGEST_WAIT)
    next = begin + apart
    const answer = begin === now ? read(key) : delay(begin - now).then(() => read(key))
    latest.delete(name)
    if (latest.size >= MOST_KEPT) latest.delete(latest.keys().next().value!)
    latest.set(name, { at: begin, answer })
    return answer
  }
}

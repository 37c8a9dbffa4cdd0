/**
 * Creates a reader whose answers are reused for some ms: any number of people may look, and the work is done once.
 *
 * @param read is called with a key for which no answer is fresh. Its promise is shared from the start, an error too
 */
export function reuse<K, A>(ms: number, read: (key: K) => Promise<A>): (key: K) => Promise<A> {
  const latest = new Map<string, { readonly until: number; readonly answer: Promise<A> }>()
  return (key) => {
    const now = performance.now()
    for (const [name, { until }] of latest) if (until <= now) latest.delete(name)
    const name = JSON.stringify(key) ?? ''
    const known = latest.get(name)
    if (known !== undefined) return known.answer
    const answer = read(key)
    latest.set(name, { until: now + ms, answer })
    return answer
  }
}

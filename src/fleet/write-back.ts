import { runRestore, type StoredValue } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import type { Copy } from './recent-copy.js'
import type { MapShape } from './replicated-map.js'

export interface WriteBackOptions {
  /** Greatest number of a change that any gateway has seen. */
  readonly known: number
  /**
   * Number of the change up to which the held values are complete; undefined once they must not be written any more.
   */
  readonly change: () => number | undefined
  /** Takes over changes made meanwhile. */
  readonly look: () => Promise<void>
}

/** Values per call. Redis does nothing else during a call. */
const AT_ONCE = 200
const TIMEOUT = 1000
const MOST_TRIES = 100

/**
 * Makes the store match what is held: writes every held value, and removes everything else, or, from a recent copy, what
 * is known to be absent. A change that an operator
 * makes meanwhile is taken over first, so it is neither lost nor undone. If the write-back fails half way, it can start
 * again.
 *
 * @returns the number of values written
 */
export async function writeBack<V>(
  store: Client,
  shape: MapShape<V>,
  held: Pick<Copy<V>, 'get' | 'isWhole' | 'keys'>,
  { known, change, look }: WriteBackOptions,
): Promise<number> {
  const { name } = shape
  let written = 0

  function storedValue(key: string): StoredValue {
    const value = held.get(key)
    if (value === undefined) return { key, text: '', until: 0 }
    return { key, text: shape.write(value), until: shape.until?.(value) ?? 0 }
  }

  async function write(keys: readonly string[], isLast = false): Promise<void> {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const number = change()
      if (number === undefined) throw new Error('another operator has decided meanwhile')
      const values = keys.map(storedValue)
      // Greater than any number that a gateway has seen, so that a gateway that was away all the time finds nothing
      // missing.
      const next = isLast ? Math.max(known, number) + 1 : number
      if (await askStore(TIMEOUT, runRestore(store, name, number, next, values))) {
        written += values.filter(({ text }) => text !== '').length
        return
      }
      await look()
    }
    throw new Error('the store kept changing')
  }

  let batch: string[] = []
  // The iterator is live: values added meanwhile are included.
  for (const key of held.keys()) {
    batch.push(key)
    if (batch.length < AT_ONCE) continue
    await write(batch)
    batch = []
  }
  await write(batch)
  let cursor = '0'
  while (held.isWhole()) {
    const page: [string, string[]] = await askStore(TIMEOUT, store.hscan(name, cursor, 'COUNT', AT_ONCE))
    const others = page[1].filter((key, i) => i % 2 === 0 && held.get(key) === undefined)
    for (let i = 0; i < others.length; i += AT_ONCE) await write(others.slice(i, i + AT_ONCE))
    cursor = page[0]
    if (cursor === '0') break
  }
  await write([], true)
  return written
}

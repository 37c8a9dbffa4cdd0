import { runPut, runSweep } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { channelOf } from './pubsub.js'
import { fullError, type MapShape, writeWithin } from './replicated-map.js'

/**
 * State of a map that the store has forgotten, kept in the store at `<map>:rollback`. Gateways and operators write it.
 */
export interface Mark {
  /** `open`: no operator has decided yet. `decided`: what the store has is right. */
  readonly state: 'open' | 'decided'
  /** Unix ms, greater than in any earlier mark; -1 if there was none. */
  readonly at: number
}

const LOG_LENGTH = 10_000
const PAGE = 1000
const TIMEOUT = 1000

/**
 * Opens a map as Redis has it: its values, the number of the latest change, a log of changed keys, and a mark. Every call rejects when the store does not answer within a second.
 *
 * @param isClosed ends reading and sweeping
 * @param now clock, in unix ms
 */
export function createStoredMap<V>(
  store: Client,
  shape: MapShape<V>,
  isClosed: () => boolean,
  now: () => number,
) {
  const { name, parse } = shape
  const channel = channelOf(store, shape.channel ?? `${name}:changed`)
  const ask = <T>(question: Promise<T>) => askStore(TIMEOUT, question)
  const valueIn = (text: string | null | undefined) => (text ? parse(text) : undefined)

  /** Removes ended values, so that they do not count as present. */
  async function sweep(): Promise<void> {
    while ((await ask(runSweep(store, name, now(), PAGE))) === PAGE && !isClosed());
  }

  return {
    /** Channel on which changes are published. */
    channel,
    /** Returns the number of the latest change. */
    version: async () => Number(await ask(store.get(`${name}:version`))),
    mark: async () => readMark(await ask(store.get(`${name}:rollback`))),
    async setMark({ state, at }: Mark): Promise<void> {
      await ask(store.set(`${name}:rollback`, `${state} ${at}`))
    },
    /** Reads a value; undefined if there is none. */
    value: async (key: string) => valueIn(await ask(store.hget(name, key))),
    /** Reads values in pages, each with its keys. */
    async *values(keys: readonly string[]) {
      for (let from = 0; from < keys.length; from += PAGE) {
        const page = keys.slice(from, from + PAGE)
        const found = await ask(store.hmget(name, ...page))
        yield page.map((key, i) => [key, valueIn(found[i])] as const)
      }
    },
    /** Reads all values. */
    async all(): Promise<Map<string, V>> {
      const all = new Map<string, V>()
      let cursor = '0'
      do {
        const [next, pairs]: [string, string[]] = await ask(store.hscan(name, cursor, 'COUNT', PAGE))
        for (let i = 0; i + 1 < pairs.length; i += 2) {
          const value = valueIn(pairs[i + 1])
          if (value !== undefined) all.set(pairs[i]!, value)
        }
        cursor = next
      } while (cursor !== '0' && !isClosed())
      return all
    },
    /**
     * Reads the keys that changed after a change; undefined if the log does not reach back that far.
     *
     * @param partly true to use the log as far as it goes
     */
    async keysSince(number: number, partly: boolean): Promise<readonly string[] | undefined> {
      const [length, known] = await Promise.all([
        ask(store.zcard(`${name}:log`)),
        ask(store.zcount(`${name}:log`, '-inf', number + 1)),
      ])
      // A trimmed log reaches back far enough if it still holds a change as old as the next one.
      if (length >= LOG_LENGTH && known === 0 && !partly) return undefined
      return await ask(store.zrangebyscore(`${name}:log`, number + 1, '+inf'))
    },
    /**
     * Writes a value; undefined removes it.
     *
     * @returns the number and the text of the change; undefined if `only` did not hold
     */
    async put(only: 'present' | 'absent' | '', key: string, value: V | undefined) {
      const text = writeWithin(shape, key, value)
      if (shape.until !== undefined) await sweep()
      const number = await ask(
        runPut(store, name, {
          key,
          value: text,
          channel,
          logLength: LOG_LENGTH,
          until: (value === undefined ? undefined : shape.until?.(value)) ?? 0,
          most: shape.most,
          only,
        }),
      )
      if (number < 0) throw fullError(shape)
      return number === 0 ? undefined : { number, text }
    },
    sweep,
  }
}

/**
 * Parses a mark. Returns the initial mark for anything that is not one of ours: any client with access to the store may
 * write.
 */
function readMark(text: string | null): Mark {
  const [, state, at] = /^(open|decided) (\d{1,15})$/.exec(text ?? '') ?? []
  return state === undefined
    ? { state: 'decided', at: -1 }
    : { state: state as Mark['state'], at: Number(at) }
}

/**
 * Parses a message about a change. Returns undefined for anything that is not one of ours: any client with access to
 * the store may publish.
 */
export function readChange(message: string): [number: number, key: string, text: string] | undefined {
  try {
    const parsed: unknown = JSON.parse(message)
    if (!Array.isArray(parsed)) return undefined
    const [number, key, text] = parsed as unknown[]
    const ours = Number.isSafeInteger(number) && typeof key === 'string' && typeof text === 'string'
    return ours ? [number as number, key, text] : undefined
  } catch {
    return undefined
  }
}

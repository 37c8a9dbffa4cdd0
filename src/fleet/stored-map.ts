import { parseJson } from '../common/json.js'
import { channelOf } from '../limiter/redis/connect.js'
import { runPut, runSweep, type StoredValue } from '../limiter/redis/map-scripts.js'
import type { Client } from '../limiter/redis/run-script.js'
import { askStore } from '../limiter/redis/store-timeout.js'
import { FrozenMap, fullError, type MapShape, writeWithin } from './replicated-map.js'

/**
 * State of a map that the store has forgotten, kept in the store at `<map>:rollback`. Gateways and operators write it.
 */
export interface Mark {
  /** `open`: no operator has decided yet. `decided`: what the store has is right. */
  readonly state: 'open' | 'decided'
  /** Unix ms, greater than in any earlier mark; -1 if there was none. */
  readonly at: number
}

/**
 * Number of a map's latest change, kept at `<map>:version`. A word behind it says that the map takes no changes, from any
 * version of Tidegate: a number with a word cannot be increased.
 */
export interface Version {
  readonly number: number
  /** `frozen`: the map is complete, and takes no changes. `moved`: its values are in other shards. */
  readonly state: 'open' | 'frozen' | 'moved'
}

const LOG_LENGTH = 10_000
/** Most changes in one call. Redis does nothing else during a call. */
const AT_ONCE = 200
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
  const scan = (cursor: string) => ask(store.hscan(name, cursor, 'COUNT', PAGE))
  const valueIn = (text: string | null | undefined) => (text ? parse(text) : undefined)

  function full(): Error {
    const { what, most, mostSplit = most, mapMost } = shape
    if (mapMost !== undefined) return fullError({ what, most: mapMost })
    const split = `, or split the store (tidegate store split), which then takes ${mostSplit}`
    return fullError(shape, mostSplit > most ? split : '')
  }

  /** Removes ended values, so that they do not count as present. */
  async function sweep(): Promise<void> {
    while ((await ask(runSweep(store, name, now(), PAGE))) === PAGE && !isClosed());
  }

  return {
    /** Channel on which changes are published. */
    channel,
    version: async () => readVersion(await ask(store.get(`${name}:version`))),
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
    /**
     * Reads all values.
     *
     * @param held value that the caller has for a key. It is kept where the store has the same.
     */
    async all(held: (key: string) => V | undefined = () => undefined): Promise<Map<string, V>> {
      const all = new Map<string, V>()
      for await (const page of pagesOf(scan)) {
        for (const [key, text] of page) {
          const known = held(key)
          const value = known !== undefined && shape.write(known) === text ? known : valueIn(text)
          if (value !== undefined) all.set(key, value)
        }
        if (isClosed()) break
      }
      return all
    },
    /** Reads some of the values, from a cursor of HSCAN on. The next one is 0 when all are read. */
    async page(cursor: string, mayFit: (text: string) => boolean = () => true) {
      const [next, flat] = await scan(cursor)
      const values = pairsIn(flat).flatMap(([key, text]): [key: string, value: V][] => {
        const value = mayFit(text) ? valueIn(text) : undefined
        return value === undefined ? [] : [[key, value]]
      })
      return { values, next }
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
     * Writes values; undefined removes one. Values of one call are written all or none; there is a call for 200.
     *
     * @param only condition for each
     * @returns the changes; those of the calls before if the condition did not hold
     */
    async *put(
      only: 'present' | 'absent' | '',
      values: readonly (readonly [key: string, value: V | undefined])[],
    ) {
      const texts = values.map(([key, value]): StoredValue => {
        const text = writeWithin(shape, key, value)
        return { key, text, until: (value === undefined ? undefined : shape.until?.(value)) ?? 0 }
      })
      if (shape.until !== undefined) await sweep()
      for (let from = 0; from < texts.length; from += AT_ONCE) {
        const some = texts.slice(from, from + AT_ONCE)
        const how = { channel, logLength: LOG_LENGTH, most: shape.most, only }
        const last = await ask(runPut(store, name, some, how))
        if (last === -1) throw full()
        if (last === -2) throw new FrozenMap(shape.what)
        if (last === 0) return
        const first = last - some.length + 1
        yield some.map(({ key, text }, i): Change => [first + i, key, text])
      }
    },
    sweep,
  }
}

type Pair = readonly [key: string, text: string]

function pairsIn(flat: readonly string[]): Pair[] {
  const pairs: Pair[] = []
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i]!, flat[i + 1]!])
  return pairs
}

/**
 * Reads all texts of a hash, some at a time. A text that changes meanwhile may come twice.
 *
 * @param scan asks HSCAN from a cursor on
 */
export async function* pagesOf(
  scan: (cursor: string) => Promise<[next: string, flat: string[]]>,
): AsyncGenerator<Pair[]> {
  let cursor = '0'
  do {
    const [next, flat] = await scan(cursor)
    if (flat.length > 0) yield pairsIn(flat)
    cursor = next
  } while (cursor !== '0')
}

/**
 * Parses a mark. Returns the initial mark for anything that is not one of ours: any client with access to the store may
 * write.
 */
export function readMark(text: string | null): Mark {
  const [, state, at] = /^(open|decided) (\d{1,15})$/.exec(text ?? '') ?? []
  return state === undefined
    ? { state: 'decided', at: -1 }
    : { state: state as Mark['state'], at: Number(at) }
}

/** Parses a version. Anything that is not one of ours counts as none: any client with access to the store may write. */
export function readVersion(text: string | null): Version {
  const [, number, state = 'open'] = /^(\d{1,15})(?: (frozen|moved))?$/.exec(text ?? '') ?? []
  return number === undefined
    ? { number: 0, state: 'open' }
    : { number: Number(number), state: state as Version['state'] }
}

/** Writes a version as it is stored. */
export function versionText({ number, state }: Version): string {
  return state === 'open' ? String(number) : `${number} ${state}`
}

/** Change of a map, as a message tells it. An empty text removes the value. */
export type Change = readonly [number: number, key: string, text: string]

/**
 * Parses a message about changes. Returns undefined for anything that is not one of ours: any client with access to the
 * store may publish.
 */
export function readChanges(message: string): readonly Change[] | undefined {
  const parsed = parseJson(message)
  if (!Array.isArray(parsed)) return undefined
  const [number, ...texts] = parsed as [unknown, ...unknown[]]
  if (!Number.isSafeInteger(number) || texts.length === 0 || texts.length % 2 === 1) return undefined
  if (!texts.every((text) => typeof text === 'string')) return undefined
  const changes: Change[] = []
  for (let i = 0; i < texts.length; i += 2)
    changes.push([(number as number) + i / 2, texts[i] as string, texts[i + 1] as string])
  return changes
}

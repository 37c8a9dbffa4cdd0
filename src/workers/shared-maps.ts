import {
  createFollowedMap,
  createMemoryMap,
  type FollowedMap,
  type MapShape,
  type ReplicatedMap,
} from '../fleet/replicated-map.js'
import type { Welcome } from './messages.js'

/** Creates the maps without Redis: the primary holds them and sends every change to each worker. */
export function createLeadingMaps(tell: (map: string, key: string, text: string | null) => Promise<void>) {
  const maps: { name: string; texts(): [string, string][] }[] = []
  return {
    open<V>(shape: MapShape<V>): ReplicatedMap<V> {
      const { name, write } = shape
      const map = createMemoryMap(shape, { tell: (key, text) => tell(name, key, text) })
      const texts = () => [...map.entries()].map(([key, value]): [string, string] => [key, write(value)])
      maps.push({ name, texts })
      return map
    },
    /** Returns the content for a new worker. */
    all: () => maps.map(({ name, texts }) => [name, texts()] as const),
  }
}

export type FollowedMaps = ReturnType<typeof createFollowedMaps>

/** Creates the same maps in a worker. */
export function createFollowedMaps(all: Welcome['maps']) {
  /** Content of maps that are not open yet, as received. */
  const told = new Map(all.map(([name, texts]) => [name, new Map(texts)]))
  const open = new Map<string, Pick<FollowedMap<unknown>, 'follow'>>()
  return {
    open<V>(shape: MapShape<V>): ReplicatedMap<V> {
      const map = createFollowedMap(shape, told.get(shape.name) ?? [])
      told.delete(shape.name)
      open.set(shape.name, map)
      return map
    },
    put(name: string, key: string, text: string | null): void {
      const texts = told.get(name) ?? new Map<string, string>()
      if (open.has(name)) open.get(name)!.follow(key, text)
      else if (text === null) texts.delete(key)
      else told.set(name, texts.set(key, text))
    },
  }
}

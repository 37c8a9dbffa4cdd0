import {
  createFollowedMap,
  createMemoryMap,
  type FollowedMap,
  type MapShape,
  type ReplicatedMap,
} from '../fleet/replicated-map.js'
import type { Welcome } from './messages.js'

/** Maps without Redis: the primary holds them and sends every change to each worker. */
export interface ToldMaps {
  open<V>(shape: MapShape<V>): ReplicatedMap<V>
  /** Returns the content for a new worker. */
  all(): Welcome['maps']
}

export function createToldMaps(
  tell: (map: string, key: string, text: string | null) => Promise<void>,
): ToldMaps {
  const maps: { name: string; texts(): [string, string][] }[] = []
  return {
    open<V>(shape: MapShape<V>) {
      const { name, write } = shape
      const map = createMemoryMap(shape, { tell: (key, text) => tell(name, key, text) })
      const texts = () => [...map.entries()].map(([key, value]): [string, string] => [key, write(value)])
      maps.push({ name, texts })
      return map
    },
    all: () => maps.map(({ name, texts }) => [name, texts()] as const),
  }
}

/** The same maps in a worker. */
export interface FollowedMaps {
  open<V>(shape: MapShape<V>): ReplicatedMap<V>
  put(map: string, key: string, text: string | null): void
}

export function createFollowedMaps(all: Welcome['maps']): FollowedMaps {
  /** Content of maps that are not open yet, as received. */
  const told = new Map(all.map(([name, texts]) => [name, new Map(texts)]))
  const open = new Map<string, Pick<FollowedMap<unknown>, 'follow'>>()
  return {
    open<V>(shape: MapShape<V>) {
      const map = createFollowedMap(shape, told.get(shape.name) ?? [])
      told.delete(shape.name)
      open.set(shape.name, map)
      return map
    },
    put(name, key, text) {
      const map = open.get(name)
      if (map !== undefined) return map.follow(key, text)
      let texts = told.get(name)
      if (texts === undefined) {
        texts = new Map()
        told.set(name, texts)
      }
      if (text === null) texts.delete(key)
      else texts.set(key, text)
    },
  }
}

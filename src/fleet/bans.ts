import { createBlock, type Family, formatBlock, readBlock } from '../net/parse-cidr.js'
import { createPrefixTrie, type PrefixTrie } from '../net/prefix-trie.js'
import { isTime, type MapShape, type ReplicatedMap } from './replicated-map.js'

/** Addresses that are turned away for now. Its key is the block, as `formatBlock` writes it. */
export interface Ban {
  /** By an operator, or by a gateway for what came from there. */
  readonly source: 'manual' | 'auto'
  /** Unix ms. */
  readonly since: number
  /** Unix ms; left out: until somebody lifts it. */
  readonly until?: number
  readonly reason?: string
}

export const LONGEST_REASON = 200

export const BANS: MapShape<Ban> = {
  name: 'ban:{bans}',
  what: 'bans',
  keyName: 'address block',
  parse(text) {
    try {
      const { source, since, until, reason } = JSON.parse(text) as Partial<Record<keyof Ban, unknown>>
      if ((source !== 'manual' && source !== 'auto') || !isTime(since)) return undefined
      if (until !== undefined && !isTime(until)) return undefined
      return {
        source,
        since,
        ...(until !== undefined && { until }),
        ...(typeof reason === 'string' && { reason: reason.slice(0, LONGEST_REASON) }),
      }
    } catch {
      return undefined
    }
  },
  write: (ban) => JSON.stringify(ban),
  until: ({ until }) => until,
  most: 200_000,
  longestKey: 49,
  longestValue: 1500,
}

export interface BanHit {
  /** The block that is banned. */
  readonly block: string
  readonly ban: Ban
}

/** The bans that hold in this process: those that all gateways share, and its own. */
export interface Bans {
  readonly size: number
  /** @param words of the address, as `readAddress` gives them */
  match(family: Family, words: Uint32Array): BanHit | undefined
  /** Here alone, until all share it. */
  add(block: string, ban: Ban & { readonly until: number }): void
  /** Calls when somebody is banned who was not, or may be: after each change of them, and after a load of all. */
  onBanned(listener: () => void): void
  /** How many there are of each source. */
  counts(): { readonly manual: number; readonly auto: number }
  close(): void
}

export interface BansOptions {
  readonly map: Pick<ReplicatedMap<Ban>, 'get' | 'entries' | 'onChange'>
  /** Unix ms. */
  readonly now?: () => number
}

/** How many of a list that is loaded go into the trie before requests have their turn again: some 3 ms. */
const SLICE = 2000
const SWEEP_MS = 1000

export function createBans({ map, now = Date.now }: BansOptions): Bans {
  let trie = createPrefixTrie()
  /** While a whole list is loaded: takes the place of `trie` when it is done. */
  let next: PrefixTrie | undefined
  const own = new Map<string, Ban & { readonly until: number }>()
  const automatic = new Set<string>()
  const listeners: (() => void)[] = []
  const block = createBlock()
  const hit = createBlock()

  function put(into: PrefixTrie, key: string): void {
    if (readBlock(key, block) !== undefined) return
    const ban = map.get(key) ?? own.get(key)
    if (ban === undefined) into.delete(block)
    else into.set(block, ban.until ?? Number.POSITIVE_INFINITY)
    if (ban?.source === 'auto') automatic.add(key)
    else automatic.delete(key)
  }

  function changed(key: string): void {
    put(trie, key)
    if (next !== undefined) put(next, key)
    if (map.get(key) ?? own.get(key)) tell()
  }

  function tell(): void {
    for (const listener of listeners) listener()
  }

  /** Live: what is added meanwhile comes, what is taken out does not, and both are `changed`. Of another map `load` begins anew. */
  function* keysNow(): Generator<string> {
    yield* map.entries().keys()
    yield* own.keys()
  }

  function load(): void {
    const keys = keysNow()
    const loading = createPrefixTrie()
    next = loading
    automatic.clear()
    const slice = (): void => {
      // Meanwhile they have been loaded anew.
      if (next !== loading) return
      for (let i = 0; i < SLICE; i++) {
        const { done, value } = keys.next()
        if (done) {
          trie = loading
          next = undefined
          tell()
          return
        }
        put(loading, value)
      }
      setImmediate(slice)
    }
    slice()
  }

  map.onChange((key) => {
    if (key === undefined) load()
    else {
      // What all know is theirs; and what was lifted for all is lifted here.
      own.delete(key)
      changed(key)
    }
  })
  load()

  const sweeping = setInterval(() => {
    const present = now()
    for (const [key, { until }] of own) {
      if (until > present) continue
      own.delete(key)
      changed(key)
    }
  }, SWEEP_MS).unref()

  return {
    get size() {
      return trie.size
    },
    match(family, words) {
      const found = trie.match(family, words, now())
      if (found === 0) return undefined
      trie.read(found, hit)
      const key = formatBlock(hit)
      const ban = map.get(key) ?? own.get(key)
      return ban && { block: key, ban }
    },
    add(key, ban) {
      own.set(key, ban)
      changed(key)
    },
    onBanned: (listener) => void listeners.push(listener),
    counts: () => ({ manual: trie.size - automatic.size, auto: automatic.size }),
    close() {
      next = undefined
      clearInterval(sweeping)
    },
  }
}

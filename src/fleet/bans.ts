import { fieldsOf, isTime, parseJson } from '../common/json.js'
import { createBlock, type Family, formatBlock, readBlock } from '../net/parse-cidr.js'
import { createPrefixTrie, type PrefixTrie } from '../net/prefix-trie.js'
import type { MapShape, ReplicatedMap } from './replicated-map.js'

/** Ban on a block of addresses. Its key is the block, as `formatBlock` writes it. */
export interface Ban {
  /** Who made the ban: an operator (`manual`), or a gateway because of requests from that block (`auto`). */
  readonly source: 'manual' | 'auto'
  /** When the ban begins, in unix ms. */
  readonly since: number
  /** When the ban ends, in unix ms; left out if it lasts until an operator lifts it. */
  readonly until?: number
  readonly reason?: string
}

export const LONGEST_REASON = 200

export const BANS: MapShape<Ban> = {
  name: 'ban:{bans}',
  what: 'bans',
  keyName: 'address block',
  parse(text) {
    const { source, since, until, reason } = fieldsOf(parseJson(text))
    if ((source !== 'manual' && source !== 'auto') || !isTime(since)) return undefined
    if (until !== undefined && !isTime(until)) return undefined
    return {
      source,
      since,
      ...(until !== undefined && { until }),
      ...(typeof reason === 'string' && { reason: reason.slice(0, LONGEST_REASON) }),
    }
  },
  write: (ban) => JSON.stringify(ban),
  until: ({ until }) => until,
  most: 200_000,
  longestKey: 49,
  longestValue: 1500,
}

export interface BanHit {
  /** The banned block. */
  readonly block: string
  readonly ban: Ban
}

export interface BansOptions {
  readonly map: ReplicatedMap<Ban>
  /** Clock, in unix ms. */
  readonly now?: () => number
}

/** Entries of a full load that go into the trie before the event loop handles requests again: about 3 ms. */
const SLICE = 2000
const SWEEP_MS = 1000

export type Bans = ReturnType<typeof createBans>

/** Creates the bans in force in this process: those that all gateways share, and its own. */
export function createBans({ map, now = Date.now }: BansOptions) {
  let trie = createPrefixTrie()
  /** Trie under construction while a full list is loaded. It replaces `trie` when complete. */
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

  /**
   * Iterates over the map while it may change. Keys added meanwhile are included. Keys removed meanwhile are not, and
   * both are passed to `changed`. If the map is replaced, `load` starts again.
   */
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
      // Another full load has started meanwhile.
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
      // A shared ban replaces this process's own, and a ban lifted for all gateways is lifted here.
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
    /** The bans that all gateways share, for operators. */
    map,
    get size(): number {
      return trie.size
    },
    /**
     * Returns the ban that covers an address, if any.
     *
     * @param words the address, as `readAddress` returns it
     */
    match(family: Family, words: Uint32Array): BanHit | undefined {
      const found = trie.match(family, words, now())
      if (found === 0) return undefined
      trie.read(found, hit)
      const key = formatBlock(hit)
      const ban = map.get(key) ?? own.get(key)
      return ban && { block: key, ban }
    },
    /** Adds a ban to this process only. It is dropped here when the same block is banned for all gateways. */
    add(key: string, ban: Ban & { readonly until: number }): void {
      own.set(key, ban)
      changed(key)
    },
    /** Registers a listener for new bans: called after each change that may ban more addresses, and after a full load. */
    onBanned: (listener: () => void) => void listeners.push(listener),
    /** Returns the number of bans of each source. */
    counts: () => ({ manual: trie.size - automatic.size, auto: automatic.size }),
    close(): void {
      next = undefined
      clearInterval(sweeping)
    },
  }
}

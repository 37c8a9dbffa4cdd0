import type { Block, Family } from './parse-cidr.js'

/**
 * Blocks of addresses with, for each, until when it counts: a binary trie whose paths are compressed (Morrison's PATRICIA,
 * 1968), over typed arrays. A look-up goes down at most one node for each bit that tells two blocks apart, some twenty
 * among 100,000; a block is added or taken out as fast, so nothing has to be built anew for a change.
 */
export interface PrefixTrie {
  /** Adds a block, or changes the one that is there. @param until in the time of `match`; `Infinity`: for ever */
  set(block: Block, until: number): void
  /** @returns whether it was there */
  delete(block: Block): boolean
  /** The widest block that holds an address and counts at `now`; 0 when there is none. */
  match(family: Family, words: Uint32Array, now: number): Hit
  /** The block that was found. To be asked before anything is changed. */
  read(hit: Hit, block: Block): void
  /** Until when the block counts that was found. To be asked before anything is changed. */
  until(hit: Hit): number
  /** How many blocks there are. */
  readonly size: number
  /** Bytes of its arrays. */
  readonly bytes: number
}

/** A place in the trie: of IPv4 above 0, of IPv6 below. */
export type Hit = number

export function createPrefixTrie(): PrefixTrie {
  const v4 = createBits(1)
  const v6 = createBits(4)
  const of = (family: Family | 0) => (family === 6 ? v6 : v4)
  return {
    set: (block, until) => of(block.family).set(block.words, block.length, until),
    delete: (block) => of(block.family).delete(block.words, block.length),
    match(family, words, now) {
      return family === 4 ? v4.match(words, now) : -v6.match(words, now)
    },
    read(hit, block) {
      block.family = hit < 0 ? 6 : 4
      of(block.family).read(Math.abs(hit), block)
    },
    until: (hit) => of(hit < 0 ? 6 : 4).until(Math.abs(hit)),
    get size() {
      return v4.size() + v6.size()
    },
    get bytes() {
      return v4.bytes() + v6.bytes()
    },
  }
}

/** Nodes that there is room for at first. */
const ROOM = 16
/** No node. */
const NONE = 0

/**
 * A node takes four numbers, a quarter of a cache line: how many bits it is about, with BLOCK when it is one; the two below
 * it, for a 0 and for a 1 behind its bits; the last word of its key, by which most look-ups that find nothing end early.
 */
const NODE = 4
const BLOCK = 256
const BITS = 255
const ZERO = 1
const ONE = 2
const LAST = 3

/** @param width words of 32 bits of a key */
function createBits(width: 1 | 4) {
  let nodes = new Int32Array(ROOM * NODE)
  /** Of a fork what those below it share. A look-up reads those of blocks only. */
  let keys = new Uint32Array(ROOM * width)
  let untils = new Float64Array(ROOM)
  let root = NONE
  let used = 1
  /** The first of those that are free again; its first link leads to the next. */
  let free = NONE
  let size = 0

  function make(words: Uint32Array, length: number): number {
    let node = free
    if (node !== NONE) free = nodes[node * NODE + ZERO]!
    else {
      node = used++
      if (used > untils.length) grow()
    }
    for (let i = 0; i < width; i++) {
      const bits = Math.min(32, Math.max(0, length - 32 * i))
      keys[node * width + i] = bits === 0 ? 0 : words[i]! & (0xffff_ffff << (32 - bits))
    }
    nodes[node * NODE] = length
    nodes[node * NODE + ZERO] = NONE
    nodes[node * NODE + ONE] = NONE
    nodes[node * NODE + LAST] = length === 0 ? 0 : keys[node * width + ((length - 1) >>> 5)]!
    return node
  }

  function grow(): void {
    const room = Math.ceil(untils.length * 1.5)
    nodes = copied(new Int32Array(room * NODE), nodes)
    keys = copied(new Uint32Array(room * width), keys)
    untils = copied(new Float64Array(room), untils)
  }

  function release(node: number): void {
    nodes[node * NODE + ZERO] = free
    free = node
  }

  function mark(node: number, until: number): void {
    const at = node * NODE
    if ((nodes[at]! & BLOCK) === 0) size++
    nodes[at] = nodes[at]! | BLOCK
    untils[node] = until
  }

  /** How many of the first `most` bits a node's key shares. */
  function shared(node: number, words: Uint32Array, most: number): number {
    const key = node * width
    for (let i = 0; 32 * i < most; i++) {
      const differ = keys[key + i]! ^ words[i]!
      if (differ !== 0) return Math.min(most, 32 * i + Math.clz32(differ))
    }
    return most
  }

  /** @param link ZERO or ONE of the parent; the root has none */
  function put(parent: number, link: number, node: number): void {
    if (parent === NONE) root = node
    else nodes[parent * NODE + link] = node
  }

  function linkOfKey(node: number, length: number): number {
    return ZERO + ((keys[node * width + (length >>> 5)]! >>> (31 - (length & 31))) & 1)
  }

  return {
    set(words: Uint32Array, length: number, until: number): void {
      let parent = NONE
      let link = ZERO
      let node = root
      while (node !== NONE) {
        const own = nodes[node * NODE]! & BITS
        const common = shared(node, words, Math.min(own, length))
        if (common < own) {
          const above = make(words, common)
          if (common === length) mark(above, until)
          else {
            const leaf = make(words, length)
            mark(leaf, until)
            put(above, linkOf(words, common), leaf)
          }
          put(above, linkOfKey(node, common), node)
          put(parent, link, above)
          return
        }
        if (own === length) {
          mark(node, until)
          return
        }
        parent = node
        link = linkOf(words, own)
        node = nodes[node * NODE + link]!
      }
      const leaf = make(words, length)
      mark(leaf, until)
      put(parent, link, leaf)
    },
    delete(words: Uint32Array, length: number): boolean {
      let above = NONE
      let linkAbove = ZERO
      let parent = NONE
      let link = ZERO
      let node = root
      while (node !== NONE && (nodes[node * NODE]! & BITS) < length) {
        above = parent
        linkAbove = link
        parent = node
        link = linkOf(words, nodes[node * NODE]! & BITS)
        node = nodes[node * NODE + link]!
      }
      if (node === NONE || nodes[node * NODE] !== (length | BLOCK)) return false
      if (shared(node, words, length) < length) return false
      nodes[node * NODE] = length
      size--
      const only = onlyChild(node)
      if (only === undefined) return true
      put(parent, link, only)
      release(node)
      if (parent === NONE || (nodes[parent * NODE]! & BLOCK) !== 0) return true
      // A fork with one way left is none.
      const other = onlyChild(parent)
      if (other === undefined) return true
      put(above, linkAbove, other)
      release(parent)
      return true
    },
    match(words: Uint32Array, now: number): number {
      // What is read in every turn is at hand.
      const list = nodes
      let node = root
      while (node !== NONE) {
        const at = node * NODE
        const head = list[at]!
        const length = head & BITS
        if (length !== 0) {
          const last = length - 1
          if ((list[at + LAST]! ^ words[last >>> 5]!) >>> (31 - (last & 31)) !== 0) return NONE
        }
        if ((head & BLOCK) !== 0) {
          if (!holds(node, length, words)) return NONE
          if (untils[node]! > now) return node
        }
        if (length === 32 * width) return NONE
        node = list[at + linkOf(words, length)]!
      }
      return NONE
    },
    read(node: number, block: Block): void {
      for (let i = 0; i < width; i++) block.words[i] = keys[node * width + i]!
      block.length = nodes[node * NODE]! & BITS
    },
    until: (node: number) => untils[node]!,
    size: () => size,
    bytes: () => nodes.byteLength + keys.byteLength + untils.byteLength,
  }

  /** The one below a node, or none; undefined when there are two. */
  function onlyChild(node: number): number | undefined {
    const [zero, one] = [nodes[node * NODE + ZERO]!, nodes[node * NODE + ONE]!]
    if (zero === NONE) return one
    return one === NONE ? zero : undefined
  }

  function holds(node: number, length: number, words: Uint32Array): boolean {
    const key = node * width
    const whole = length >>> 5
    for (let i = 0; i < whole; i++) if (keys[key + i] !== words[i]) return false
    const rest = length & 31
    return rest === 0 || (keys[key + whole]! ^ words[whole]!) >>> (32 - rest) === 0
  }
}

/** By the bit behind so many. */
function linkOf(words: Uint32Array, length: number): number {
  return ZERO + ((words[length >>> 5]! >>> (31 - (length & 31))) & 1)
}

function copied<T extends { set(other: T): void }>(into: T, from: T): T {
  into.set(from)
  return into
}

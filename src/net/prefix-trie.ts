import type { Block, Family } from './parse-cidr.js'

/**
 * Stores blocks of addresses, each with an expiry: a binary trie with compressed paths (Morrison's PATRICIA, 1968) over
 * typed arrays. A lookup visits at most one node for each bit that tells two blocks apart, about twenty among 100,000.
 * Adding or removing a block is as fast, so a change rebuilds nothing.
 */
export type PrefixTrie = ReturnType<typeof createPrefixTrie>

/** A place in the trie: above 0 for IPv4, below 0 for IPv6. */
export type Hit = number

export function createPrefixTrie() {
  const v4 = createBits(1)
  const v6 = createBits(4)
  const of = (family: Family | 0) => (family === 6 ? v6 : v4)
  return {
    /**
     * Adds a block, or changes its expiry.
     *
     * @param until on the clock of `match`; `Infinity` means for ever
     */
    set: (block: Block, until: number): void => of(block.family).set(block.words, block.length, until),
    /**
     * Removes a block.
     *
     * @returns true if it was there
     */
    delete: (block: Block): boolean => of(block.family).delete(block.words, block.length),
    /** Finds the widest block that contains an address and has not expired at `now`; returns 0 when there is none. */
    match(family: Family, words: Uint32Array, now: number): Hit {
      return family === 4 ? v4.match(words, now) : -v6.match(words, now)
    },
    /** Copies the found block into `block`. Call it before any change. */
    read(hit: Hit, block: Block): void {
      block.family = hit < 0 ? 6 : 4
      of(block.family).read(Math.abs(hit), block)
    },
    /** Returns the expiry of the found block. Call it before any change. */
    until: (hit: Hit): number => of(hit < 0 ? 6 : 4).until(Math.abs(hit)),
    /** Number of blocks. */
    get size(): number {
      return v4.size() + v6.size()
    },
    /** Size of the arrays in bytes. */
    get bytes(): number {
      return v4.bytes() + v6.bytes()
    },
  }
}

/** Nodes that the first arrays have room for. */
const ROOM = 16
/** Link that leads to no node. */
const NONE = 0

/**
 * A node takes four numbers, a quarter of a cache line: its length in bits, with BLOCK if it is a block; its two
 * children, for a 0 and for a 1 after its bits; the last word of its key, which ends most failing lookups early.
 */
const NODE = 4
const BLOCK = 256
const BITS = 255
const ZERO = 1
const ONE = 2
const LAST = 3

/**
 * Creates the trie of one family.
 *
 * @param width words of 32 bits in a key
 */
function createBits(width: 1 | 4) {
  let nodes = new Int32Array(ROOM * NODE)
  /** Keys. The key of a fork is the prefix that its children share. A lookup reads only keys of blocks. */
  let keys = new Uint32Array(ROOM * width)
  let untils = new Float64Array(ROOM)
  let root = NONE
  let used = 1
  /** First free node; its first link leads to the next one. */
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

  /** Returns how many of the first `most` bits a node's key shares. */
  function shared(node: number, words: Uint32Array, most: number): number {
    const key = node * width
    for (let i = 0; 32 * i < most; i++) {
      const differ = keys[key + i]! ^ words[i]!
      if (differ !== 0) return Math.min(most, 32 * i + Math.clz32(differ))
    }
    return most
  }

  /**
   * Puts a node below a parent.
   *
   * @param link ZERO or ONE of the parent; the root has none
   */
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
      // A fork with one child left is removed.
      const other = onlyChild(parent)
      if (other === undefined) return true
      put(above, linkAbove, other)
      release(parent)
      return true
    },
    match(words: Uint32Array, now: number): number {
      // Local copies, since every turn of the loop reads them.
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

  /** Returns the only child of a node, or none; undefined when there are two. */
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

/** Returns the link for the bit after the first `length` bits. */
function linkOf(words: Uint32Array, length: number): number {
  return ZERO + ((words[length >>> 5]! >>> (31 - (length & 31))) & 1)
}

function copied<T extends { set(other: T): void }>(into: T, from: T): T {
  into.set(from)
  return into
}

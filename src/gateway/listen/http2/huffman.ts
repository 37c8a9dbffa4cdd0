import { ConnectionError, ErrorCode } from './frames.js'

/** Bits of the code of each byte, and of the end of a string (RFC 7541 Appendix B). The code is canonical: the lengths define it. */
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
]
const END_OF_STRING = 256

/** A step that no string may take: it leads to the end of a string. */
const INVALID = -1
/**
 * The decoder as a table: `STEPS[state * 16 + 4 bits]` holds the next state, and in the bits above 16 the byte that is
 * complete, plus one. A state is a node of the tree of codes; 0 is the root.
 */
const STEPS = createSteps(createTree())
/** The states in which a string may end: after up to 7 bits of padding, all of them 1. */
const ENDS = endStates()

/** Room for the longest decoded string: no code is shorter than 5 bits. */
let room = Buffer.allocUnsafeSlow(32_768)

/**
 * Decodes a string.
 *
 * @throws ConnectionError COMPRESSION_ERROR if it is not well-formed (RFC 7541 §5.2)
 */
export function decodeHuffman(bytes: Buffer, from: number, to: number): string {
  const longest = Math.ceil(((to - from) * 8) / 5)
  if (longest > room.length) room = Buffer.allocUnsafeSlow(longest)
  let state = 0
  let length = 0
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!
    for (let shift = 4; shift >= 0; shift -= 4) {
      const step = STEPS[state * 16 + ((byte >> shift) & 15)]!
      if (step === INVALID) throw new ConnectionError(ErrorCode.Compression)
      if (step > 0xffff) room[length++] = (step >> 16) - 1
      state = step & 0xffff
    }
  }
  if (!ENDS.has(state)) throw new ConnectionError(ErrorCode.Compression)
  return room.toString('latin1', 0, length)
}

/** Creates the tree of codes. Bit `b` leads from node `n` to `tree[n * 2 + b]`: a node, or below zero a symbol, as `-symbol - 1`. */
function createTree(): Int16Array {
  const tree = new Int16Array((LENGTHS.length - 1) * 2)
  const symbols = LENGTHS.map((_, symbol) => symbol).sort((a, b) => LENGTHS[a]! - LENGTHS[b]! || a - b)
  let nodes = 1
  let code = 0
  let bits = LENGTHS[symbols[0]!]!
  for (const symbol of symbols) {
    const length = LENGTHS[symbol]!
    code *= 2 ** (length - bits)
    bits = length
    let node = 0
    for (let bit = length - 1; bit > 0; bit--) {
      const at = node * 2 + (Math.floor(code / 2 ** bit) & 1)
      if (tree[at] === 0) tree[at] = nodes++
      node = tree[at]!
    }
    tree[node * 2 + (code & 1)] = -symbol - 1
    code++
  }
  return tree
}

function createSteps(tree: Int16Array): Int32Array {
  const steps = new Int32Array((tree.length / 2) * 16)
  for (let at = 0; at < steps.length; at++) {
    let node = at >> 4
    let complete = 0
    for (let bit = 3; bit >= 0 && complete !== INVALID; bit--) {
      const to = tree[node * 2 + ((at >> bit) & 1)]!
      node = Math.max(to, 0)
      if (to < 0) complete = to === -END_OF_STRING - 1 ? INVALID : -to
    }
    steps[at] = complete === INVALID ? INVALID : (complete << 16) | node
  }
  return steps
}

function endStates(): ReadonlySet<number> {
  const tree = createTree()
  const states = new Set([0])
  let node = 0
  for (let ones = 0; ones < 7; ones++) {
    node = tree[node * 2 + 1]!
    states.add(node)
  }
  return states
}

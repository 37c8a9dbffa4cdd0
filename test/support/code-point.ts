import fc from 'fast-check'

const SURROGATES = 0xd800
const COUNT_SURROGATES = 0x800
const LAST = 0x10ffff - COUNT_SURROGATES

/**
 * Generates any code point, as `unit: 'binary'` of `fc.string` does. For that, fast-check builds a map of all 1.1 million of them, which
 * takes a second and 130 MB.
 */
export const codePoint: fc.Arbitrary<string> = fc.integer({ min: 0, max: LAST }).map(
  (n) => String.fromCodePoint(n < SURROGATES ? n : n + COUNT_SURROGATES),
  (text) => {
    const [char, more] = typeof text === 'string' && text.isWellFormed() ? text : ''
    if (char === undefined || more !== undefined) throw new Error('no code point')
    const n = char.codePointAt(0)!
    return n < SURROGATES ? n : n - COUNT_SURROGATES
  },
)

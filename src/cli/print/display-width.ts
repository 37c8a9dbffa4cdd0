/** Prepares text from clients for a terminal: it cannot move the cursor, and columns stay aligned for Chinese text. */

/**
 * Invisible characters: controls, format characters (directions, zero width), halves of pairs, unassigned ones, line
 * and paragraph separators.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/gu
/** More than two combining marks on a letter would be drawn over the lines above and below. */
const PILED = /(\p{M}{2})\p{M}+/gu

/** Characters two columns wide: East Asian Wide and Fullwidth (Unicode UAX #11), and emoji. */
const WIDE =
  /[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18aff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u
const MARK = /\p{M}/u
const ASCII = /^[ -~]*$/

/** Returns the text with invisible characters escaped, as `\u{1b}`. */
export function visibleText(text: string): string {
  if (ASCII.test(text)) return text
  return text
    .replace(UNSEEN, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
    .replace(PILED, '$1…')
}

/** Returns the width of a text in columns. The text must come from `seen`. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length
  let width = 0
  for (const character of text) width += columnsOf(character)
  return width
}

function columnsOf(character: string): number {
  if (MARK.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

/** Returns the text in exactly `width` columns: padded with spaces, or cut, with `…` for the rest. */
export function fit(text: string, width: number): string {
  const all = widthOf(text)
  if (all <= width) return text + ' '.repeat(width - all)
  let left = width - 1
  let part = ''
  for (const character of text) {
    left -= columnsOf(character)
    if (left < 0) break
    part += character
  }
  return width < 1 ? '' : `${part}…${' '.repeat(Math.max(0, width - 1 - widthOf(part)))}`
}

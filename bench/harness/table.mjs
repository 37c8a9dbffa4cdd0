import { readFileSync, writeFileSync } from 'node:fs'

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

/** Returns where `<!-- name -->` ends and `<!-- /name -->` begins in a text. Throws if it does not have them. */
function placeOf(text, page, name) {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${page} has no place for ${name}`)
  return [from + begin.length, to]
}

/** Returns what stands between `<!-- name -->` and `<!-- /name -->` of a page. */
export function textBetween(page, name) {
  const whole = readFileSync(page, 'utf8')
  return whole.slice(...placeOf(whole, page, name))
}

/** Puts a text there. */
export function writeBetween(page, name, text) {
  const whole = readFileSync(page, 'utf8')
  const [from, to] = placeOf(whole, page, name)
  writeFileSync(page, `${whole.slice(0, from)}\n${text}\n${whole.slice(to)}`)
}

/** Prints rows of cells under a head, with numbers aligned right. */
export function printTable(head, rows) {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => String(r[i]).length)))
  const line = (cells) =>
    `| ${cells.map((c, i) => (i ? String(c).padStart(widths[i]) : String(c).padEnd(widths[i]))).join(' | ')} |`
  const rule = `| ${widths.map((w, i) => (i ? `${'-'.repeat(w - 1)}:` : '-'.repeat(w))).join(' | ')} |`
  console.log([line(head), rule, ...rows.map(line)].join('\n'))
}

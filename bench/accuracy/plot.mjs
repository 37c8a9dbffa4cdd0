/** Draws the accuracy table as an SVG without a dependency, legible on a light and on a dark page. */
import { ALGORITHMS } from './simulate.mjs'

const BAR = 12
const GAP = 3
const GROUP_GAP = 22
const HEAD = 84
const LABELS = 210
const PANEL = 300
const BETWEEN = 60
const WIDTH = LABELS + 2 * PANEL + BETWEEN + 50
/** End of both axes, in % of the limit or of the exact volume. */
const MOST = 200

const STYLE = `
  .page { fill: #fff }
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 13px; font-weight: 600 }
  .quiet { fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .hundred { stroke: #1f2328; stroke-width: 1.5 }
  .sliding { fill: #2a78d6 } .strict { fill: #1a8f5f } .token_bucket { fill: #c98500 } .fixed { fill: #d1435b }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .hundred { stroke: #f0f6fc }
    .sliding { fill: #4c97f0 } .strict { fill: #2fb57e } .token_bucket { fill: #e0a020 } .fixed { fill: #ee6b80 }
  }`

const text = (x, y, content, attributes = '') => `<text x="${x}" y="${y}" ${attributes}>${content}</text>`

function panel(x, height, title, unit, rows, groups, percentOf, digits) {
  const scale = (percent) => x + (percent / MOST) * PANEL
  const parts = [text(x, HEAD - 28, title, 'class="title"')]
  for (const tick of [0, 50, 100, 150, 200]) {
    const at = scale(tick)
    parts.push(
      `<line x1="${at}" x2="${at}" y1="${HEAD - 6}" y2="${height - 16}" class="${tick === 100 ? 'hundred' : 'grid'}"/>`,
      text(at, HEAD - 10, `${tick} %`, 'text-anchor="middle" class="quiet"'),
    )
  }
  for (const row of rows) {
    const percent = percentOf(row)
    const y = groups.get(row.traffic) + ALGORITHMS.indexOf(row.algorithm) * (BAR + GAP)
    const width = scale(percent) - x
    // Keeps the label off the line at 100 %.
    const label = Math.max(width, scale(100) - x) + 4
    parts.push(
      `<rect x="${x}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" class="${row.algorithm}"><title>${row.traffic}, ${row.algorithm}: ${percent.toFixed(1)} % ${unit}</title></rect>`,
      text((x + label).toFixed(1), y + BAR - 2, percent.toFixed(digits), 'style="font-size:11px"'),
    )
  }
  return parts.join('\n')
}

/** @param rows result of `measureAccuracy` */
export function plotAccuracy(rows) {
  const classes = [...new Set(rows.map((row) => row.traffic))]
  const groupHeight = ALGORITHMS.length * (BAR + GAP) + GROUP_GAP
  const groups = new Map(classes.map((name, i) => [name, HEAD + 6 + i * groupHeight]))
  const height = HEAD + classes.length * groupHeight + 14
  const middle = (ALGORITHMS.length * (BAR + GAP)) / 2 + 4
  const legend = ALGORITHMS.map((name, i) => {
    const x = LABELS + i * 120
    return `<rect x="${x}" y="10" width="12" height="12" class="${name}"/>${text(x + 18, 20, name)}`
  })
  const second = LABELS + PANEL + BETWEEN
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Admitted volume and fullest window of each algorithm, by traffic">
<style>${STYLE}
</style>
<rect width="${WIDTH}" height="${height}" class="page"/>
${legend.join('\n')}
${classes.map((name) => text(LABELS - 12, groups.get(name) + middle, name, 'text-anchor="end"')).join('\n')}
${panel(LABELS, height, 'Admitted, of what an exact log admits', 'of the exact volume', rows, groups, (row) => 100 * row.ofExact, 1)}
${panel(second, height, 'Fullest window of any position, of the limit', 'of the limit', rows, groups, (row) => 100 + 100 * row.peakExcess, 0)}
</svg>
`
}

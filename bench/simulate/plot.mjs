/** Draws a simulation over its time, as an SVG without a dependency, legible on a light and on a dark page. */

const WIDTH = 860
const LEFT = 74
const RIGHT = 20
const PANEL = 118
const GAP = 54
const HEAD = 66

const STYLE = `
  .page { fill: #fff }
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 13px; font-weight: 600 }
  .quiet { fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .failure { fill: #d1435b; fill-opacity: 0.16 }
  .line { fill: none; stroke-width: 2 }
  .a { stroke: #2a78d6 } .b { stroke: #1a8f5f } .c { stroke: #c98500 }
  .key-a { fill: #2a78d6 } .key-b { fill: #1a8f5f } .key-c { fill: #c98500 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .failure { fill: #ee6b80; fill-opacity: 0.25 }
    .a { stroke: #4c97f0 } .b { stroke: #2fb57e } .c { stroke: #e0a020 }
    .key-a { fill: #4c97f0 } .key-b { fill: #2fb57e } .key-c { fill: #e0a020 }
  }`

const text = (x, y, content, attributes = '') => `<text x="${x}" y="${y}" ${attributes}>${content}</text>`
const most = (values) => Math.max(...values)
const sum = (values) => values.reduce((all, n) => all + n, 0)

/** The panels: title, and lines, each with its name and how its value follows from a load. */
const PANELS = [
  {
    title: 'A second, in thousands',
    lines: [
      ['requests', (one) => one.requests / 1000],
      ['decisions of Redis', (one) => one.asked / 1000],
      ['denied', (one) => one.denied / 1000],
    ],
  },
  {
    title: 'Redis memory, GB',
    lines: [
      ['all primaries', (one) => sum(one.memory) / 1e9],
      ['the fullest', (one) => most(one.memory) / 1e9],
    ],
  },
  {
    title: 'Of a core, %',
    lines: [
      ['a gateway', (one) => 100 * one.gateway],
      ['the busiest primary', (one) => 100 * most(one.redis)],
    ],
  },
  {
    title: 'Against an exact log, %',
    lines: [
      [
        'over-admission, of what was admitted',
        (one) => (100 * one.over) / Math.max(1, one.requests - one.denied),
      ],
      ['under-admission, of requests', (one) => (100 * one.under) / Math.max(1, one.requests)],
    ],
  },
]

/** Returns a round number from `value` on. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)))
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((n) => n * power).find((n) => n >= value * 0.999)
}

/**
 * @param loads result of `loadsOf`
 * @param caption one line about what was simulated
 */
export function plotLoads(scenario, loads, caption) {
  const hours = scenario.runMs / 3_600_000
  const height = HEAD + PANELS.length * (PANEL + GAP)
  const x = (hour) => LEFT + (hour / hours) * (WIDTH - LEFT - RIGHT)
  const failures = scenario.failures.map(({ kind, at, for: time }) => {
    const from = x(at / 3_600_000)
    const width = Math.max(3, x((at + time) / 3_600_000) - from)
    const bar = `<rect x="${from.toFixed(1)}" y="${HEAD - 8}" width="${width.toFixed(1)}" height="${height - HEAD - 10}" class="failure"/>`
    return bar + text((from + width / 2).toFixed(1), HEAD - 14, kind, 'text-anchor="middle" class="quiet"')
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Requests, memory, CPU and accuracy over the time of a simulation">
<style>${STYLE}
</style>
<rect width="${WIDTH}" height="${height}" class="page"/>
${text(LEFT, 22, caption, 'class="title"')}
${failures.join('\n')}
${PANELS.map((panel, i) => drawPanel(panel, loads, x, HEAD + 22 + i * (PANEL + GAP), hours)).join('\n')}
</svg>
`
}

function drawPanel({ title, lines }, loads, x, top, hours) {
  const values = lines.map(([, of]) => loads.map(of))
  const end = roundUp(most(values.map(most)))
  const y = (value) => top + PANEL - (value / end) * PANEL
  const parts = [text(LEFT, top - 8, title, 'class="title"')]
  for (const share of [0, 0.5, 1]) {
    const at = y(share * end)
    parts.push(
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" class="grid"/>`,
      text(LEFT - 8, at + 4, +(share * end).toPrecision(3), 'text-anchor="end" class="quiet"'),
    )
  }
  for (let hour = 0; hour <= hours; hour += hours / 8) {
    parts.push(
      text(
        x(hour).toFixed(1),
        top + PANEL + 16,
        `${+hour.toFixed(2)} h`,
        'text-anchor="middle" class="quiet"',
      ),
    )
  }
  let legend = LEFT + 190
  for (const [i, [name]] of lines.entries()) {
    const letter = 'abc'[i]
    const points = loads.map((one, k) => `${x(one.hour).toFixed(1)},${y(values[i][k]).toFixed(1)}`)
    parts.push(
      `<polyline points="${points.join(' ')}" class="line ${letter}"><title>${name}</title></polyline>`,
      `<rect x="${legend}" y="${top - 17}" width="10" height="10" class="key-${letter}"/>`,
      text(legend + 15, top - 8, name),
    )
    legend += 34 + 6.6 * name.length
  }
  return parts.join('\n')
}

// The chart of the last hour: responses by class, stacked; percentiles; when the gateways decided without the store or
// shed; what happened. The pointer or the arrow keys show the numbers of ten seconds.

import { element, note, show, svg, swatch, table, timeOf } from './elements.js'
import { areas, byMinutes, lines, milliseconds, number, rate, roundTop, seen, stretches } from './figures.js'

const HOUR_MS = 3_600_000
const CLASSES = [
  ['ok', '2xx and 3xx'],
  ['client_error', '4xx'],
  ['limited', '429'],
  ['server_error', '5xx'],
]
const PERCENTILES = ['p50', 'p95', 'p99']
const LANES = [
  ['without_store', 'decided without the store'],
  ['shed', 'shed'],
]
const WORDS = {
  started: 'start',
  config_applied: 'configuration',
  config_rejected: 'configuration rejected',
  degraded: 'store away',
  recovered: 'store back',
  draining: 'draining',
}
/** Pixels from the top: the chart is as wide as the page, and this high. */
const PLOT = { y: 18, height: 140 }
const LANE = { y: 162, height: 6, step: 8 }
const TIMES = 192
const SLOW = { y: 204, height: 64 }
const HEIGHT = 270
/** Pixels that a character of a label takes. */
const LETTER = 6.5

/**
 * Keeps an hour of answers of `GET /history`.
 *
 * @returns `{ add(answer), since(), clear(), read() }`; `since` is the time to ask from: the latest samples are asked for
 *   again, since other gateways may have been late. `read()` returns null before the first answer
 */
export function createHistory() {
  const samples = new Map()
  const events = new Map()
  let latest
  return {
    add(answer) {
      latest = answer
      const first = Date.parse(answer.to) - HOUR_MS
      for (const one of answer.samples) samples.set(Date.parse(one.at), one)
      // Reports of several gateways in the same ten seconds are one event. Its first gateway may answer later.
      for (const one of answer.events)
        events.set(`${Math.floor(Date.parse(one.at) / answer.every_ms)} ${one.kind} ${one.text}`, one)
      for (const at of samples.keys()) if (at < first) samples.delete(at)
      for (const [key, { at }] of events) if (Date.parse(at) < first) events.delete(key)
    },
    since: () => latest && new Date(Date.parse(latest.to) - 60_000).toISOString(),
    clear() {
      latest = undefined
      samples.clear()
      events.clear()
    },
    read() {
      if (latest === undefined) return null
      const { every_ms: every, nodes } = latest
      const from = Date.parse(latest.to) - HOUR_MS
      const slots = Array.from({ length: HOUR_MS / every }, (_, i) => samples.get(from + i * every) ?? null)
      const ordered = [...events.values()].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
      return { from, every, slots, nodes, events: ordered }
    },
  }
}

/** Makes a chart. `update(history)` shows what `createHistory().read()` returned. */
export function createChart() {
  let shown
  /** Time that the reader points at, unix ms. */
  let chosen
  const drawing = svg('svg', {
    class: 'chart',
    height: HEIGHT,
    tabindex: 0,
    role: 'slider',
    'aria-label': 'Requests of the last hour: a moment',
    pointermove: ({ clientX }) => pointAt(clientX),
    pointerdown: ({ clientX }) => pointAt(clientX),
    pointerleave: () => choose(undefined),
    blur: () => choose(undefined),
    focus: () => choose(chosen ?? timeAt(shown.slots.length - 1)),
    keydown,
  })
  const tip = element('div', { class: 'tip', hidden: true, 'aria-hidden': 'true' })
  const legend = element('figcaption', {})
  const rest = element('div', {})
  const node = element('figure', {}, element('div', { class: 'chart-box' }, drawing, tip), legend, rest)

  const timeAt = (slot) => shown.from + slot * shown.every
  const slotOf = (at) => Math.floor((at - shown.from) / shown.every)

  function pointAt(clientX) {
    const { left, width } = drawing.getBoundingClientRect()
    const slot = Math.floor(((clientX - left) / width) * shown.slots.length)
    choose(timeAt(Math.max(0, Math.min(slot, shown.slots.length - 1))))
  }

  function keydown(event) {
    const last = shown.slots.length - 1
    const slot = chosen === undefined ? last : slotOf(chosen)
    const five = 300_000 / shown.every
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -five, PageUp: five }
    const next = { Home: 0, End: last }[event.key] ?? slot + (steps[event.key] ?? Number.NaN)
    if (event.key === 'Escape') choose(undefined)
    else if (!Number.isNaN(next)) {
      event.preventDefault()
      choose(timeAt(Math.max(0, Math.min(next, last))))
    }
  }

  function choose(at) {
    chosen = at
    showChosen()
  }

  function showChosen() {
    const slot = chosen === undefined ? -1 : slotOf(chosen)
    tip.hidden = slot < 0
    cursor.setAttribute('visibility', slot < 0 ? 'hidden' : 'visible')
    const facts = factsOf(shown, Math.max(0, slot < 0 ? shown.slots.length - 1 : slot))
    drawing.setAttribute('aria-valuemin', 0)
    drawing.setAttribute('aria-valuemax', shown.slots.length - 1)
    drawing.setAttribute('aria-valuenow', slot < 0 ? shown.slots.length - 1 : slot)
    drawing.setAttribute('aria-valuetext', facts.map(([name, value]) => `${name} ${value}`).join(', '))
    if (slot < 0) return
    const share = (slot + 0.5) / shown.slots.length
    cursor.setAttribute('x1', percent(share))
    cursor.setAttribute('x2', percent(share))
    show(
      tip,
      ...facts.map(([name, value, kind]) =>
        element(
          'p',
          { class: kind === 'event' ? 'wide' : undefined },
          kind === undefined || kind === 'event' ? null : swatch(kind),
          `${name} `,
          element('b', {}, value),
        ),
      ),
    )
    // A style sheet cannot know where the pointer is.
    const isRight = share > 0.5
    tip.style.left = isRight ? '' : `calc(${percent(share)} + 0.75rem)`
    tip.style.right = isRight ? `calc(${percent(1 - share)} + 0.75rem)` : ''
  }

  const cursor = svg('line', { class: 'cursor', y1: PLOT.y, y2: SLOW.y + SLOW.height })

  function draw() {
    if (drawing.clientWidth > 0) show(drawing, ...plots(shown, drawing.clientWidth), cursor)
  }
  // Labels depend on the room that there is.
  new ResizeObserver(draw).observe(drawing)

  return {
    node,
    update(history) {
      shown = history
      draw()
      show(legend, ...legendOf(history))
      show(rest, ...tables(history))
      showChosen()
    },
  }
}

const percent = (share) => `${(share * 100).toFixed(3)}%`
const clock = (ms, options) => new Date(ms).toLocaleTimeString([], options)
const sum = (values) => values.reduce((all, value) => all + value, 0)
/** Returns responses a second, by class. */
const ratesOf = ({ responses }, every) => CLASSES.map(([name]) => (responses[name] * 1000) / every)

/** Draws everything but the cursor. */
function plots({ from, every, slots, events }, width) {
  const rates = slots.map((one) => one && ratesOf(one, every))
  const top = roundTop(Math.max(...rates.map((one) => (one ? sum(one) : 0))))
  const slow = roundTop(Math.max(...slots.map((one) => one?.p99_ms ?? 0)))
  const plot = ({ y, height }, ...children) =>
    svg(
      'svg',
      { y, height, width: '100%', viewBox: `0 0 ${slots.length} 100`, preserveAspectRatio: 'none' },
      ...children,
    )
  const paths = areas(rates, CLASSES.length, top)
  const lanes = LANES.filter(([name]) => slots.some((one) => one?.[name] > 0))
  return [
    ...grid(PLOT, `${rate(top)}/s`, `${rate(top / 2)}/s`),
    ...grid(SLOW, milliseconds(slow), milliseconds(slow / 2)),
    plot(PLOT, ...paths.map((d, i) => svg('path', { class: CLASSES[i][0], d }))),
    plot(
      SLOW,
      ...PERCENTILES.map((name) =>
        svg('path', {
          class: `line ${name}`,
          d: lines(
            slots.map((one) => one?.[`${name}_ms`] ?? null),
            slow,
          ),
        }),
      ),
    ),
    ...lanes.flatMap(([name], i) =>
      stretches(slots, (one) => one?.[name] > 0).map(([start, end]) =>
        svg('rect', {
          class: name,
          x: percent(start / slots.length),
          width: percent((end - start) / slots.length),
          y: LANE.y + i * LANE.step,
          height: LANE.height,
        }),
      ),
    ),
    ...times(from, width),
    ...marks(from, events, width),
  ]
}

function grid({ y, height }, ...labels) {
  return [0, 0.5, 1].flatMap((share, i) => [
    svg('line', { class: 'grid', x2: '100%', y1: y + share * height, y2: y + share * height }),
    labels[i] === undefined ? null : svg('text', { x: 2, y: y + share * height + 12 }, labels[i]),
  ])
}

/** Labels the time axis: every ten minutes, or every twenty where that is too narrow. */
function times(from, width) {
  const step = (width < 500 ? 20 : 10) * 60_000
  const first = Math.ceil(from / step) * step
  const made = []
  for (let at = first; at <= from + HOUR_MS; at += step) {
    const share = (at - from) / HOUR_MS
    const px = share * width
    const anchor = px < 20 ? 'start' : px > width - 20 ? 'end' : 'middle'
    const text = clock(at, { hour: '2-digit', minute: '2-digit' })
    made.push(svg('text', { x: percent(share), y: TIMES, 'text-anchor': anchor }, text))
  }
  return made
}

/** Marks what happened by lines, and says what where there is room. */
function marks(from, events, width) {
  let free = 0
  return events.flatMap(({ at, kind }) => {
    const share = (Date.parse(at) - from) / HOUR_MS
    if (share < 0 || share > 1) return []
    const x = percent(share)
    const text = WORDS[kind] ?? kind
    const isLeft = share * width + text.length * LETTER > width
    const start = share * width - (isLeft ? text.length * LETTER : 0)
    const hasRoom = start >= free
    if (hasRoom) free = start + text.length * LETTER + 8
    return [
      svg('line', {
        class: `event ${kind}`,
        x1: x,
        x2: x,
        y1: hasRoom ? 4 : PLOT.y - 4,
        y2: PLOT.y + PLOT.height,
      }),
      hasRoom
        ? svg(
            'text',
            { class: kind, x, dx: isLeft ? -4 : 4, y: 12, 'text-anchor': isLeft ? 'end' : 'start' },
            text,
          )
        : null,
    ]
  })
}

/** Returns names and values of one slot, each with its mark. */
function factsOf({ from, every, slots, events }, slot) {
  const at = from + slot * every
  const one = slots[slot]
  const there = events.filter((event) => Math.floor((Date.parse(event.at) - from) / every) === slot)
  const happened = there.map((event) => [
    WORDS[event.kind] ?? event.kind,
    `${nodesOf(event)}: ${seen(event.text)}`,
    'event',
  ])
  if (one === null) return [[clock(at), 'no sample', 'event'], ...happened]
  const rates = ratesOf(one, every)
  return [
    [clock(at), `${rate(sum(rates))}/s`, 'event'],
    ...CLASSES.map(([kind, name], i) => [name, `${rate(rates[i])}/s`, kind]),
    ...PERCENTILES.map((name) => [name, milliseconds(one[`${name}_ms`]), name]),
    ...LANES.filter(([name]) => one[name] > 0).map(([kind, name]) => [name, number(one[kind]), kind]),
    ['gateways', number(one.gateways)],
    ...happened,
  ]
}

const nodesOf = ({ node, gateways }) =>
  gateways > 1 ? `${seen(node)} and ${number(gateways - 1)} more` : seen(node)

function legendOf({ slots }) {
  const lanes = LANES.filter(([name]) => slots.some((one) => one?.[name] > 0))
  const names = [...CLASSES, ...lanes, ...PERCENTILES.map((name) => [name, name])]
  return names.map(([kind, name]) => element('span', { key: kind }, swatch(kind), name))
}

/** Shows the same as tables, for those who do not see the chart. */
function tables({ from, every, slots, events }) {
  const heads = [
    'from',
    '>requests/s',
    '>429/s',
    '>4xx/s',
    '>5xx/s',
    '>p50',
    '>p95',
    '>p99',
    '>shed',
    '>without store',
  ]
  const rows = byMinutes(slots, 300_000 / every).map(
    ({ start, count, responses, shed, without_store, ...slow }) => {
      const a = (name) => (count === 0 ? '–' : rate((responses[name] * 1000) / (count * every)))
      const all = count === 0 ? '–' : rate((sum(Object.values(responses)) * 1000) / (count * every))
      const at = new Date(from + start * every).toISOString()
      return {
        key: at,
        cells: [
          timeOf(at),
          all,
          ...['limited', 'client_error', 'server_error'].map(a),
          ...PERCENTILES.map((name) => milliseconds(slow[`${name}_ms`])),
          number(shed),
          number(without_store),
        ],
      }
    },
  )
  const happened = events.map((event) => ({
    key: `${event.at} ${event.kind} ${event.text}`,
    cells: [timeOf(event.at), nodesOf(event), [seen(event.text), 'why']],
  }))
  return [
    details(
      'The last hour as a table',
      note('Percentiles are the highest of the ten-second samples.'),
      table({ caption: 'The last hour by five minutes', heads, rows, none: '' }),
    ),
    details(
      `Events (${events.length})`,
      table({
        caption: 'Events of the last hour',
        heads: ['at', 'gateway', 'what'],
        rows: happened.reverse(),
        none: 'Nothing happened in the last hour.',
      }),
    ),
  ]
}

const details = (title, ...children) => element('details', {}, element('summary', {}, title), ...children)

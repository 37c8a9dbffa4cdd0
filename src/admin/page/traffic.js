import { $, element, fill } from './elements.js'
import { areas, difference, milliseconds, number, perSecond, quantile, rate } from './figures.js'

/** Samples of five minutes. */
const SAMPLES = 150
const CLASSES = [
  ['ok', '2xx and 3xx'],
  ['client_error', '4xx'],
  ['limited', '429'],
  ['server_error', '5xx'],
]

let before
const samples = []

/** Shows the requests since the response before. */
export function showTraffic(now) {
  const { traffic } = now
  const ms = before === undefined ? 0 : Date.parse(now.at) - Date.parse(before.at)
  const known = new Map((before?.traffic.services ?? []).map((one) => [`${one.service} ${one.tier}`, one]))
  const rows = traffic.services.map((one) => {
    const was = known.get(`${one.service} ${one.tier}`)
    const of = (part) =>
      Object.fromEntries(
        Object.entries(one[part]).map(([name, count]) => [
          name,
          perSecond(was?.[part][name] ?? 0, count, ms),
        ]),
      )
    return { ...one, rates: of('responses'), decided: of('decisions'), whom: of('decided_by') }
  })
  const sum = (name) => rows.reduce((all, { rates }) => all + rates[name], 0)
  const values = CLASSES.map(([name]) => sum(name))
  const counts = difference(before?.traffic.duration.counts ?? [], traffic.duration.counts)
  const at = (share) => (before === undefined ? null : quantile(traffic.duration.bounds_ms, counts, share))
  if (before !== undefined) {
    samples.push(values)
    if (samples.length > SAMPLES) samples.shift()
  }
  showFigures(values, at(0.5), at(0.99), traffic.connections)
  showChart()
  showServices(rows)
  before = now
}

/** Forgets the last response, so that no rate spans a gap. */
export function forgetTraffic() {
  before = undefined
}

function showFigures(values, p50, p99, connections) {
  const known = before !== undefined
  const all = values.reduce((sum, value) => sum + value, 0)
  const figure = (value) => (known ? rate(value) : '–')
  const shown = [
    ['requests a second', figure(all), ''],
    ['429 a second', figure(values[2]), values[2] > 0 ? 'limited' : ''],
    ['5xx a second', figure(values[3]), values[3] > 0 ? 'server_error' : ''],
    ['half take at most', milliseconds(p50), ''],
    ['99 % take at most', milliseconds(p99), ''],
    ['connections', number(connections), ''],
  ]
  $('figures').replaceChildren(
    ...shown.map(([name, value, kind]) =>
      element('div', {}, element('dt', {}, name), element('dd', { class: kind }, value)),
    ),
  )
}

function showChart() {
  const { paths, top } = areas(samples, SAMPLES, 600, 120)
  const space = 'http://www.w3.org/2000/svg'
  $('chart').replaceChildren(
    ...paths.map((d, i) => {
      const path = document.createElementNS(space, 'path')
      path.setAttribute('d', d)
      path.setAttribute('class', CLASSES[i][0])
      return path
    }),
  )
  const entries = CLASSES.map(([kind, name]) => element('span', {}, element('i', { class: kind }), name))
  const busy = samples.some((values) => values.some((value) => value > 0))
  const scale = busy
    ? `up to ${rate(top)} a second, the last five minutes`
    : 'nothing yet, since this page was opened'
  $('legend').replaceChildren(...entries, element('span', { class: 'scale' }, scale))
}

function showServices(rows) {
  const heads = [
    'service',
    'tier',
    '>requests/s',
    '>429/s',
    '>4xx/s',
    '>5xx/s',
    '>denied',
    '>near',
    'decided by',
  ]
  const cells = rows.map(({ service, tier, rates, decided, whom }) => {
    const all = Object.values(rates).reduce((sum, value) => sum + value, 0)
    const decisions = Object.values(decided).reduce((sum, value) => sum + value, 0)
    const share = (value = 0) => (decisions === 0 ? '–' : `${((value * 100) / decisions).toFixed(1)} %`)
    const by = Object.entries(whom).filter(([, value]) => value > 0)
    const degraded = by.some(([name]) => name === 'open' || name === 'local' || name === 'closed')
    return [
      service,
      tier,
      rate(all),
      [rate(rates.limited), rates.limited > 0 ? 'limited' : ''],
      rate(rates.client_error),
      [rate(rates.server_error), rates.server_error > 0 ? 'server_error' : ''],
      share(decided.denied),
      share(decided.near),
      [by.map(([name, value]) => `${name} ${share(value)}`).join(', '), degraded ? 'warn' : ''],
    ]
  })
  fill($('services'), heads, cells, 'No requests yet.')
  const names = [...new Set(rows.map(({ service }) => service))].filter((name) => name !== 'none')
  const select = $('service')
  const there = new Set(Array.from(select.options, ({ value }) => value))
  for (const name of names) if (!there.has(name)) select.append(element('option', { value: name }, name))
}

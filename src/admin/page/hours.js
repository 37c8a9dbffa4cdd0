// Use by hour, as small bars and as a table.

import { element, empty, svg, swatch, table } from './elements.js'
import { number } from './figures.js'

const WIDTH = 100 / 24

/** Returns the chart of 24 hours and its table, as elements. */
export function hoursChart(hours) {
  const most = Math.max(...hours.map(({ requests, denied }) => requests + denied))
  if (most === 0) return [empty('Nothing was served or denied.')]
  const sum = (name) => hours.reduce((all, hour) => all + hour[name], 0)
  const total = `${number(sum('requests'))} requests served, ${number(sum('denied'))} denied; cost ${number(sum('cost'))}`
  const columns = hours.map(({ hour, requests, denied }, i) => {
    const rect = (from, count, kind) =>
      svg('rect', {
        class: kind,
        x: `${i * WIDTH + 0.4}%`,
        width: `${WIDTH - 0.8}%`,
        y: `${100 - ((from + count) / most) * 100}%`,
        height: `${(count / most) * 100}%`,
      })
    const label = `${timeText(hour)}: ${number(requests)} served, ${number(denied)} denied`
    return svg('g', {}, svg('title', {}, label), rect(0, requests, 'ok'), rect(requests, denied, 'limited'))
  })
  const rows = [...hours].reverse().map(({ hour, requests, cost, denied }) => ({
    key: hour,
    cells: [timeText(hour), number(requests), number(denied), number(cost)],
  }))
  return [
    element('p', {}, `${total}. At most ${number(most)} in an hour.`),
    svg('svg', { class: 'hours', role: 'img', 'aria-label': `Requests by hour: ${total}` }, ...columns),
    element(
      'p',
      { class: 'note ends' },
      element('span', {}, timeText(hours[0].hour)),
      element('span', {}, swatch('ok'), 'served ', swatch('limited'), 'denied'),
      element('span', {}, 'now'),
    ),
    element(
      'details',
      { key: 'hours' },
      element('summary', {}, 'The same as a table'),
      table({ caption: 'Use by hour', heads: ['hour', '>served', '>denied', '>cost'], rows, none: '' }),
    ),
  ]
}

function timeText(iso) {
  return new Date(iso).toLocaleString([], { weekday: 'short', hour: '2-digit', minute: '2-digit' })
}

import { $, element, fill, note, pill } from './elements.js'
import { ago, number, range, rate, seen } from './figures.js'

export const BY = {
  limited: ['Limited', 'denied', 'Nobody is being limited.'],
  near: ['Near a limit', 'near', 'Nobody is near a limit.'],
  share: ['Over their share', 'refused', 'Nobody holds more than a share.'],
  cost: ['Costing most', 'cost', 'Nothing was taken from any limit.'],
}

/** Shows the state of the gateway in one word. */
export function showStatus({ status, store, reasons, config, node }) {
  $('node').textContent = `${seen(node)}, configuration ${config.hash ?? '–'}`
  const wrong = reasons.filter((reason) => !reason.startsWith('the store'))
  if (config.lastError != null) wrong.unshift('the configuration file is bad')
  if (store !== 'up') wrong.unshift('deciding without the store')
  const why = wrong.join('; ')
  if (status !== 'ready') pill(`Not ready: ${why}`, 'bad')
  else if (store !== 'up') pill(`Degraded: ${why}`, 'bad')
  else if (why !== '') pill(`Serving, but ${why}`, 'warn')
  else pill('Serving', 'good')
}

export function showTop({ by, from, to, nodes, floor, missed, rows }) {
  const [, head, none] = BY[by]
  const seconds = Math.round((Date.parse(to) - Date.parse(from)) / 1000)
  const of = nodes.silent.length === 0 ? '' : ` of ${nodes.answered + nodes.silent.length}`
  const facts = [
    `The last ${seconds} s of ${nodes.answered}${of} gateway${nodes.answered === 1 && of === '' ? '' : 's'}.`,
  ]
  if (nodes.problem !== null) facts.push(`The others were not asked: ${nodes.problem}.`)
  if (nodes.silent.length > 0) facts.push(`Silent: ${seen(nodes.silent.join(', '))}.`)
  if (rows.length > 0 && floor > 0) facts.push(`Nobody else has more than ${number(floor)}.`)
  if (missed > 0) facts.push(`${number(missed)} found no room to be counted.`)
  note('top-note', facts.join(' '))
  const heads = ['consumer', 'service', 'tier', `>${head}`, '>a second', '>share', 'limit', '>since']
  const cells = rows.map((row) => [
    [seen(row.consumer) || '""', 'id', seen(row.consumer)],
    row.service,
    row.tier,
    range(row.count, row.error),
    rate(row.count / Math.max(1, seconds)),
    `${(row.share * 100).toFixed(1)} %`,
    row.limit ?? '',
    ago(Date.parse(to) - Date.parse(row.since)),
  ])
  fill($('top'), heads, cells, none)
}

export function showUpstreams({ upstreams, services }) {
  const circuits = new Map(services.map(({ service, circuit }) => [service, circuit]))
  const heads = ['service', 'upstream', 'state', 'why', '>in flight', '>waiting', 'circuit']
  const cells = upstreams.map((one) => {
    const circuit = circuits.get(one.service) ?? ''
    return [
      one.service,
      [one.address, 'id', one.address],
      [one.state.replace('_', ' '), one.state === 'serving' ? 'good' : 'bad'],
      [one.why ?? '', 'why'],
      `${number(one.in_flight)} of ${number(one.max_connections)}`,
      number(one.waiting),
      [circuit.replace('_', ' '), circuit === 'open' ? 'bad' : ''],
    ]
  })
  note('upstreams-note', '')
  fill($('upstreams'), heads, cells, 'There are no upstreams.')
}

export function showConfig(config, extensions = []) {
  const lines = [
    `${seen(config.file ?? '')}, hash ${config.hash ?? '–'}, in force since ${time(config.loadedAt)}.`,
  ]
  const parts = lines.map((line) => element('p', {}, line))
  const list = (title, items, kind) => {
    if (items.length === 0) return
    const entries = items.slice(0, 20).map((item) => element('li', {}, seen(String(item))))
    const more = items.length > 20 ? [element('li', {}, `and ${items.length - 20} more`)] : []
    parts.push(element('p', { class: kind }, title), element('ul', { class: kind }, ...entries, ...more))
  }
  if (config.lastError != null) {
    const { at, messages = [] } = config.lastError
    list(`The file was rejected at ${time(at)}; the last good configuration stays in force:`, messages, 'bad')
  }
  list('What the last reload changed:', config.changed ?? [], '')
  list('Warnings:', config.warnings ?? [], 'warn')
  const failures = extensions.map(({ name, errors }) => `${name}: ${errors} errors`)
  list('Extensions, with the failures of their hooks since the start:', failures, '')
  const workers = (config.workers ?? []).map(
    (one) => `${one.worker}: ${one.state}, pid ${one.pid}, hash ${one.hash ?? '–'}`,
  )
  list('Workers:', workers, '')
  const text = parts.map(({ textContent }) => textContent).join('\n')
  // Left alone while nothing changes, so that the reader can select it.
  if ($('config').textContent === parts.map(({ textContent }) => textContent).join('') && text !== '') return
  $('config').replaceChildren(...parts)
}

function time(iso) {
  return iso === undefined ? '–' : new Date(iso).toLocaleString()
}

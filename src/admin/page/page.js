import {
  ago,
  areas,
  difference,
  milliseconds,
  number,
  perSecond,
  quantile,
  range,
  rate,
  seen,
} from './figures.js'

// Everything is set as text: ids of consumers are what callers made up, and Trusted Types leave no other way.

const EVERY = 2000
const PATIENCE = 8000
/** Five minutes. */
const SAMPLES = 150
const KEY = 'tidegate admin token'
const CLASSES = [
  ['ok', '2xx and 3xx'],
  ['client_error', '4xx'],
  ['limited', '429'],
  ['server_error', '5xx'],
]
const BY = {
  limited: ['Limited', 'denied', 'Nobody is being limited.'],
  near: ['Near a limit', 'near', 'Nobody is near a limit.'],
  cost: ['Costing most', 'cost', 'Nothing was taken from any limit.'],
}

const $ = (id) => document.getElementById(id)
let by = 'limited'
let token = sessionStorage.getItem(KEY)
let before
let timer
let turn = 0
let answered
const samples = []

function element(tag, attributes, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** Heads are texts; cells are texts, or [text, class], or [text, class, hint]. Without rows it says what that means. */
function fill(table, heads, rows, none) {
  const cell = (value, i) => {
    const [text, kind = '', hint = ''] = Array.isArray(value) ? value : [value]
    const right = heads[i].startsWith('>') ? ' number' : ''
    return element(
      'td',
      { class: kind + right, ...(hint === '' ? {} : { title: hint }) },
      element('bdi', {}, text),
    )
  }
  if (rows.length === 0) {
    table.replaceChildren(element('tbody', {}, element('tr', {}, element('td', { class: 'none' }, none))))
    return
  }
  const names = heads.map((head) =>
    element('th', { scope: 'col', class: head.startsWith('>') ? 'number' : '' }, head.replace('>', '')),
  )
  table.replaceChildren(
    element('thead', {}, element('tr', {}, ...names)),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...row.map(cell)))),
  )
}

class Refused extends Error {
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

async function ask(path) {
  const response = await fetch(path, {
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(PATIENCE),
  })
  const body = await response.json().catch(() => ({}))
  if (!response.ok)
    throw new Refused(response.status, body.detail ?? `the gateway answered ${response.status}`)
  return body
}

async function look() {
  clearTimeout(timer)
  const mine = ++turn
  const service = $('service').value
  const query = service === '' ? '' : `&service=${encodeURIComponent(service)}`
  const asked = await Promise.allSettled([
    ask('/overview'),
    ask(`/top?by=${by}&n=20${query}`),
    ask('/upstreams'),
  ])
  if (mine !== turn) return
  const [overview, top, upstreams] = asked
  const refused = asked.find((one) => one.status === 'rejected' && one.reason.status === 401)
  $('login').hidden = refused === undefined
  $('main').hidden = refused !== undefined
  if (refused !== undefined) {
    say(token === null ? '' : 'That is not the token of this gateway.')
    pill('Waiting for the token', '')
    forget()
    return
  }
  if (overview.status === 'fulfilled') {
    answered = Date.now()
    showOverview(overview.value)
    say('')
  } else lost(overview.reason)
  if (top.status === 'fulfilled') showTop(top.value)
  else if (overview.status === 'fulfilled') note('top-note', `Not known: ${top.reason.message}`)
  if (upstreams.status === 'fulfilled') showUpstreams(upstreams.value)
  else if (overview.status === 'fulfilled') note('upstreams-note', `Not known: ${upstreams.reason.message}`)
  document.body.classList.toggle('stale', overview.status !== 'fulfilled')
  if (!document.hidden) timer = setTimeout(look, EVERY)
}

function forget() {
  token = null
  sessionStorage.removeItem(KEY)
  $('token').value = ''
  $('token').focus()
}

function lost(error) {
  const why = error.name === 'TimeoutError' ? `no answer within ${PATIENCE / 1000} s` : error.message
  const since = answered === undefined ? '' : ` since ${new Date(answered).toLocaleTimeString()}`
  say(`The gateway has not answered${since} (${why}). Trying again.`)
  pill('No answer', 'bad')
  before = undefined
}

function say(text) {
  $('problem').hidden = text === ''
  if ($('problem').textContent !== text) $('problem').textContent = text
}

function note(id, text) {
  $(id).hidden = text === ''
  $(id).textContent = text
}

function pill(text, kind) {
  const state = $('state')
  // Set only when it changes: it is read aloud.
  if (state.textContent !== text) state.textContent = text
  state.className = `pill ${kind}`
  document.title = kind === 'good' || kind === '' ? 'Tidegate' : `${text} – Tidegate`
}

function showOverview(now) {
  const { status, store, reasons, config, traffic, node } = now
  $('node').textContent = `${seen(node)}, configuration ${config.hash ?? '–'}`
  const wrong = reasons.filter((reason) => !reason.startsWith('the store'))
  if (config.lastError != null) wrong.unshift('the configuration file is bad')
  if (store !== 'up') wrong.unshift('deciding without the store')
  const why = wrong.join('; ')
  if (status !== 'ready') pill(`Not ready: ${why}`, 'bad')
  else if (store !== 'up') pill(`Degraded: ${why}`, 'bad')
  else if (why !== '') pill(`Serving, but ${why}`, 'warn')
  else pill('Serving', 'good')
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
  showConfig(config)
  before = now
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

function showTop({ by: shown, from, to, nodes, floor, missed, rows }) {
  if (shown !== by) return
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

function showUpstreams({ upstreams, services }) {
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

function showConfig(config) {
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
  const workers = (config.workers ?? []).map(
    (one) => `${one.worker}: ${one.state}, pid ${one.pid}, hash ${one.hash ?? '–'}`,
  )
  list('Workers:', workers, '')
  const text = parts.map(({ textContent }) => textContent).join('\n')
  // Left alone while nothing changes, so that it can be selected.
  if ($('config').textContent === parts.map(({ textContent }) => textContent).join('') && text !== '') return
  $('config').replaceChildren(...parts)
}

function time(iso) {
  return iso === undefined ? '–' : new Date(iso).toLocaleString()
}

for (const [name, [title]] of Object.entries(BY)) {
  const button = element('button', { type: 'button', 'aria-pressed': String(name === by) }, title)
  button.addEventListener('click', () => {
    by = name
    for (const one of $('by').children) one.setAttribute('aria-pressed', String(one === button))
    note('top-note', 'Asking…')
    look()
  })
  $('by').append(button)
}
$('service').addEventListener('change', look)
$('login').addEventListener('submit', (event) => {
  event.preventDefault()
  token = $('token').value.trim()
  sessionStorage.setItem(KEY, token)
  look()
})
document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer)
  else if ($('login').hidden) {
    // What has come since then is of no single moment.
    before = undefined
    look()
  }
})
for (const id of ['top', 'services', 'upstreams']) fill($(id), [''], [], 'Asking the gateway…')
look()

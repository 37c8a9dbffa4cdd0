// The overview: what this gateway serves now, who is limited, services and tiers.

import { ask, errorText } from './api.js'
import { createChart, createHistory } from './chart.js'
import {
  button,
  consumerLink,
  element,
  note,
  problem,
  section,
  serviceLink,
  show,
  table,
} from './elements.js'
import { ago, milliseconds, number, percent, perSecond, range, rate, seen } from './figures.js'

const BY = {
  limited: ['Limited', 'denied', 'Nobody is being limited.'],
  near: ['Near a limit', 'near', 'Nobody is near a limit.'],
  share: ['Over their share', 'refused', 'Nobody holds more than a share.'],
  cost: ['Costing most', 'cost', 'Nothing was taken from any limit.'],
}
const CLASSES = ['ok', 'client_error', 'limited', 'server_error']

/** Least ms between two answers for a rate. */
const LEAST_MS = 1000
/** Most services and tiers that are shown without a click. */
const MANY = 100
/** Ms between two questions for the history, which has a sample every ten seconds. */
const HISTORY_EVERY = 10_000
/** Longest time between two answers that makes a rate of now, in ms. */
const LONGEST_MS = 15_000
const OF = { fleet: 'All gateways', gateway: 'This gateway' }

export const view = {
  title: () => 'Overview',
  every: 2000,
  open(root, _params, shell) {
    let by = 'limited'
    let of = 'fleet'
    let service = ''
    let before
    let traffic
    let isWhole = false
    let historyAt = 0
    let unknown
    const history = createHistory()
    const chart = createChart()
    const select = element('select', {
      change() {
        service = select.value
        shell.refresh()
      },
    })
    const parts = Object.fromEntries(
      ['of', 'figures', 'nodes', 'by', 'top', 'services'].map((name) => [name, element('div', {})]),
    )
    root.append(
      section('Traffic', { actions: [parts.of] }, parts.figures, parts.nodes, chart.node),
      section('Top consumers', { actions: [parts.by, element('label', {}, 'Service ', select)] }, parts.top),
      section('Services and tiers of this gateway', {}, parts.services),
    )
    function showAll() {
      isWhole = true
      shell.refresh()
    }
    function chooseBy(name) {
      by = name
      shell.refresh()
    }
    function chooseOf(name) {
      of = name
      historyAt = 0
      history.clear()
      shell.refresh()
    }

    /** Asks for what the page does not have of the last hour. */
    async function askHistory(signal) {
      if (Date.now() - historyAt < HISTORY_EVERY) return
      const since = history.since()
      const query = since === undefined ? '' : `&since=${since}`
      try {
        const { body } = await ask(`/history?of=${of}${query}`, { signal })
        history.add(body)
        historyAt = Date.now()
        unknown = undefined
        chart.update(history.read())
      } catch (error) {
        unknown = error
      }
    }

    return {
      async refresh(signal) {
        const query = service === '' ? '' : `&service=${encodeURIComponent(service)}`
        const [overview, top] = await Promise.all([
          ask('/overview', { signal }),
          ask(`/top?by=${by}&n=20${query}`, { signal }).catch((error) => ({ error })),
          askHistory(signal),
        ])
        if (signal.aborted) return
        const now = overview.body
        shell.showState(now)
        // After a click the last answer is too young, or the same: its rates would say nothing.
        if (traffic === undefined || Date.parse(now.at) - Date.parse(before.at) >= LEAST_MS) {
          traffic = ratesOf(before, now)
          before = now
        }
        const hour = history.read()
        showServiceNames(select, now.traffic.services)
        const isAlone = of === 'fleet' && hour !== null && hour.nodes.answered + hour.nodes.silent.length <= 1
        show(parts.of, isAlone ? null : choice('Of', OF, of, chooseOf))
        // The only gateway need not wait for the samples of a fleet.
        show(parts.figures, figures(isAlone ? 'gateway' : of, traffic, hour))
        show(parts.nodes, unknown && problem(errorText(unknown)), hour && nodesNote(of, hour.nodes))
        chart.node.hidden = hour === null
        show(parts.by, choice('By', BY, by, chooseBy))
        show(parts.top, ...(top.error === undefined ? topTable(top.body) : [problem(errorText(top.error))]))
        show(parts.services, ...servicesTable(traffic, isWhole, showAll))
      },
    }
  },
}

/** Makes a row of buttons, one of them pressed. `names` are texts, or lists that begin with one. */
function choice(label, names, chosen, choose) {
  const made = Object.entries(names).map(([name, text]) =>
    button([text].flat()[0], () => choose(name), { pressed: name === chosen }),
  )
  return element('div', { class: 'choice', role: 'group', 'aria-label': label }, ...made)
}

/** Says whose hour the chart shows. */
function nodesNote(of, { answered, silent, problem }) {
  if (of === 'gateway') return note('The last hour of this gateway.')
  const parts = [`The last hour of ${number(answered)} gateway${answered === 1 ? '' : 's'}.`]
  if (problem !== null) parts.push(`The others were not asked: ${problem}.`)
  if (silent.length > 0) parts.push(`Silent: ${seen(silent.join(', '))}.`)
  return note(parts.join(' '))
}

/** Computes rates per second since the answer before. */
function ratesOf(before, { at, traffic }) {
  const ms = before === undefined ? 0 : Date.parse(at) - Date.parse(before.at)
  const known = new Map(before?.traffic.services.map((one) => [`${one.service} ${one.tier}`, one]))
  const rows = traffic.services.map((one) => {
    const was = known.get(`${one.service} ${one.tier}`)
    const of = (part) =>
      Object.fromEntries(
        Object.entries(one[part]).map(([name, count]) => [
          name,
          perSecond(was?.[part][name] ?? 0, count, ms),
        ]),
      )
    return { ...one, rates: of('responses'), decided: of('decisions'), deciders: of('decided_by') }
  })
  return {
    rows,
    // A rate that spans a pause says nothing about now.
    isKnown: before !== undefined && ms < LONGEST_MS,
    rates: Object.fromEntries(CLASSES.map((name) => [name, sum(rows.map(({ rates }) => rates[name]))])),
    connections: traffic.connections,
  }
}

const sum = (values) => values.reduce((all, value) => all + value, 0)

/** Shows this gateway's rates of the last two seconds, or all gateways' of the last ten; percentiles of the last ten. */
function figures(of, { isKnown, rates, connections }, hour) {
  const last = hour?.slots.at(-1) ?? null
  const isFleet = of === 'fleet'
  const figure = (pick) => {
    if (isFleet) return last === null ? null : (pick(last.responses) * 1000) / hour.every
    return isKnown ? pick(rates) : null
  }
  const shown = [
    ['requests/s', figure((one) => sum(CLASSES.map((name) => one[name])))],
    ['429/s', figure(({ limited }) => limited), 'limited'],
    ['5xx/s', figure(({ server_error }) => server_error), 'server_error'],
  ].map(([name, value, kind]) => [name, value === null ? '–' : rate(value), value > 0 ? kind : undefined])
  for (const name of ['p50', 'p95', 'p99']) shown.push([name, milliseconds(last?.[`${name}_ms`] ?? null)])
  if (isFleet) shown.push(['gateways', last === null ? '–' : number(last.gateways)])
  else shown.push(['connections', number(connections)])
  const parts = shown.map(([name, value, kind]) =>
    element('div', {}, element('dt', {}, name), element('dd', { class: kind }, value)),
  )
  return element('dl', { class: 'figures' }, ...parts)
}

function topTable({ by, from, to, nodes, floor, missed, rows }) {
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
  const lines = rows.map((row) => ({
    key: `${row.service} ${row.tier} ${row.limit} ${row.consumer}`,
    cells: [
      [consumerLink(row.consumer), 'id'],
      row.service,
      row.tier,
      range(row.count, row.error),
      rate(row.count / Math.max(1, seconds)),
      percent(row.share),
      row.limit ?? '',
      ago(Date.parse(to) - Date.parse(row.since)),
    ],
  }))
  const heads = ['consumer', 'service', 'tier', `>${head}`, '>a second', '>share', 'limit', '>since']
  return [note(facts.join(' ')), table({ caption: 'Top consumers', heads, rows: lines, none })]
}

function servicesTable({ rows: all, isKnown }, isWhole, showAll) {
  const total = ({ rates }) => sum(Object.values(rates))
  const a = (value) => (isKnown ? rate(value) : '–')
  const isLong = all.length > MANY && !isWhole
  const rows = isLong ? [...all].sort((a, b) => total(b) - total(a)).slice(0, MANY) : all
  const lines = rows.map(({ service, tier, rates, decided, deciders }) => {
    const decisions = sum(Object.values(decided))
    const share = (value = 0) => (decisions === 0 ? '–' : percent(value / decisions))
    const by = Object.entries(deciders).filter(([, value]) => value > 0)
    const isDegraded = by.some(([name]) => ['open', 'local', 'closed'].includes(name))
    return {
      key: `${service} ${tier}`,
      cells: [
        serviceLink(service),
        tier,
        a(total({ rates })),
        [a(rates.limited), rates.limited > 0 ? 'limited' : ''],
        a(rates.client_error),
        [a(rates.server_error), rates.server_error > 0 ? 'server_error' : ''],
        share(decided.denied),
        share(decided.near),
        [by.map(([name, value]) => `${name} ${share(value)}`).join(', '), isDegraded ? 'warn' : ''],
      ],
    }
  })
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
  return [
    isLong ? note('Those with the most requests.') : null,
    table({ caption: 'Services and tiers of this gateway', heads, rows: lines, none: 'No requests yet.' }),
    isLong ? button(`Show all ${number(all.length)}`, showAll) : null,
  ]
}

/** Offers the services that had requests. */
function showServiceNames(select, services) {
  const names = [...new Set(services.map(({ service }) => service))].filter((name) => name !== 'none')
  show(
    select,
    element('option', { value: '' }, 'all'),
    ...names.map((name) => element('option', { value: name, key: name }, name)),
  )
}

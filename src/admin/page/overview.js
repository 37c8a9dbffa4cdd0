// The overview: what this gateway serves now, who is limited, services and tiers.

import { ask } from './api.js'
import { consumerLink, element, note, problem, section, show, table } from './elements.js'
import { ago, difference, milliseconds, number, perSecond, quantile, range, rate, seen } from './figures.js'

const BY = {
  limited: ['Limited', 'denied', 'Nobody is being limited.'],
  near: ['Near a limit', 'near', 'Nobody is near a limit.'],
  share: ['Over their share', 'refused', 'Nobody holds more than a share.'],
  cost: ['Costing most', 'cost', 'Nothing was taken from any limit.'],
}
const CLASSES = ['ok', 'client_error', 'limited', 'server_error']

export const view = {
  title: () => 'Overview',
  every: 2000,
  open(root, _params, shell) {
    let by = 'limited'
    let service = ''
    let before
    const choose = (name) => {
      by = name
      shell.refresh()
    }
    const select = element('select', {
      change() {
        service = select.value
        shell.refresh()
      },
    })

    return {
      async refresh(signal) {
        const query = service === '' ? '' : `&service=${encodeURIComponent(service)}`
        const [overview, top] = await Promise.all([
          ask('/overview', { signal }),
          ask(`/top?by=${by}&n=20${query}`, { signal }).catch((error) => ({ error })),
        ])
        if (signal.aborted) return
        const now = overview.body
        shell.showState(now)
        const traffic = ratesOf(before, now)
        // A rate that spans a gap says nothing about now.
        before = now
        showServiceNames(select, now.traffic.services)
        const buttons = Object.entries(BY).map(([name, [text]]) =>
          element(
            'button',
            { type: 'button', 'aria-pressed': String(name === by), click: () => choose(name) },
            text,
          ),
        )
        show(
          root,
          section('Traffic of this gateway', {}, figures(traffic)),
          section(
            'Who is limited now',
            {
              actions: [
                element('div', { class: 'choice', role: 'group', 'aria-label': 'By' }, ...buttons),
                element('label', {}, 'Service ', select),
              ],
            },
            ...(top.error === undefined ? topTable(top.body) : [problem(`Not known: ${top.error.message}`)]),
          ),
          section('Services and tiers', {}, servicesTable(traffic.rows)),
        )
      },
    }
  },
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
  const counts = difference(before?.traffic.duration.counts ?? [], traffic.duration.counts)
  return {
    rows,
    isKnown: before !== undefined,
    rates: Object.fromEntries(CLASSES.map((name) => [name, sum(rows.map(({ rates }) => rates[name]))])),
    percentile: (share) =>
      before === undefined ? null : quantile(traffic.duration.bounds_ms, counts, share),
    connections: traffic.connections,
  }
}

const sum = (values) => values.reduce((all, value) => all + value, 0)

function figures({ isKnown, rates, percentile, connections }) {
  const figure = (value) => (isKnown ? rate(value) : '–')
  const shown = [
    ['requests/s', figure(sum(Object.values(rates))), ''],
    ['429/s', figure(rates.limited), rates.limited > 0 ? 'limited' : ''],
    ['5xx/s', figure(rates.server_error), rates.server_error > 0 ? 'server_error' : ''],
    ['p50', milliseconds(percentile(0.5)), ''],
    ['p95', milliseconds(percentile(0.95)), ''],
    ['p99', milliseconds(percentile(0.99)), ''],
    ['connections', number(connections), ''],
  ]
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
      `${(row.share * 100).toFixed(1)} %`,
      row.limit ?? '',
      ago(Date.parse(to) - Date.parse(row.since)),
    ],
  }))
  const heads = ['consumer', 'service', 'tier', `>${head}`, '>a second', '>share', 'limit', '>since']
  return [note(facts.join(' ')), table({ caption: 'Who is limited now', heads, rows: lines, none })]
}

function servicesTable(rows) {
  const lines = rows.map(({ service, tier, rates, decided, deciders }) => {
    const decisions = sum(Object.values(decided))
    const share = (value = 0) => (decisions === 0 ? '–' : `${((value * 100) / decisions).toFixed(1)} %`)
    const by = Object.entries(deciders).filter(([, value]) => value > 0)
    const isDegraded = by.some(([name]) => ['open', 'local', 'closed'].includes(name))
    return {
      key: `${service} ${tier}`,
      cells: [
        service,
        tier,
        rate(sum(Object.values(rates))),
        [rate(rates.limited), rates.limited > 0 ? 'limited' : ''],
        rate(rates.client_error),
        [rate(rates.server_error), rates.server_error > 0 ? 'server_error' : ''],
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
  return table({ caption: 'Services and tiers', heads, rows: lines, none: 'No requests yet.' })
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

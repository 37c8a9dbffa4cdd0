// All gateways on the store, as each describes itself.

import { ask } from './api.js'
import {
  button,
  element,
  filterField,
  hashMark,
  moment,
  note,
  problem,
  section,
  show,
  table,
  timeOf,
} from './elements.js'
import { milliseconds, number, rate, seen } from './figures.js'

/** Most gateways that are shown without a click. */
const MANY = 100

export const view = {
  title: () => 'Fleet',
  every: 5000,
  open(root) {
    let isWhole = false
    let typed = ''
    const filter = ({ target }) => {
      typed = target.value.trim().toLowerCase()
      draw()
    }
    let latest
    const showAll = () => {
      isWhole = true
      draw()
    }
    function draw() {
      if (latest === undefined) return
      const { node, gateways, problem: why } = latest
      const sorted = gateways.map((one) => ({ ...one, trouble: troubleOf(one) })).sort(byTrouble)
      const found = sorted.filter((one) => textOf(one).includes(typed))
      const shown = isWhole ? found : found.slice(0, MANY)
      show(
        root,
        why === null ? null : problem(`Only this gateway is shown: ${why}.`),
        section(
          'Configurations and versions',
          { key: 'configurations' },
          note(sumOf(latest, sorted)),
          configTable(gateways),
        ),
        section(
          'Gateways',
          { key: 'gateways', actions: [filterField('Name, group, version or hash', { input: filter })] },
          gatewayTable(shown, node),
          shown.length === found.length ? null : button(`Show all ${number(found.length)}`, showAll),
          ...othersOf(latest).map((text) => note(text)),
        ),
      )
    }
    return {
      async refresh(signal) {
        const { body } = await ask('/fleet', { signal })
        if (signal.aborted) return
        latest = body
        draw()
      },
    }
  },
}

/** Returns what somebody may have to look at, as [text, class]. */
function troubleOf({ state, config, differs, faults, behind, lag_ms: lag }) {
  const found = []
  // Its faults say the same, and more, unless another worker has them.
  if (state === 'degraded' && faults.length === 0) found.push(['decides without the store', 'bad'])
  if (config.rejected !== null) found.push([`file rejected: ${config.rejected.message}`, 'bad'])
  for (const fault of faults) found.push([fault, 'bad'])
  if (differs.includes('name')) found.push(['another gateway has the same name', 'warn'])
  if (differs.includes('configuration'))
    found.push([config.others.length === 0 ? 'another configuration than most' : 'workers differ', 'warn'])
  if (differs.includes('version')) found.push(['another version than most', 'warn'])
  if (behind.length > 0) found.push([`${milliseconds(lag)} behind with ${behind.join(', ')}`, 'warn'])
  return found
}

/** Those with trouble come first; otherwise the order is that of groups and names. */
const byTrouble = (a, b) => (b.trouble.length > 0) - (a.trouble.length > 0)

const textOf = ({ name, group, versions, config }) =>
  [name, group ?? '', ...versions, config.hash].join(' ').toLowerCase()

function sumOf({ gateways, left_out: leftOut }, sorted) {
  const of = (state) => gateways.filter((one) => one.state === state).length
  const states = ['serving', 'degraded', 'draining']
    .filter((state) => of(state) > 0)
    .map((state) => `${number(of(state))} ${state}`)
  const wrong = sorted.filter(({ trouble }) => trouble.length > 0).length
  const all = gateways.reduce((sum, one) => sum + one.requests_per_second, 0)
  const count = gateways.length + leftOut
  return [
    `${number(count)} ${count === 1 ? 'gateway' : 'gateways'}`,
    ...states,
    `${rate(all)} requests/s`,
    wrong === 0 ? 'nothing is wrong' : `something is wrong with ${number(wrong)}`,
  ].join(' · ')
}

/** Shows the configurations of the fleet: how far a change has got. */
function configTable(gateways) {
  const groups = new Map()
  for (const { group, config, versions } of gateways) {
    const key = JSON.stringify([group, config.hash, versions])
    const one = groups.get(key) ?? { key, group, versions, hash: config.hash, count: 0, since: config.since }
    one.count++
    if (config.since > one.since) one.since = config.since
    groups.set(key, one)
  }
  const rows = [...groups.values()].sort(
    (a, b) => compare(a.group ?? '', b.group ?? '') || b.count - a.count || compare(a.key, b.key),
  )
  const inGroups = gateways.some(({ group }) => group !== null)
  return table({
    caption: 'Gateways by configuration and version',
    heads: [...(inGroups ? ['group'] : []), 'configuration', 'version', 'last taken', '>gateways'],
    rows: rows.map(({ key, group, versions, hash, count, since }) => ({
      key,
      cells: [
        ...(inGroups ? [group ?? '–'] : []),
        hashMark(hash),
        versions.join(', '),
        timeOf(since),
        number(count),
      ],
    })),
    none: 'No gateway has said anything yet.',
  })
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

function gatewayTable(gateways, node) {
  const inGroups = gateways.some(({ group }) => group !== null)
  const isWrong = gateways.some(({ trouble }) => trouble.length > 0)
  const rows = gateways.map((one, i) => ({
    // Two gateways may have the same name.
    key: `${one.name} ${one.started} ${one.differs.includes('name') ? i : ''}`,
    cells: [
      [nameOf(one, node), 'id'],
      ...(inGroups ? [one.group ?? '–'] : []),
      [one.state, one.state === 'serving' ? 'good' : one.state === 'degraded' ? 'bad' : 'warn'],
      ...(isWrong ? [[troubleText(one.trouble), 'why']] : []),
      hashMark(one.config.hash),
      timeOf(one.config.since),
      one.versions.join(', '),
      one.workers === null ? '–' : number(one.workers),
      one.lag_ms === 0 ? '0' : milliseconds(one.lag_ms),
      rate(one.requests_per_second),
    ],
  }))
  const heads = ['gateway', ...(inGroups ? ['group'] : []), 'state', ...(isWrong ? ['what is wrong'] : [])]
  return table({
    caption: 'Gateways with their state',
    heads: [...heads, 'configuration', 'since', 'version', '>workers', '>lag', '>requests/s'],
    rows,
    none: 'No gateway matches.',
  })
}

function nameOf({ name, started }, node) {
  return element(
    'span',
    { title: `${seen(name)}, started ${moment(started)}` },
    element('bdi', {}, seen(name)),
    name === node ? ' (this one)' : null,
  )
}

function troubleText(trouble) {
  return element(
    'ul',
    { class: 'lines' },
    ...trouble.map(([text, kind]) => element('li', { class: kind }, seen(text))),
  )
}

function othersOf({ left_out: leftOut, unknown, libraries }) {
  const texts = []
  if (leftOut > 0) texts.push(`${number(leftOut)} more gateways are not in the list.`)
  if (unknown.processes > 0) {
    const names = unknown.names.length === 0 ? '' : `: ${seen(unknown.names.join(', '))}`
    texts.push(
      `${number(unknown.processes)} processes have no status, as they are older or just starting${names}.`,
    )
  }
  if (libraries > 0)
    texts.push(
      `${number(libraries)} ${libraries === 1 ? 'process uses' : 'processes use'} the limiter library.`,
    )
  return texts
}

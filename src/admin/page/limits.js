// Services with the limits that are in force, by tier, and the routes that lead to them.

import { ask } from './api.js'
import {
  button,
  element,
  empty,
  filterField,
  limitName,
  note,
  pill,
  section,
  show,
  table,
} from './elements.js'
import { encoded, number, percent, seen } from './figures.js'

/** Ms after the last key until the gateway is asked. */
const TYPING = 250
/** Most routes of a service that are shown without a click. */
const FEW = 5

const COUNTS = `Decisions of this gateway since its start, each counted for the limit that was binding. Near: allowed, with 80 % of the limit used or
more. A candidate denies nothing; its counts say what it would have decided about the same requests.`

export const view = {
  title: () => 'Limits',
  every: 10_000,
  open(root, { query }, shell) {
    let match = query.get('match') ?? ''
    let pages = 1
    let timer
    function filter({ target }) {
      clearTimeout(timer)
      timer = setTimeout(() => {
        match = target.value.trim()
        pages = 1
        // A reload, or a link that is passed on, shows the same.
        history.replaceState(null, '', match === '' ? '#/limits' : `#/limits?match=${encoded(match)}`)
        shell.refresh()
      }, TYPING)
    }
    function more() {
      pages++
      shell.refresh()
    }

    return {
      async refresh(signal) {
        const { services, total, next } = await readPages(match, pages, signal)
        if (signal.aborted) return
        show(
          root,
          element(
            'div',
            { class: 'head' },
            filterField('Service or path', { value: match, input: filter }),
            note(found(services, total, next)),
          ),
          note(COUNTS),
          ...services.map((one, i) =>
            card(one, {
              key: `${match} ${one.service}`,
              isOpen: match !== '' || one.routes.length <= FEW,
              isWhole: next === null || i < services.length - 1,
            }),
          ),
          services.length === 0 ? empty(`No service and no path has “${seen(match)}”.`) : null,
          next === null ? null : button('Show more', more),
        )
      },
      close: () => clearTimeout(timer),
    }
  },
}

/** Reads the first pages. A service whose routes are on two of them is one service. */
async function readPages(match, count, signal) {
  const services = new Map()
  let after = '0'
  let total = 0
  for (let page = 0; page < count && after !== null; page++) {
    const { body } = await ask(`/services?match=${encoded(match)}&after=${after}`, { signal })
    for (const one of body.services) {
      const known = services.get(one.service)
      services.set(one.service, known ? { ...one, routes: [...known.routes, ...one.routes] } : one)
    }
    total = body.total
    after = body.next
  }
  return { services: [...services.values()], total, next: after }
}

const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? '' : 's'}`

function found(services, total, next) {
  const shown = services.reduce((sum, { routes }) => sum + routes.length, 0)
  const routes =
    next === null ? counted(total, 'route') : `the first ${number(shown)} of ${counted(total, 'route')}`
  return `${counted(services.length, 'service')}, ${routes}`
}

/** @param isWhole false if more of its routes may be on the next page */
function card(
  { service, upstreams, on_failure: onFailure, maintenance, tiers, routes },
  { key, isOpen, isWhole },
) {
  const facts = `${counted(upstreams, 'upstream')}; without the store: ${onFailure}`
  return section(
    service,
    {
      key: service,
      class: 'limits',
      actions: [maintenance ? pill('in maintenance', 'warn') : null, note(facts)],
    },
    table({
      caption: `Limits of ${service}`,
      heads: ['tier', 'limit', '>decisions', '>near', '>denied', '>share denied'],
      rows: tiers.flatMap(tierRows),
      none: 'There are no tiers.',
    }),
    routes.length === 0
      ? note('No route leads here.')
      : element(
          'details',
          { key, open: isOpen },
          element('summary', {}, `${counted(routes.length, 'route')}${isWhole ? '' : ' or more'}`),
          routeTable(service, routes),
        ),
  )
}

function tierRows({ tier, default: isDefault, unlimited, limits, candidates = [] }) {
  const name = isDefault ? `${tier} (default)` : tier
  if (unlimited)
    return [{ key: tier, cells: [name, [element('i', {}, 'unlimited'), 'none'], '', '', '', ''] }]
  return [limits, candidates].flatMap((all, i) => {
    const sum = all.reduce((most, { decisions }) => most + totalOf(decisions), 0)
    return all.map((limit, j) => ({
      key: JSON.stringify([tier, i, limit.name]),
      cells: limitCells(limit, sum, i === 0 && j === 0 ? name : '', i === 1),
    }))
  })
}

const totalOf = ({ allowed, near, denied }) => allowed + near + denied

function limitCells({ decisions, ...limit }, sum, tier, isCandidate) {
  const { near, denied } = decisions
  return [
    tier,
    limitName(limit, isCandidate),
    number(totalOf(decisions)),
    number(near),
    [number(denied), denied > 0 && !isCandidate ? 'limited' : ''],
    sum === 0 ? '–' : percent(denied / sum),
  ]
}

function routeTable(service, routes) {
  // Most routes have none of these.
  const hasMore = routes.some((route) => othersOf(route) !== '')
  const rows = routes.map((route, i) => ({
    key: i,
    cells: [
      [`${route.hosts.join(', ')}${route.path}`, 'id why'],
      route.methods.join(', ') || 'any',
      costOf(route),
      [credentialsOf(route.auth), 'why'],
      ...(hasMore ? [[othersOf(route), 'why']] : []),
    ],
  }))
  const heads = ['path', 'methods', '>cost', 'credentials', ...(hasMore ? ['more'] : [])]
  return table({ caption: `Routes to ${service}`, heads, rows, none: '' })
}

function costOf({ cost, cost_from: from, cost_header: header }) {
  if (header !== undefined) return `${cost}, then ${header}`
  return from === undefined ? String(cost) : `${cost} (${from.header} up to ${number(from.max)})`
}

function credentialsOf(auth) {
  if (auth === undefined) return 'any'
  const kinds = (auth.any_of ?? ['any']).map((kind) => kind.replaceAll('_', ' ')).join(' or ')
  const scopes = auth.scopes.length === 0 ? '' : ` with ${auth.scopes.join(' ')}`
  const service = auth.forward === undefined ? '' : `; ${auth.forward} decides`
  return `${kinds}${auth.required ? '' : ' or none'}${scopes}${service}`
}

function othersOf({ split, mirror, refund_on: refundOn }) {
  const parts = []
  if (split !== undefined)
    parts.push(`split: ${split.map(({ service, weight }) => `${service} ${weight}`).join(', ')}`)
  if (mirror !== undefined) parts.push(`mirrors ${mirror.share} % to ${mirror.service}`)
  if (refundOn !== undefined) parts.push(`refunded on ${refundOn.join(' ')}`)
  return parts.join('; ')
}

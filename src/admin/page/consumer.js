// A consumer: its tier, limits, denials, keys and use, and what support may change of them.

import { ask, segment } from './api.js'
import { changesSection, createChanges } from './changes.js'
import { changeButton } from './dialog.js'
import {
  bar,
  element,
  empty,
  facts,
  limitName,
  moment,
  note,
  pill,
  problem,
  requestLink,
  section,
  show,
  table,
  timeOf,
} from './elements.js'
import { ago, kindText, number, quotaText, seen, tierText } from './figures.js'
import { hoursChart } from './hours.js'

/** Characters of an id in the heading. */
const LONG = 120
/** Denials that are shown without a click. */
const FEW = 5

export const view = {
  title: ({ id = '' }) => `Consumer ${id.length > LONG ? `${id.slice(0, LONG)}…` : id}`,
  every: 5000,
  open(root, { id = '', query }, shell) {
    const tenant = query.get('tenant')
    const asked = tenant === null ? '' : `?tenant=${encodeURIComponent(tenant)}`
    const changes = createChanges(shell)
    const clock = setInterval(() => countDown(root), 1000)
    return {
      async refresh(signal) {
        if (id === '') return show(root, empty('Type the id of a consumer into the search field.'))
        const { body } = await ask(`/consumers/${segment(id)}${asked}`, { signal })
        const { consumer, tenant: known } = body
        const changed = await changes.read([consumer, known].filter(Boolean), signal)
        if (!signal.aborted) show(root, ...parts({ ...body, typed: id, changed }, changes.shell))
      },
      close: () => clearInterval(clock),
    }
  },
}

/** Lets the resets count down between two answers. */
function countDown(root) {
  for (const one of root.querySelectorAll('[data-reset]'))
    one.textContent = resetText(Number(one.dataset.reset))
}

const resetText = (at) => `, resets in ${ago(at - Date.now())}`

function parts(consumer, shell) {
  return [
    latestDenial(consumer),
    tierSection(consumer, shell),
    limitsSection(consumer, shell),
    denialsSection(consumer),
    amountsSection(consumer, shell),
    changesSection(consumer.changed, 'No operator has changed anything of it.'),
    hoursSection(consumer),
    keysSection(consumer, shell),
    bansSection(consumer, shell),
  ].map((part, i) => part && Object.assign(part, { key: String(i) }))
}

const put = (path, body, reason) => ask(path, { method: 'PUT', body, reason })
const remove = (path, reason) => ask(path, { method: 'DELETE', reason })
const tierPath = ({ consumer }) => `/consumers/${segment(consumer)}/tier`
const amountPath = (kind, { service, limit, of, id }) =>
  `/${kind}s/${segment(service)}/${segment(limit)}/${of}/${segment(id)}`

/** A field for a duration. With `end` it may be empty, for a change that lasts until then. */
const lasting = (value, end) => ({
  name: 'for',
  label: 'For',
  value,
  required: end === undefined,
  hint: `Such as 30m, 2h or 7d.${end === undefined ? '' : ` Empty: until ${end}.`}`,
})
const forOf = (values) => (values.for === '' ? {} : { for: values.for })

/** Tells the latest denial in a sentence, if it is of the last hour. */
function latestDenial({ denials }) {
  const [latest] = denials ?? []
  const age = latest === undefined ? undefined : Date.now() - Date.parse(latest.time)
  if (age === undefined || age > 3_600_000) return null
  const text = ` ${ago(age)} ago. ${seen(latest.why)} `
  return element('p', { class: 'lead' }, pill('Limited', 'warn'), text, requestLink(latest.request_id))
}

/** Makes the card of a part that could not be read. */
const unknown = (title, why) => section(title, {}, problem(why))

function tierSection(consumer, shell) {
  const { typed, consumer: id, tenant, tier, assigned, until, tiers } = consumer
  const set = changeButton(shell, 'Set a tier…', {
    role: 'support',
    title: `Set the tier of ${id}`,
    text: 'It holds on every gateway within a second, whatever the credential says.',
    fields: [
      { name: 'tier', label: 'Tier', value: assigned ?? tier, options: tiers },
      lasting('1h', 'it is removed'),
    ],
    confirm: 'Set the tier',
    action: (values, reason) => put(tierPath(consumer), { tier: values.tier, ...forOf(values) }, reason),
    done: (body) => `${id} is on tier ${body.tier} now.`,
  })
  const unset = changeButton(shell, 'Remove the assignment…', {
    role: 'support',
    kind: 'danger',
    title: `Remove the assigned tier of ${id}`,
    text: 'The tier is that of the credential again, of a tier source, or the default.',
    confirm: 'Remove the assignment',
    action: (_values, reason) => remove(tierPath(consumer), reason),
    done: (body) => `${id} is on tier ${body.tier} now.`,
  })
  return section(
    'Tier',
    { actions: [set, assigned === null ? null : unset] },
    facts([
      ['tier', element('span', {}, pill(tier, ''), ` ${tierText(consumer)}`)],
      ['assigned', assigned === null ? null : assignedText(assigned, until)],
      ['tenant', tenant],
      ['whole id', typed.length > LONG ? typed : null],
      ['counted as', typed === id ? null : id],
    ]),
    isUnknown(consumer)
      ? note('Nothing is known of this id: no use, key, assignment or denial. Is it spelled right?')
      : null,
    ...(consumer.tier_notes ?? []).map((text) => note(seen(`${text[0].toUpperCase()}${text.slice(1)}.`))),
  )
}

const isUnknown = ({ tier_from: from, services, keys, denials }) =>
  from === 'default' && services?.every(isQuiet) && keys?.length === 0 && denials?.length === 0

const assignedText = (tier, until) =>
  element(
    'span',
    {},
    `${seen(tier)}, `,
    ...(until === null ? ['until it is removed'] : ['until ', timeOf(until)]),
  )

/** Returns true if nothing is used of a service, and its limits are those of the tier. */
const isQuiet = ({ unlimited, limits, decided_by: by }) =>
  unlimited ||
  (by !== 'open' &&
    by !== 'closed' &&
    limits.every(({ used, changed }) => used === 0 && changed === undefined))

function limitsSection(consumer, shell) {
  const { services, services_left_out: leftOut, problems, denials } = consumer
  if (services === null) return unknown('Limits', problems.services)
  const isLocal = services.some(({ decided_by: by }) => by === 'local')
  // The latest denial may be by a limit that is not counted by consumer.
  const isShown = (one) => !isQuiet(one) || one.service === denials?.[0]?.service
  const busy = services.filter(isShown)
  const quiet = services.filter((one) => !isShown(one))
  const cards = (some) => some.map((one) => serviceCard(consumer, one, shell))
  return section(
    'Limits',
    {},
    isLocal ? element('p', { class: 'warn' }, AWAY.local) : null,
    busy.length === 0 ? empty('Nothing is used of any limit.') : null,
    ...cards(busy),
    quiet.length === 0
      ? null
      : element(
          'details',
          { key: 'quiet', open: busy.length === 0 && quiet.length <= 3 },
          element(
            'summary',
            {},
            `${number(quiet.length)} ${quiet.length === 1 ? 'service' : 'services'} of which nothing is used`,
          ),
          ...cards(quiet),
        ),
    leftOut === 0
      ? null
      : note(`${number(leftOut)} more services are not shown. The command tidegate usage shows each.`),
  )
}

const AWAY = {
  local: 'The store is away: the counts are those of this gateway, within its share of each limit.',
  open: 'The store is away: requests pass uncounted.',
  closed: 'The store is away: requests are denied.',
}

function serviceCard(consumer, usage, shell) {
  const { service, unlimited, limits, candidates = [], decided_by: by, not_shown: notShown = [] } = usage
  const reset = changeButton(shell, 'Reset usage…', {
    role: 'support',
    kind: 'danger',
    title: `Reset the usage of ${consumer.consumer} on ${service}`,
    text: 'The next request finds a full quota. Limits by address, tenant, route or service keep their counts.',
    confirm: 'Reset usage',
    action: (_values, reason) => remove(`/usage/${segment(service)}/${segment(consumer.consumer)}`, reason),
    done: () => `The usage of ${service} is reset.`,
  })
  const isAway = by === 'open' || by === 'closed'
  const rows = [
    ...limits.map((limit) => limitRow(limit, amountButtons(consumer, service, limit, shell))),
    ...candidates.map((limit) => limitRow({ ...limit, isCandidate: true }, [])),
  ]
  return element(
    'div',
    { class: 'service', key: service },
    element('div', { class: 'head' }, element('h3', {}, service), unlimited ? null : reset),
    unlimited ? empty(`Unlimited on tier ${consumer.tier}.`) : null,
    isAway ? element('p', { class: 'warn' }, AWAY[by]) : null,
    ...rows,
    ...(isAway ? [] : notShown).map(({ name, by }) =>
      note(`“${name}” is not shown: it is counted by ${kindText(by)}, which the id does not tell.`),
    ),
  )
}

function limitRow(limit, actions) {
  const { name, used, remaining, changed, isCandidate } = limit
  const isUp = remaining === 0
  // More may be used than is allowed now, as after a boost. Without the store, less is allowed here than the amount.
  const allows = isUp ? Math.min(used, limit.burst ?? limit.amount) : used + remaining
  const most = Math.max(1, allows)
  const label = `${number(used)} of ${number(allows)} used`
  // The boosted part is at the end of the bar, as far as it is not used.
  const boosted = Math.min(changed?.boost ?? 0, remaining)
  const shares = [
    [used, isUp ? 'over' : 'used'],
    [remaining - boosted, 'free'],
    [boosted, 'boosted'],
  ]
  const end = Date.now() + limit.reset_ms
  // Requests that run end by themselves.
  const hasReset = used > 0 && limit.algorithm !== 'concurrency'
  return element(
    'div',
    { class: 'limit', key: `${name} ${isCandidate}` },
    limitName(limit, isCandidate),
    element(
      'div',
      {},
      bar({ parts: shares.map(([part, kind]) => [part / most, kind]), label }),
      element(
        'p',
        { class: 'note' },
        element('span', { class: isUp ? 'limited' : undefined }, isUp ? `used up: ${label}` : label),
        hasReset ? element('span', { 'data-reset': end }, resetText(end)) : null,
        changed === undefined ? '' : `; ${changeText(changed)}`,
        isCandidate ? '; it decides nothing' : '',
      ),
    ),
    element('div', { class: 'actions' }, ...actions),
  )
}

function changeText({ tier_amount: tier, override, boost }) {
  const base =
    override === null ? `the tier allows ${number(tier)}` : `override ${number(override)} of ${number(tier)}`
  return boost === 0 ? base : `${base}, and a boost ${number(boost)} more`
}

/** Returns the buttons that change a limit of a consumer, or of its tenant if the limit is the tenant's. */
function amountButtons({ consumer, tenant }, service, limit, shell) {
  const { name, by, changed, amount } = limit
  if (by === 'service' || by === 'route') return []
  const [of, id] = by === 'tenant' && tenant !== null ? ['tenant', tenant] : ['consumer', consumer]
  const place = { service, limit: name, of, id }
  const own = changed?.override ?? changed?.tier_amount ?? amount
  // A new boost replaces the one that is there: less than both would take from the consumer.
  const boost = changed?.boost ?? 0
  const what = `“${name}” of ${service} for ${of === 'tenant' ? 'the tenant ' : ''}${id}`
  const hint = `It allows ${quotaText(limit)} now.`
  return [
    changeButton(shell, 'Boost…', {
      role: 'support',
      title: `Boost ${what}`,
      text: `The limit is larger until the boost ends.${boost === 0 ? '' : ` It replaces the boost of ${number(boost)}.`}`,
      fields: [
        { name: 'by', label: 'How much more', type: 'number', value: own + boost, hint },
        lasting('1h'),
      ],
      confirm: 'Boost',
      action: (values, reason) =>
        put(amountPath('boost', place), { by: Number(values.by), for: values.for }, reason),
      done: (body) => `${number(body.by)} more until ${moment(body.until)}.`,
    }),
    changeButton(shell, 'Override…', {
      role: 'operator',
      title: `Override ${what}`,
      text: 'The amount replaces what the tier allows.',
      fields: [
        { name: 'amount', label: 'Amount', type: 'number', value: own, hint },
        lasting('', 'it is removed'),
      ],
      confirm: 'Override',
      action: (values, reason) =>
        put(amountPath('override', place), { amount: Number(values.amount), ...forOf(values) }, reason),
      done: (body) => `The limit allows ${number(body.amount)}.`,
    }),
  ]
}

function denialsSection({ denials, nodes, problems }) {
  if (denials === null) return unknown('Latest denials', problems.denials)
  const items = denials.map(({ request_id: id, time, service, limit, why, node, route }) =>
    element(
      'li',
      { key: `${node} ${id} ${time}` },
      element(
        'p',
        { class: 'note' },
        timeOf(time),
        ' ',
        requestLink(id),
        ` ${seen([service, limit].filter(Boolean).join('/'))}, route ${seen(route ?? '–')}`,
      ),
      element('p', {}, seen(why)),
    ),
  )
  const list = (some) => element('ul', { class: 'denials' }, ...some)
  const others = items.slice(FEW)
  return section(
    'Latest denials',
    {},
    nodesNote(nodes, 'know more'),
    items.length === 0 ? empty('No gateway keeps a denial of it.') : list(items.slice(0, FEW)),
    others.length === 0
      ? null
      : element('details', {}, element('summary', {}, `${others.length} before them`), list(others)),
  )
}

/** Says which gateways are missing in an answer; null if none is. */
function nodesNote({ silent, problem: why }, may) {
  if (why !== null) return problem(`The other gateways could not be asked: ${why}.`)
  return silent.length === 0 ? null : problem(`No answer came from ${silent.join(', ')}, which may ${may}.`)
}

function amountsSection({ boosts, overrides, problems }, shell) {
  if (boosts === null || overrides === null)
    return unknown('Boosts and overrides', problems.boosts ?? problems.overrides)
  const rowOf = (kind) => (one) => {
    const { service, limit, until, reason } = one
    const [of, id] = one.tenant === undefined ? ['consumer', one.consumer] : ['tenant', one.tenant]
    return {
      key: `${kind} ${of} ${service} ${limit}`,
      cells: [
        seen(`${service}/${limit}`),
        kind === 'boost' ? `${number(one.by)} more` : `${number(one.amount)} instead`,
        of === 'tenant' ? `tenant ${seen(id)}` : 'consumer',
        until === null ? 'until removed' : timeOf(until),
        [seen(reason ?? '–'), 'why'],
        changeButton(shell, 'Remove…', {
          role: kind === 'boost' ? 'support' : 'operator',
          kind: 'danger',
          title: `Remove the ${kind} of “${limit}” of ${service} for ${id}`,
          confirm: `Remove the ${kind}`,
          action: (_values, why) => remove(amountPath(kind, { service, limit, of, id }), why),
          done: () => `The ${kind} is removed.`,
        }),
      ],
    }
  }
  return section(
    'Boosts and overrides',
    {},
    table({
      caption: 'Boosts and overrides',
      heads: ['limit', 'change', 'for', 'ends', 'reason', '>'],
      rows: [...boosts.map(rowOf('boost')), ...overrides.map(rowOf('override'))],
      none: 'Every limit allows what the tier allows.',
    }),
  )
}

function hoursSection({ hours, hours_since: since, hours_nodes: nodes, problems }) {
  if (problems.hours !== undefined) return unknown('Last 24 hours', problems.hours)
  if (hours === null) return null
  return section(
    'Last 24 hours',
    {},
    nodesNote(nodes, 'have counted more'),
    since === null
      ? null
      : element('p', { class: 'note' }, 'What was used before ', timeOf(since), ' may be missing.'),
    ...hoursChart(hours),
  )
}

function keysSection({ keys, more_keys: more, problems }, shell) {
  if (keys === null) return unknown('API keys', problems.keys)
  const rows = keys.map((key) => ({
    key: key.id,
    cells: [
      [key.id, 'id'],
      seen(key.name ?? '–'),
      seen(key.tier ?? '–'),
      key.replaced_by === null ? key.state : seen(`${key.state}, replaced by ${key.replaced_by}`),
      key.last_used === null ? 'never' : timeOf(key.last_used),
      key.expires === null ? 'never' : timeOf(key.expires),
      changeButton(shell, 'Revoke…', {
        role: 'support',
        kind: 'danger',
        title: `Revoke the key ${key.id}`,
        text: `Every gateway refuses it within a second. It cannot be brought back.${key.name === null ? '' : ` Its name is “${key.name}”.`}`,
        confirm: 'Revoke the key',
        action: (_values, reason) => remove(`/keys/${segment(key.id)}`, reason),
        done: () => 'The key is revoked.',
      }),
    ],
  }))
  return section(
    'API keys',
    {},
    table({
      caption: 'API keys',
      heads: ['id', 'name', 'tier', 'state', 'last used', 'expires', '>'],
      rows,
      none: 'The store has no key of it. Keys of the configuration are not listed.',
    }),
    more ? note('It has more keys: tidegate key list --consumer lists all.') : null,
  )
}

function bansSection({ consumer, by_address: byAddress, bans, problems }, shell) {
  if (bans === null) return unknown('Bans', problems.bans)
  if (!byAddress) return null
  const ban = changeButton(shell, 'Ban the address…', {
    role: 'support',
    kind: 'danger',
    title: `Ban ${consumer}`,
    text: 'Every gateway refuses its connections within a second.',
    fields: [lasting('1h', 'it is lifted')],
    confirm: 'Ban the address',
    action: (values, reason) =>
      put(`/bans/${segment(consumer)}`, { ...forOf(values), reason: reason.slice(0, 200) }, reason),
    done: ({ let_in: lets }) =>
      lets === undefined ? 'The address is banned.' : `The ban has no effect: ${lets} lets the address in.`,
  })
  const rows = bans.map(({ block, source, until, reason }) => ({
    key: block,
    cells: [
      [block, 'id'],
      source,
      until === null ? 'until lifted' : timeOf(until),
      [seen(reason ?? '–'), 'why'],
      changeButton(shell, 'Lift…', {
        role: 'support',
        title: `Lift the ban of ${block}`,
        confirm: 'Lift the ban',
        action: (_values, why) => remove(`/bans/${segment(block)}`, why),
        done: () => 'The ban is lifted.',
      }),
    ],
  }))
  const heads = ['addresses', 'by', 'ends', 'reason', '>']
  return section(
    'Bans',
    { actions: [ban] },
    table({ caption: 'Bans', heads, rows, none: 'No ban holds for this address.' }),
  )
}

// Parts of views. All values are set as text: clients choose ids, and Trusted Types allow nothing else.
//
// A view builds what it shows as new elements and gives them to `show(root, …)` at every refresh. `show` changes only
// what differs from what is there, so focus, selection, scroll position, typed text and open <details> stay. Give
// what may move or disappear (rows of a table, cards of a list) a `key` that is unique among its siblings. An element
// that stays (a filter field, a button) may be a part of each new tree: it is left where it is.
//
//   element('p', { class: 'note' }, 'text', element('b', {}, 'more'))   attributes; functions are handlers: { click() {} }
//   svg('rect', { width: '40%' })           the same for SVG. `style` attributes do not work (CSP): use SVG widths
//   show(root, ...children)                 see above; children are elements, texts, or null (left out)
//   section('Limits', { actions: [button] }, ...children)               a card with a heading (h2)
//   table({ caption, heads: ['service', '>429/s'], rows: [{ key, cells: [text | element | [text | element, class]] }],
//           none: 'No keys.' })                             `>`: a column of numbers, right-aligned
//   bar({ parts: [[0.4, 'used'], [0.1, 'boosted']], label: '40 of 100' })   shares of the whole, 0 to 1; read as `label`
//   facts([['tier', 'pro'], ['until', timeOf(iso)]])                    names and values
//   timeOf(iso) · ago(ms) in figures.js     a moment in local time
//   consumerLink(id) · requestLink(id) · serviceLink(name)   links to their pages
//   pill(text, 'good' | 'warn' | 'bad' | '')   a state in a word; colour never says it alone
//   limitName(limit, isCandidate)           the name of a limit, and what it allows
//   hashMark(hash)                          the hash of a configuration, with a dot whose colour is that of equal hashes
//   filterField('Service or path', { value: 'typed', input() {} })
//   problem(text) · empty(text) · note(text)
//   button(text, click, { kind: 'primary' | 'danger' | '', needs: role, shell, pressed: true | false })   disabled if the role is not enough,
//           and says which role is needed. For a change use `changeButton` of dialog.js.

import { encoded, quotaText, seen } from './figures.js'

export const $ = (id) => document.getElementById(id)

const SVG = 'http://www.w3.org/2000/svg'

export const element = (tag, attributes, ...children) =>
  made(document.createElement(tag), attributes, children)
export const svg = (tag, attributes, ...children) =>
  made(document.createElementNS(SVG, tag), attributes, children)

function made(node, { key, ...attributes }, children) {
  if (key !== undefined) node.key = String(key)
  node.handlers = {}
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.handlers[`on${name}`] = value
    else if (value !== undefined && value !== null && value !== false)
      node.setAttribute(name, value === true ? '' : value)
  }
  Object.assign(node, node.handlers)
  node.append(...present(children).map(kept))
  return node
}

/** Returns a stand-in for an element that is on the page: a new tree would take it, and its focus, away. */
function kept(child) {
  if (!child.isConnected) return child
  child.isKept = true
  return Object.assign(document.createComment(''), { keeps: child, key: child.key })
}

/** Puts the elements that stay into a new tree, which is about to be shown. */
function settled(node) {
  const all = document.createTreeWalker(node, NodeFilter.SHOW_COMMENT)
  const found = []
  while (all.nextNode()) found.push(all.currentNode)
  for (const one of found) if (one.keeps) one.replaceWith(one.keeps)
  return node
}

const present = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined && child !== false)

/** Makes the children of a node alike the given ones, and keeps those that are there. See the top of this file. */
export function show(parent, ...children) {
  const back = placeOfFocus()
  patchChildren(parent, present(children))
  back()
}

/** Returns a function that gives the focus back to what has it now, or to the heading of its card if that is gone. */
export function placeOfFocus() {
  const focused = document.activeElement
  const card = focused?.closest('section')
  return () => {
    if (focused === document.activeElement || focused === document.body) return
    const place = focused?.isConnected ? focused : card?.isConnected ? card.querySelector('h2') : $('heading')
    place?.focus({ preventScroll: true })
  }
}

function patchChildren(parent, children) {
  const wanted = new Set(children.map((child) => child.key))
  const keyed = new Map()
  for (const child of [...parent.childNodes]) {
    if (child.key === undefined) continue
    if (wanted.has(child.key)) keyed.set(child.key, child)
    else child.remove()
  }
  let there = parent.firstChild
  for (const child of children) {
    const node = typeof child === 'object' ? child : document.createTextNode(child)
    const known = node.key === undefined ? there : keyed.get(node.key)
    keyed.delete(node.key)
    if (node.keeps !== undefined) {
      if (node.keeps === there) there = there.nextSibling
      else parent.insertBefore(node.keeps, there)
    } else if (known && isAlike(known, node)) {
      if (known === there) there = there.nextSibling
      else parent.insertBefore(known, there)
      if (known !== node) patch(known, node)
    } else if (there && node.key === undefined && there.key === undefined) {
      const next = there.nextSibling
      there.replaceWith(settled(node))
      there = next
    } else parent.insertBefore(settled(node), there)
  }
  while (there) {
    const next = there.nextSibling
    there.remove()
    there = next
  }
}

const isAlike = (a, b) => a === b || (a.nodeName === b.nodeName && a.key === b.key && !a.isKept)

/** Attributes that the reader changes: a refresh leaves them alone. */
const OF_READER = ['open', 'value', 'checked']

function patch(there, node) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (there.data !== node.data) there.data = node.data
    return
  }
  for (const { name } of [...there.attributes])
    if (!node.hasAttribute(name) && !OF_READER.includes(name)) there.removeAttribute(name)
  for (const { name, value } of [...node.attributes])
    if (there.getAttribute(name) !== value && !OF_READER.includes(name)) there.setAttribute(name, value)
  for (const name of Object.keys(there.handlers ?? {})) there[name] = null
  Object.assign(there, node.handlers)
  there.handlers = node.handlers
  patchChildren(there, [...node.childNodes])
}

/** Makes a card. Titles are unique in a view. */
export function section(title, { actions = [], ...attributes } = {}, ...children) {
  const id = `h-${title.toLowerCase().replace(/\W+/g, '-')}`
  const heading = element('h2', { id, tabindex: -1 }, title)
  const head = element('div', { class: 'head' }, heading, ...actions)
  return element('section', { 'aria-labelledby': id, ...attributes }, head, ...children)
}

export function table({ caption, heads, rows, none }) {
  if (rows.length === 0) return empty(none)
  const isNumber = heads.map((head) => head.startsWith('>'))
  const classOf = (i, kind) => [isNumber[i] && 'number', kind].filter(Boolean).join(' ') || undefined
  const cell = (value, i) => {
    const [what, kind] = Array.isArray(value) ? value : [value]
    return element(
      'td',
      { class: classOf(i, kind) },
      typeof what === 'object' ? what : element('bdi', {}, String(what)),
    )
  }
  const names = heads.map((head, i) =>
    element('th', { scope: 'col', class: classOf(i) }, head.replace(/^>/, '')),
  )
  return element(
    'div',
    { class: 'scroll', role: 'group', 'aria-label': caption, tabindex: 0 },
    element(
      'table',
      {},
      element('caption', { class: 'sr' }, caption),
      element('thead', {}, element('tr', {}, ...names)),
      element('tbody', {}, ...rows.map(({ key, cells }) => element('tr', { key }, ...cells.map(cell)))),
    ),
  )
}

export function bar({ parts, label }) {
  let x = 0
  const rects = parts.map(([share, kind]) => {
    const width = Math.max(0, Math.min(share, 1 - x))
    const rect = svg('rect', { class: kind, x: `${x * 100}%`, width: `${width * 100}%`, height: '100%' })
    x += width
    return rect
  })
  return svg('svg', { class: 'bar', role: 'img', 'aria-label': label }, ...rects)
}

export function facts(pairs) {
  const parts = pairs
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) =>
      element(
        'div',
        { key: name },
        element('dt', {}, name),
        element('dd', {}, typeof value === 'object' ? value : element('bdi', {}, seen(String(value)))),
      ),
    )
  return element('dl', { class: 'facts' }, ...parts)
}

// Made once: to make one takes longer than to build a row of a table.
const [clock, short, whole] = [
  { timeStyle: 'medium' },
  { dateStyle: 'medium', timeStyle: 'short' },
  { dateStyle: 'medium', timeStyle: 'medium' },
].map((style) => new Intl.DateTimeFormat(undefined, style))

/** Formats a moment with its date. */
export const moment = (iso) => whole.format(new Date(iso))

/** Shows a moment: the time of today, else with its date. The hint has both. */
export function timeOf(iso) {
  if (iso === null || iso === undefined) return element('span', {}, '–')
  const at = new Date(iso)
  const isToday = at.toDateString() === new Date().toDateString()
  return element('time', { datetime: iso, title: moment(iso) }, (isToday ? clock : short).format(at))
}

const link = (place, id) =>
  element('a', { href: `#/${place}/${encoded(id)}`, class: 'id' }, element('bdi', {}, seen(id) || '""'))
export const consumerLink = (id) => link('consumer', id)
export const requestLink = (id) => link('why', id)
/** Leads to the limits and routes of a service. Traffic without a route has none. */
export const serviceLink = (name) =>
  name === 'none' ? name : element('a', { href: `#/limits?match=${encoded(name)}` }, name)

/** A spot in the colour of a class of responses, for a legend. */
export const swatch = (kind) => element('i', { class: `swatch ${kind}` })
export const pill = (text, kind) => element('span', { class: `pill ${kind}` }, text)
/** Shows a limit: its name, and what it allows. */
export function limitName(limit, isCandidate = false) {
  return element(
    'div',
    {},
    element('b', {}, limit.name),
    ' ',
    element('span', { class: 'note' }, quotaText(limit)),
    isCandidate ? [' ', pill('candidate', '')] : null,
  )
}
export function hashMark(hash) {
  const hue = Number.parseInt(hash.slice(0, 4), 16) % 360
  const dot = svg('circle', { cx: '50%', cy: '50%', r: '40%', fill: `hsl(${hue} 60% 50%)` })
  return element('code', {}, svg('svg', { class: 'dot', 'aria-hidden': 'true' }, dot), ` ${hash}`)
}

export function filterField(label, { value, input, size = 28 }) {
  const given = { 'aria-label': label, placeholder: label, autocomplete: 'off', spellcheck: 'false' }
  return element('input', { type: 'search', maxlength: 200, ...given, size, value, input })
}

export const problem = (text) => element('p', { class: 'bad' }, seen(text))
export const empty = (text) => element('p', { class: 'none' }, text)
export const note = (text) => element('p', { class: 'note' }, text)

export function button(text, click, { kind = '', needs, shell, pressed } = {}) {
  const isAllowed = needs === undefined || shell.may(needs)
  return element(
    'button',
    {
      type: 'button',
      class: kind || undefined,
      disabled: !isAllowed,
      'aria-pressed': pressed === undefined ? undefined : String(pressed),
      click,
    },
    text,
    isAllowed ? null : element('span', { class: 'needs' }, ` needs ${needs}`),
  )
}

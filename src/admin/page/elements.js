// All values are set as text: clients choose the ids of consumers, and Trusted Types allow nothing else.

export const $ = (id) => document.getElementById(id)

export function element(tag, attributes, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/**
 * Fills a table. Heads are texts; cells are texts, or [text, class], or [text, class, hint]. `none` is shown if there
 * are no rows.
 */
export function fill(table, heads, rows, none) {
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

export function note(id, text) {
  $(id).hidden = text === ''
  $(id).textContent = text
}

export function pill(text, kind) {
  const state = $('state')
  // Set only when it changes: a screen reader reads it aloud.
  if (state.textContent !== text) state.textContent = text
  state.className = `pill ${kind}`
  document.title = kind === 'good' || kind === '' ? 'Tidegate' : `${text} – Tidegate`
}

// Everything is set as text: ids of consumers are what callers made up, and Trusted Types leave no other way.

export const $ = (id) => document.getElementById(id)

export function element(tag, attributes, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** Heads are texts; cells are texts, or [text, class], or [text, class, hint]. Without rows it says what that means. */
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
  // Set only when it changes: it is read aloud.
  if (state.textContent !== text) state.textContent = text
  state.className = `pill ${kind}`
  document.title = kind === 'good' || kind === '' ? 'Tidegate' : `${text} – Tidegate`
}

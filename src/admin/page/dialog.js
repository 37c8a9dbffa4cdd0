// Changes, each confirmed in a dialog with a reason.
//
//   changeButton(shell, 'Boost', {
//     role: 'support',                       the button is disabled for a lower role, and says so
//     kind: 'danger',                        or 'primary', or left out
//     title: 'Boost payments/minute of acme',
//     text: 'The limit is larger until the boost ends.',     optional
//     fields: [
//       { name: 'by', label: 'More requests', value: 600, type: 'number', hint: 'The limit is 600 a minute.' },
//       { name: 'tier', label: 'Tier', value: 'pro', options: ['free', 'pro'] },
//       { name: 'for', label: 'For', value: '1h', required: false },          default: required
//     ],
//     confirm: 'Boost',                      text of the button that makes the change; default: the button's text
//     action: (values, reason) => ask(path, { method: 'PUT', body: { … values.by }, reason }),   values are texts
//     done: (body) => 'text',                optional: what to say of the answer
//   })
//
// The dialog asks for the reason itself. It shows the error of a refused change and stays open. After a change it shows
// the entry of the audit, and `shell.refresh()` runs. `confirmChange(shell, change)` opens the dialog without a button
// and resolves with true after a change. A function instead of the object is called on the click, for values of that moment.

import { ask, errorText, Refused } from './api.js'
import { showEntry } from './changes.js'
import { button, element, placeOfFocus, problem, show } from './elements.js'
import { seen } from './figures.js'

const LONGEST_REASON = 500

export function changeButton(shell, text, change) {
  const options = typeof change === 'function' ? change() : change
  const { kind, role } = options
  const open = () =>
    confirmChange(shell, { confirm: text, ...(typeof change === 'function' ? change() : change) })
  return button(text, open, { kind, needs: role, shell })
}

export function confirmChange(
  shell,
  { title, text, fields = [], kind = 'primary', confirm = title, action, done },
) {
  const close = () => dialog.close()
  const error = element('div', { role: 'alert' })
  const submit = element('button', { type: 'submit', class: kind }, confirm)
  const inputs = fields.map(inputOf)
  const reason = inputOf({
    name: 'reason',
    label: 'Reason, for the audit',
    value: '',
    maxlength: LONGEST_REASON,
  })
  const form = element(
    'form',
    { submit },
    element('h2', { id: 'dialog-title' }, seen(title)),
    text === undefined ? null : element('p', {}, seen(text)),
    ...inputs.map(({ field }) => field),
    reason.field,
    error,
    element('div', { class: 'actions' }, button('Cancel', close), submit),
  )
  const dialog = element('dialog', { 'aria-labelledby': 'dialog-title' }, form)
  let isChanged = false
  let isBusy = false

  form.onsubmit = async (event) => {
    event.preventDefault()
    const why = reason.input.value.trim()
    if (why === '') {
      show(error, problem('Give a reason.'))
      reason.input.focus()
      return
    }
    busy(true)
    show(error)
    try {
      const values = Object.fromEntries(inputs.map(({ name, input }) => [name, input.value.trim()]))
      const { body, audit } = await action(values, why)
      isChanged = true
      await showDone(body, audit)
    } catch (failure) {
      const doubt = failure instanceof Refused ? '' : ' The change may have been made.'
      show(error, problem(errorText(failure) + doubt))
    }
    busy(false)
  }
  function busy(is) {
    isBusy = is
    submit.disabled = is
    form.setAttribute('aria-busy', is)
  }
  async function showDone(body, audit) {
    const last = button('Close', close, { kind: 'primary' })
    form.replaceChildren(
      element('h2', { id: 'dialog-title' }, seen(title)),
      element('p', { class: 'good', role: 'status' }, seen(done?.(body) ?? 'Done.')),
      ...(await auditEntry(audit)),
      element('div', { class: 'actions' }, last),
    )
    last.focus()
    shell.refresh()
  }

  const back = placeOfFocus()
  document.body.append(dialog)
  dialog.oncancel = (event) => {
    if (isBusy) event.preventDefault()
  }
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.onclose = () => {
      dialog.remove()
      back()
      resolve(isChanged)
    }
  })
}

/** Makes a labelled input, or a select for `options`. */
function inputOf({ name, label, value = '', type = 'text', options, hint, required = true, maxlength }) {
  const id = `field-${name}`
  const hintId = hint === undefined ? undefined : `hint-${name}`
  const shared = { id, name, required, 'aria-describedby': hintId }
  const input =
    options === undefined
      ? element('input', {
          ...shared,
          type,
          value,
          maxlength,
          autocomplete: 'off',
          step: type === 'number' ? 'any' : undefined,
        })
      : element(
          'select',
          shared,
          ...options.map((option) => element('option', { selected: option === value }, option)),
        )
  // The hint is not in the label: a screen reader would read it twice.
  const parts = [element('label', { for: id, class: 'name' }, label), input]
  if (hint !== undefined) parts.push(element('small', { id: hintId }, seen(hint)))
  return { name, input, field: element('div', { class: 'field' }, ...parts) }
}

/** Returns what the audit has of a change, as elements. */
async function auditEntry(audit) {
  if (audit === undefined) return []
  if (audit.id === null)
    return [problem('The store did not take the entry of the audit. The log of the gateway has it.')]
  try {
    const { body } = await ask(`/audit/${audit.id}`)
    return [showEntry(body)]
  } catch (error) {
    return [problem(`The entry ${audit.id} of the audit cannot be read: ${error.message}`)]
  }
}

// The configuration: what is in force, what changed and when, what is wrong with a rejected file.

import { ask } from './api.js'
import { changesSection, createChanges } from './changes.js'
import { changeButton } from './dialog.js'
import { element, facts, hashMark, note, section, show, table, timeOf } from './elements.js'
import { number, seen } from './figures.js'

const MOST_ERRORS = 25
/** Most lines of a change that are shown without a click. */
const FEW = 3
const WHAT = {
  applied: ['applied', 'good'],
  rejected: ['rejected', 'bad'],
  unchanged: ['valid again, unchanged', ''],
}
const BY = { file: 'the file changed', signal: 'a signal', admin: 'the admin API' }

export const view = {
  title: () => 'Configuration',
  every: 5000,
  open(root, _params, shell) {
    const changes = createChanges(shell)
    const reload = changeButton(changes.shell, 'Reload…', {
      role: 'operator',
      title: 'Reload the configuration',
      text: 'This gateway reads its file again. A file with errors changes nothing.',
      confirm: 'Reload',
      action: (_values, reason) => reloadFor(reason, shell),
      done: ({ result, hash, changed }) =>
        result === 'applied'
          ? `Configuration ${hash} is in force. Changes: ${changed.length}.`
          : 'The file has not changed.',
    })
    return {
      async refresh(signal) {
        const [config, overview, changed] = await Promise.all([
          ask('/config', { signal }),
          ask('/overview', { signal }),
          changes.read([], signal),
        ])
        if (signal.aborted) return
        shell.showState(overview.body)
        const { file, hash, loadedAt, lastError, warnings = [], reloads = [], workers } = config.body
        show(
          root,
          lastError == null ? null : rejected(lastError),
          section(
            'In force',
            { key: 'force', actions: [reload] },
            facts([
              ['file', file ?? '–'],
              ['hash', hash === undefined ? '–' : hashMark(hash)],
              ['since', timeOf(loadedAt)],
            ]),
          ),
          warnings.length === 0
            ? null
            : section('Warnings', { key: 'warnings' }, element('ul', { class: 'warn' }, ...items(warnings))),
          section('Changes of the file', { key: 'changes' }, reloadTable(reloads)),
          changesSection(changed, 'No operator has changed anything.'),
          workers === undefined ? null : section('Workers', { key: 'workers' }, workerTable(workers, hash)),
          overview.body.extensions === undefined
            ? null
            : section('Extensions', { key: 'extensions' }, extensionTable(overview.body.extensions)),
        )
      },
    }
  },
}

async function reloadFor(reason, shell) {
  try {
    return await ask('/config/reload', { method: 'POST', reason })
  } catch (error) {
    shell.refresh()
    const [first, ...more] = error.body?.messages ?? []
    if (first !== undefined) error.detail += ` ${first}${more.length > 0 ? ` (and ${more.length} more)` : ''}`
    throw error
  }
}

function rejected({ at, messages }) {
  const rows = messages.slice(0, MOST_ERRORS).map((message, i) => ({ key: i, cells: errorCells(message) }))
  const left = messages.length - rows.length
  return section(
    'The file was rejected',
    { key: 'rejected', class: 'alert' },
    element('p', { class: 'bad' }, 'Rejected ', timeOf(at), '. The configuration below stays in force.'),
    table({
      caption: 'Errors of the file',
      heads: ['>line', '>column', 'what is wrong', 'what to do', 'file'],
      rows,
      none: 'The gateway does not say why.',
    }),
    left > 0 ? note(`And ${number(left)} more; tidegate check lists them all.`) : null,
  )
}

/** Splits `tidegate.yaml:16:36: routes[1].service: no service is named "x"; did you mean "y"?` into cells. */
function errorCells(message) {
  const [, file = '', line = '', column = '', text = message] =
    /^(.+?):(\d+):(\d+): (.*)$/s.exec(message) ?? []
  const [wrong, todo = ''] = text.split(/; (.*)/s)
  return [line, column, [seen(wrong), 'why'], [seen(todo), 'why'], [seen(file), 'id']]
}

const items = (lines) => lines.map((line) => element('li', {}, seen(line)))

function reloadTable(reloads) {
  const rows = reloads.map((one) => {
    const [text, kind] = WHAT[one.result]
    return {
      key: `${one.at} ${one.hash} ${one.result}`,
      cells: [
        timeOf(one.at),
        [text, kind],
        one.who === null ? BY[one.by] : seen(one.who),
        hashMark(one.hash),
        [linesOf(one), 'why'],
      ],
    }
  })
  const none = 'No reload has changed anything since this gateway started.'
  return table({
    caption: 'The latest reloads',
    heads: ['when', 'result', 'by', 'in force', 'what'],
    rows,
    none,
  })
}

function linesOf({ result, changed, messages }) {
  const lines = result === 'applied' ? changed : result === 'rejected' ? messages : []
  if (lines.length <= FEW) return element('ul', { class: 'lines' }, ...items(lines))
  return element(
    'details',
    { class: 'lines' },
    element('summary', {}, seen(lines[0]), ` – and ${lines.length - 1} more`),
    element('ul', { class: 'lines' }, ...items(lines.slice(1))),
  )
}

function workerTable(workers, hash) {
  const rows = workers.map((one) => ({
    key: one.pid,
    cells: [
      one.worker,
      [one.state, one.state === 'serving' ? 'good' : 'warn'],
      one.pid,
      one.generation,
      timeOf(one.startedAt),
      one.hash === hash
        ? hashMark(hash)
        : [
            element('span', {}, one.hash === null ? '–' : hashMark(one.hash), ' not the one in force'),
            'warn',
          ],
    ],
  }))
  const heads = ['>worker', 'state', '>pid', '>generation', 'started', 'configuration']
  return table({ caption: 'Workers of this gateway', heads, rows, none: 'No worker runs.' })
}

function extensionTable(extensions) {
  const rows = extensions.map(({ name, errors }) => ({
    key: name,
    cells: [name, [number(errors), errors > 0 ? 'bad' : '']],
  }))
  const heads = ['extension', '>failures of its hooks since the start']
  return table({ caption: 'Failures of extensions', heads, rows, none: '' })
}

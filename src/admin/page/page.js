import { $, element, fill, note, pill } from './elements.js'
import { BY, showConfig, showStatus, showTop, showUpstreams } from './lists.js'
import { forgetTraffic, showTraffic } from './traffic.js'

/** Ms between two refreshes. */
const EVERY = 2000
const PATIENCE = 8000
const KEY = 'tidegate admin token'
/** The token is invalid; or too many were. */
const REFUSED = [401, 429]
const WRONG_TOKEN = 'That is no token of this gateway.'

let by = 'limited'
let token = sessionStorage.getItem(KEY)
let timer
/** Number of the latest refresh: responses to an older one are dropped. */
let turn = 0
let answered

class Refused extends Error {
  constructor(status, detail) {
    super(detail)
    this.status = status
  }
}

async function ask(path) {
  const response = await fetch(path, {
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(PATIENCE),
  })
  const body = await response.json().catch(() => ({}))
  if (!response.ok)
    throw new Refused(response.status, body.detail ?? `the gateway answered ${response.status}`)
  return body
}

async function look() {
  clearTimeout(timer)
  const mine = ++turn
  const service = $('service').value
  const query = service === '' ? '' : `&service=${encodeURIComponent(service)}`
  const asked = await Promise.allSettled([
    ask('/overview'),
    ask(`/top?by=${by}&n=20${query}`),
    ask('/upstreams'),
  ])
  if (mine !== turn) return
  const [overview, top, upstreams] = asked
  const refused = asked.find((one) => one.status === 'rejected' && REFUSED.includes(one.reason.status))
  $('login').hidden = refused === undefined
  $('main').hidden = refused !== undefined
  if (refused !== undefined) {
    say(token === null ? '' : refused.reason.status === 401 ? WRONG_TOKEN : refused.reason.message)
    pill('Waiting for the token', '')
    forget()
    return
  }
  if (overview.status === 'fulfilled') {
    answered = Date.now()
    const { config, extensions } = overview.value
    showStatus(overview.value)
    showTraffic(overview.value)
    showConfig(config, extensions)
    say('')
  } else lost(overview.reason)
  if (top.status === 'fulfilled') showTop(top.value)
  else if (overview.status === 'fulfilled') note('top-note', `Not known: ${top.reason.message}`)
  if (upstreams.status === 'fulfilled') showUpstreams(upstreams.value)
  else if (overview.status === 'fulfilled') note('upstreams-note', `Not known: ${upstreams.reason.message}`)
  document.body.classList.toggle('stale', overview.status !== 'fulfilled')
  if (!document.hidden) timer = setTimeout(look, EVERY)
}

function forget() {
  token = null
  sessionStorage.removeItem(KEY)
  $('token').value = ''
  $('token').focus()
}

function lost(error) {
  const why = error.name === 'TimeoutError' ? `no answer within ${PATIENCE / 1000} s` : error.message
  const since = answered === undefined ? '' : ` since ${new Date(answered).toLocaleTimeString()}`
  say(`The gateway has not answered${since} (${why}). Trying again.`)
  pill('No answer', 'bad')
  forgetTraffic()
}

function say(text) {
  $('problem').hidden = text === ''
  if ($('problem').textContent !== text) $('problem').textContent = text
}

for (const [name, [title]] of Object.entries(BY)) {
  const button = element('button', { type: 'button', 'aria-pressed': String(name === by) }, title)
  button.addEventListener('click', () => {
    by = name
    for (const one of $('by').children) one.setAttribute('aria-pressed', String(one === button))
    note('top-note', 'Asking…')
    look()
  })
  $('by').append(button)
}
$('service').addEventListener('change', look)
$('login').addEventListener('submit', (event) => {
  event.preventDefault()
  const typed = $('token').value.trim()
  // A header cannot hold such text, so it is not a token.
  if (!/^[!-~]+$/.test(typed)) {
    say(WRONG_TOKEN)
    return
  }
  token = typed
  sessionStorage.setItem(KEY, token)
  look()
})
document.addEventListener('visibilitychange', () => {
  if (document.hidden) clearTimeout(timer)
  else if ($('login').hidden) {
    forgetTraffic()
    look()
  }
})
for (const id of ['top', 'services', 'upstreams']) fill($(id), [''], [], 'Asking the gateway…')
look()

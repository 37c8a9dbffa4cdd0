// The shell of the page: sign-in, navigation, search, refreshing, and what went wrong.
//
// A view is a module that exports
//
//   export const view = {
//     title: (params) => 'Consumer acme',       heading and title of the window; the shell shows it
//     every: 5000,                              ms between two refreshes; left out: one refresh only
//     open(root, params, shell) {
//       return {
//         async refresh(signal) {               asks (`ask(path, { signal })`) and shows (`show(root, …)`)
//         close() {}                            optional
//       }
//     },
//   }
//
// and has a line in views.js. Its address is `#/NAME` or `#/NAME/ID`; `params.id` is the decoded id (or undefined), and
// `params.query` the URLSearchParams after a `?`. The shell calls `refresh` at once, then every `every` ms while the page
// is visible. `root` is hidden until the first refresh has succeeded, so a view needs no loading state of its own. What
// `refresh` throws is shown in the banner, and the view is marked stale. A view that was left gets its signal aborted, and
// its `root` is out of the document: what it shows then nobody sees. 401 leads to the sign-in.
//
// The shell that a view gets:
//   shell.me            { who, role }
//   shell.may(role)     true if the role of the token is enough
//   shell.refresh()     refreshes the view now, as after a change; resolves when it has
//   shell.go(address)   '#/consumer/acme'
//   shell.showState(overview)   the state in the header, from an answer of GET /overview

import { ask, errorText, forgetToken, hasToken, keepToken, Refused, segment, Unanswered } from './api.js'
import { $, element } from './elements.js'
import { encoded, seen } from './figures.js'
import { VIEWS } from './views.js'

const ROLES = ['viewer', 'support', 'operator']
/** Ms between two questions for the state in the header, and until another try after an error. */
const STATE_EVERY = 10_000
const RETRY = 5000
const REQUEST_ID = /^[\w.-]{1,64}$/
const WRONG_TOKEN = 'That is no token of this gateway.'

const shell = {
  me: undefined,
  may: (role) => ROLES.indexOf(shell.me?.role) >= ROLES.indexOf(role),
  refresh: async () => refreshing?.now(),
  go: (address) => {
    location.hash = address
  },
  showState,
}

/** The view that is open, and the loops that refresh it and the state. */
let open
let refreshing
/** True after the first view: only later ones take the focus. */
let isStarted = false
const state = loop(askState, STATE_EVERY)

/**
 * Runs `job(signal)` now and every `every` ms while the page is visible. A call of `now` ends the run before.
 *
 * @param job returns ms until the next run, or undefined for `every`
 */
function loop(job, every) {
  let timer
  let run
  async function now() {
    clearTimeout(timer)
    run?.abort()
    const mine = new AbortController()
    run = mine
    const wait = await job(mine.signal)
    // Paused, or another run has begun.
    if (run !== mine) return
    const ms = wait ?? every
    if (ms !== undefined && !document.hidden) timer = setTimeout(now, ms)
  }
  function pause() {
    clearTimeout(timer)
    run?.abort()
    run = undefined
  }
  return { now, pause }
}

/** Finds the view of an address: `#/consumer/user%2F42?service=a`. */
function placeOf(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split(/\?(.*)/s)
  const [name, ...rest] = path.split('/')
  const found = VIEWS.find((one) => one.name === name)
  if (found === undefined) return undefined
  try {
    const id = rest.length === 0 ? undefined : decodeURIComponent(rest.join('/'))
    return { ...found, params: { id, query: new URLSearchParams(query) } }
  } catch {
    return undefined
  }
}

function route() {
  if (shell.me === undefined) return
  leave()
  const place = placeOf(location.hash)
  for (const link of $('views').querySelectorAll('a')) {
    if (link.hash === `#/${place?.name}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  const isFirst = !isStarted
  isStarted = true
  $('heading').textContent =
    place === undefined ? 'There is no such page' : seen(place.view.title(place.params))
  showTitle()
  say('')
  $('wait').hidden = place === undefined
  if (!isFirst) {
    scrollTo(0, 0)
    $('heading').focus({ preventScroll: true })
  }
  if (place === undefined) return say('This address leads nowhere. The navigation lists the pages.')
  enter(place)
}

function enter({ view, params }) {
  const root = element('div', { id: 'view', hidden: true })
  $('main').append(root)
  let answered
  refreshing = loop(async (signal) => {
    try {
      open ??= view.open(root, params, shell)
      await open.refresh(signal)
      if (signal.aborted) return undefined
      answered = Date.now()
      root.hidden = false
      $('wait').hidden = true
      root.classList.remove('stale')
      say('')
    } catch (error) {
      if (signal.aborted) return undefined
      return failed(error, answered, root)
    }
    return undefined
  }, view.every)
  refreshing.now()
}

/** Shows what a refresh threw. Returns ms until the next try. */
function failed(error, answered, root) {
  if (isForSignIn(error)) return signIn(error)
  root.classList.add('stale')
  $('wait').hidden = true
  const since = answered === undefined ? '' : ` since ${new Date(answered).toLocaleTimeString()}`
  const isAway = error instanceof Unanswered
  say(errorText(error, since) + (isAway ? ' Trying again.' : ''))
  if (isAway) state.now()
  return isAway || error.status >= 500 ? RETRY : undefined
}

function leave() {
  refreshing?.pause()
  open?.close?.()
  $('view')?.remove()
  refreshing = undefined
  open = undefined
}

async function askState(signal) {
  try {
    const { body } = await ask('/overview', { signal })
    showState(body)
  } catch (error) {
    if (signal.aborted) return undefined
    if (isForSignIn(error)) return signIn(error)
    showPill(error instanceof Unanswered ? 'No answer' : 'State not known', 'bad')
    return RETRY
  }
  return undefined
}

/** Shows the state of the gateway in one word, and why it is not serving well. */
function showState({ status, store, reasons, config, node }) {
  $('node').textContent = seen(node)
  const wrong = reasons.filter((reason) => !reason.startsWith('the store'))
  if (config.lastError != null) wrong.unshift('the configuration file is bad')
  if (store !== 'up') wrong.unshift('deciding without the store')
  const why = seen(wrong.join('; '))
  if (status !== 'ready') showPill(`Not ready: ${why}`, 'bad')
  else if (store !== 'up') showPill(`Degraded: ${why}`, 'bad')
  else if (why !== '') showPill(`Serving, but ${why}`, 'warn')
  else showPill('Serving', 'good')
}

function showPill(text, kind) {
  // Set only when it changes: a screen reader reads it aloud.
  if ($('state').textContent !== text) $('state').textContent = text
  $('state').className = `pill ${kind}`
  showTitle()
}

function showTitle() {
  const state = $('state')
  const parts = [$('heading').textContent, 'Tidegate']
  if (state.classList.contains('bad') || state.classList.contains('warn')) parts.unshift(state.textContent)
  document.title = parts.filter(Boolean).join(' – ')
}

function say(text) {
  $('problem').hidden = text === ''
  if ($('problem').textContent !== seen(text)) $('problem').textContent = seen(text)
}

/** 401: the token is wrong. 429: too many wrong ones came from this address. */
const isForSignIn = (error) => error instanceof Refused && [401, 429].includes(error.status)

/** Asks for a token, after a refusal of the one that was sent. */
function signIn({ status, detail }) {
  const isGiven = hasToken()
  leave()
  state.pause()
  shell.me = undefined
  forgetToken()
  showSignedIn(false)
  const isWrong = status === 401 && detail.startsWith('Send the token')
  say(isGiven && isWrong ? WRONG_TOKEN : isGiven ? detail : '')
  $('node').textContent = ''
  showPill('Waiting for the token', '')
  $('token').value = ''
  $('token').focus()
}

function showSignedIn(is) {
  $('login').hidden = is
  for (const id of ['main', 'search', 'account']) $(id).hidden = !is
  $('views').hidden = !is
}

/** Finds out whose token this is, then opens the view of the address. */
async function start() {
  try {
    const { body } = await ask('/whoami')
    shell.me = body
  } catch (error) {
    // 403: nothing gives the holder a role.
    if (isForSignIn(error) || error.status === 403) return signIn(error)
    showPill('No answer', 'bad')
    say(`${errorText(error)} Trying again.`)
    setTimeout(start, RETRY)
    return
  }
  $('who').textContent = hasToken() ? `${seen(shell.me.who)}, ${shell.me.role}` : 'no token needed'
  $('forget').hidden = !hasToken()
  showSignedIn(true)
  state.now()
  route()
}

async function find(text) {
  if (REQUEST_ID.test(text)) {
    try {
      await ask(`/decisions/${segment(text)}`)
      return shell.go(`#/why/${encoded(text)}`)
    } catch (error) {
      if (isForSignIn(error)) return signIn(error)
      // No such request: it may be a consumer.
    }
  }
  shell.go(`#/consumer/${encoded(text)}`)
}

for (const { name, nav } of VIEWS)
  if (nav !== undefined) $('views').append(element('li', {}, element('a', { href: `#/${name}` }, nav)))
$('login').onsubmit = (event) => {
  event.preventDefault()
  if (keepToken($('token').value.trim())) start()
  else say(WRONG_TOKEN)
}
$('forget').onclick = () => {
  forgetToken()
  start()
}
$('search').onsubmit = (event) => {
  event.preventDefault()
  const text = $('term').value.trim()
  if (text !== '') find(text)
}
// A link to a place in the page would change the address, which names the view.
$('skip').onclick = (event) => {
  event.preventDefault()
  $('heading').focus()
}
addEventListener('hashchange', route)
addEventListener('keydown', (event) => {
  const isTyping = event.target.closest?.('input, select, textarea, dialog')
  if (event.key !== '/' || isTyping || event.ctrlKey || event.metaKey || event.altKey) return
  event.preventDefault()
  $('term').focus()
})
document.addEventListener('visibilitychange', () => {
  for (const one of [state, refreshing]) {
    if (document.hidden) one?.pause()
    else if (shell.me !== undefined) one?.now()
  }
})
start()

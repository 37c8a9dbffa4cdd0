// Requests to the admin API, and the token that they carry.

const KEY = 'tidegate admin token'
/** Timeouts in ms. A reload waits for all workers. */
const READ_MS = 8000
const WRITE_MS = 15_000

let token = sessionStorage.getItem(KEY)

export const hasToken = () => token !== null

/** Keeps a token for this tab. Returns false for text that no header can hold. */
export function keepToken(text) {
  if (!/^[!-~]+$/.test(text)) return false
  token = text
  sessionStorage.setItem(KEY, text)
  return true
}

export function forgetToken() {
  token = null
  sessionStorage.removeItem(KEY)
}

/** A refusal of the API. `status`, `code` and `detail` are those of its problem document; `body` is all of it. */
export class Refused extends Error {
  constructor(status, body) {
    const detail = body.detail ?? `The gateway answered ${status}.`
    super(detail)
    Object.assign(this, { status, code: body.code, detail, body })
  }
}

/** No answer came, or none in time. */
export class Unanswered extends Error {}

/** Says what went wrong; `when` is more about an answer that did not come. Anything but the errors of `ask` is a bug of the page. */
export function errorText(error, when = '') {
  if (error instanceof Refused) return error.detail
  if (error instanceof Unanswered) return `The gateway has not answered${when} (${error.message}).`
  console.error(error)
  return `This page has a bug (${error.message}). Reload it; if that does not help, use the command tidegate and report the bug.`
}

/**
 * Encodes an id for a path of the API: `ask(`/consumers/${segment(id)}`)`. Throws for `.` and `..`, which a browser
 * removes from a path even when they are escaped.
 */
export function segment(id) {
  if (id === '.' || id === '..')
    throw new Refused(400, {
      code: 'bad_request',
      detail: `A browser cannot ask for the id "${id}". Use the command tidegate.`,
    })
  return encodeURIComponent(id.toWellFormed())
}

/**
 * Asks the API.
 *
 * @param path from the root of the API, such as `/top?n=20`
 * @param options `method` (GET), `body` (sent as JSON), `reason` (for the audit), `signal` (ends the request)
 * @returns `{ body, audit }`: the parsed answer, and for a change `{ outcome: 'stored' | 'logged', id }` of its entry in
 *   the audit, else undefined
 * @throws Refused when the API refuses; an AbortError when `signal` ended the request; Unanswered when no answer came
 */
export async function ask(path, { method = 'GET', body, reason, signal } = {}) {
  const headers = {}
  if (token !== null) headers.authorization = `Bearer ${token}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  // A header holds bytes: the gateway reads them as UTF-8.
  if (reason !== undefined)
    headers['x-reason'] = String.fromCharCode(...new TextEncoder().encode(reason.replace(/\p{Cc}/gu, ' ')))
  const ms = method === 'GET' ? READ_MS : WRITE_MS
  const late = AbortSignal.timeout(ms)
  let response
  let text
  try {
    response = await fetch(`.${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal === undefined ? late : AbortSignal.any([signal, late]),
    })
    text = await response.text()
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Unanswered(late.aborted ? `no answer within ${ms / 1000} s` : 'no connection')
  }
  const answer = parsed(text)
  if (!response.ok) throw new Refused(response.status, answer ?? {})
  const outcome = response.headers.get('x-audit')
  return {
    body: answer,
    audit: outcome === null ? undefined : { outcome, id: response.headers.get('x-audit-id') },
  }
}

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

import { validateHeaderName, validateHeaderValue } from 'node:http'

/** Headers to set, by name. `null` removes one; a list writes it several times. */
export type Fields = Readonly<Record<string, string | readonly string[] | null>>

/** Problem (RFC 9457). The gateway adds `status` and `request_id`. */
export interface Problem {
  readonly type?: string
  readonly title?: string
  readonly detail?: string
  readonly code?: string
  readonly [member: string]: unknown
}

const MEMBERS: ReadonlySet<string> = new Set(['type', 'title', 'status', 'detail', 'code', 'instance'])

/** Headers of the connection, of the framing, and the request's id. Only the gateway writes them. */
export const NOT_YOURS: ReadonlySet<string> = new Set(
  'connection content-length keep-alive proxy-connection te trailer transfer-encoding upgrade via x-request-id'.split(
    ' ',
  ),
)
/** Most characters of all headers that a hook may set. */
const MAX_FIELDS = 16_384

/** Marks replies of any copy of this module: an extension may have another than the gateway. */
const REPLY: unique symbol = Symbol.for('tidegate.reply')

/** Response that ends a request. Only `respond` makes it. */
export interface Reply {
  readonly [REPLY]: true
  readonly status: number
  /** Headers in the order of the response: name, value, … */
  readonly headers: readonly string[]
  /** Body, unless it is a problem. */
  readonly body: string | Uint8Array | undefined
  /** Members of a problem without those that the gateway adds: `status`, `request_id`, and the defaults of `type` and `title`. */
  readonly problem: Problem | undefined
}

function makeReply(status: number, headers: string[], body: Reply['body'], problem?: Problem): Reply {
  return Object.freeze({ [REPLY]: true as const, status, headers: Object.freeze(headers), body, problem })
}

/**
 * Makes the response that ends a request.
 *
 * @param status 200 to 599
 * @param body text or bytes as they are; an object as JSON. From 400 on, an object with the members of a problem only
 *   (`type`, `title`, `detail`, `code`) becomes `application/problem+json`, and so does no body at all.
 * @throws TypeError on a status or header that cannot be sent
 */
export function respond(
  status: number,
  body?: string | Uint8Array | Problem | object,
  headers: Fields = {},
): Reply {
  checkStatus(status)
  const list = headerList(headers)
  const typed = list.some((name, at) => at % 2 === 0 && name.toLowerCase() === 'content-type')
  const raw = typeof body === 'string' || body instanceof Uint8Array
  if (status >= 400 && !typed && !raw && Object.keys(body ?? {}).every((key) => MEMBERS.has(key)))
    return makeReply(status, list, undefined, Object.freeze({ ...body }))
  const binary = raw ? 'application/octet-stream' : 'application/json'
  const type = typeof body === 'string' ? 'text/plain; charset=utf-8' : binary
  if (body !== undefined && !typed) list.push('content-type', type)
  return makeReply(status, list, raw ? body : JSON.stringify(body))
}

/**
 * Returns headers as a flat list: name, value, … Names with the value `null` are left out.
 *
 * @throws TypeError on a header that HTTP does not allow, or that only the gateway writes
 */
export function headerList(headers: Fields): string[] {
  const list: string[] = []
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) continue
    for (const one of typeof value === 'string' ? [value] : value) list.push(name, one)
  }
  return checked(list)
}

/**
 * Returns a reply that a hook made, with everything in it checked again: another copy of this module may have made it.
 *
 * @throws TypeError on anything else
 */
export function replyFrom(value: unknown): Reply {
  if (typeof value !== 'object' || value === null || (value as Reply)[REPLY] !== true)
    throw new TypeError('only respond() makes a response')
  const { status, headers, body, problem } = value as Reply
  checkStatus(status)
  const list = checked([...headers])
  if (body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array))
    throw new TypeError('the body of a response must be text or bytes')
  return makeReply(status, list, body, problem)
}

function checkStatus(status: number): void {
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new TypeError('respond: the status must be a whole number from 200 to 599')
}

function checked(headers: string[]): string[] {
  let length = 0
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!
    const value = headers[i + 1]!
    validateHeaderName(name)
    if (NOT_YOURS.has(name.toLowerCase()))
      throw new TypeError(`the header ${name} is written by the gateway alone`)
    validateHeaderValue(name, value)
    if (typeof value !== 'string') throw new TypeError(`the header ${name} must be text`)
    length += name.length + value.length
  }
  if (length > MAX_FIELDS) throw new TypeError(`the headers have more than ${MAX_FIELDS} characters`)
  return headers
}

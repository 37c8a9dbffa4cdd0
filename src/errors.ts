/**
 * Every way in which Tidegate itself refuses or fails a request: one table, code → status → source. A test compares it with
 * `docs/errors.md`. Details that name an address, a path of this machine or a library's message belong in the log, never in
 * a body.
 */

/** The party that has to act: the caller, the operator of the gateway, or the operator of the backend. */
export type ErrorSource = 'client' | 'gateway' | 'upstream'

interface ErrorEntry {
  readonly status: number
  readonly source: ErrorSource
  readonly title: string
  /** Tells the caller the problem and the remedy. A refusal may replace it with something more exact. */
  readonly detail: string
  /** Problem type URI; `about:blank` semantics (RFC 9457 §4.2.1) when absent. */
  readonly type?: string
}

const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
const ABNORMAL_USAGE = 'https://iana.org/assignments/http-problem-types#abnormal-usage-detected'
const REDUCED_CAPACITY = 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity'

export const ERRORS = {
  bad_request: {
    status: 400,
    source: 'client',
    title: 'Bad request',
    detail: 'The request is not well-formed HTTP; send it again, corrected.',
  },
  bad_target: {
    status: 400,
    source: 'client',
    title: 'Bad request target',
    detail:
      'The path holds a dot segment, a backslash, a control character or a malformed escape; send it in its plain form.',
  },
  bad_host: {
    status: 400,
    source: 'client',
    title: 'Bad Host',
    detail: 'Send exactly one valid Host header (RFC 9112 section 3.2).',
  },
  bad_header: {
    status: 400,
    source: 'client',
    title: 'Bad header',
    detail: 'A header field is repeated, malformed or not allowed here; send the request again without it.',
  },
  digest_mismatch: {
    status: 400,
    source: 'client',
    title: 'Another body than was signed',
    detail: 'The body has another digest than the Content-Digest that was signed; sign what is sent.',
  },
  unauthorized: {
    status: 401,
    source: 'client',
    title: 'Credentials missing or not valid',
    detail: 'Send a valid credential for this API.',
  },
  forbidden: {
    status: 403,
    source: 'client',
    title: 'Forbidden',
    detail:
      'Requests like this one are not let in here; if that is a mistake, tell whoever runs this gateway the request id.',
  },
  insufficient_scope: {
    status: 403,
    source: 'client',
    title: 'Scope missing',
    detail: 'The credential does not have the scopes that this takes; get one that has them.',
  },
  no_route: {
    status: 404,
    source: 'client',
    title: 'No such route',
    detail: 'No route of this gateway matches the host and path of the request.',
  },
  method_not_allowed: {
    status: 405,
    source: 'client',
    title: 'Method not allowed',
    detail: 'The path exists, but not for this method; the Allow header names the methods that it takes.',
  },
  request_timeout: {
    status: 408,
    source: 'client',
    title: 'Request timeout',
    detail: 'The request did not arrive in time; send it again, faster.',
  },
  payload_too_large: {
    status: 413,
    source: 'client',
    title: 'Payload too large',
    detail: 'The body is larger than this route accepts.',
  },
  uri_too_long: {
    status: 414,
    source: 'client',
    title: 'URI too long',
    detail: 'The request target is longer than this gateway accepts.',
  },
  expectation_failed: {
    status: 417,
    source: 'client',
    title: 'Expectation failed',
    detail: 'The only expectation that this gateway meets is 100-continue.',
  },
  upgrade_required: {
    status: 426,
    source: 'client',
    title: 'Upgrade required',
    detail: 'This gateway speaks version 13 of WebSocket; send Sec-WebSocket-Version: 13.',
  },
  quota_exceeded: {
    status: 429,
    source: 'client',
    title: 'Quota exceeded',
    detail: 'The quota of this consumer is used up; try again after the time in Retry-After.',
    type: QUOTA_EXCEEDED,
  },
  address_limited: {
    status: 429,
    source: 'client',
    title: 'Too many requests from this address',
    detail: 'This address sends more requests than one may; try again after the time in Retry-After.',
    type: ABNORMAL_USAGE,
  },
  share_exceeded: {
    status: 429,
    source: 'client',
    title: 'Too much at once',
    detail:
      'This caller holds as much at once as one may; end some of it, or try again after the time in Retry-After.',
    type: ABNORMAL_USAGE,
  },
  headers_too_large: {
    status: 431,
    source: 'client',
    title: 'Request header fields too large',
    detail: 'Send at most 100 header fields of 16 KiB in all.',
  },
  client_closed: {
    status: 499,
    source: 'client',
    title: 'Client closed the request',
    detail: 'The client left before the response was complete; nobody sees this body.',
  },
  internal: {
    status: 500,
    source: 'gateway',
    title: 'Internal error',
    detail: 'The gateway failed on this request; its log has the reason under this request id.',
  },
  upgrade_not_supported: {
    status: 501,
    source: 'client',
    title: 'Upgrade not supported',
    detail: 'Only WebSocket upgrades (GET, HTTP/1.1) are passed on.',
  },
  upstream_refused: {
    status: 502,
    source: 'upstream',
    title: 'Upstream refused',
    detail: 'The service behind the gateway does not accept connections; try again later.',
  },
  upstream_failed: {
    status: 502,
    source: 'upstream',
    title: 'Upstream failed',
    detail: 'The service behind the gateway broke off before it answered.',
  },
  upstream_cut: {
    status: 502,
    source: 'upstream',
    title: 'Upstream broke off',
    detail: 'The service behind the gateway broke off in the middle of its response; nobody sees this body.',
  },
  upstream_bad_response: {
    status: 502,
    source: 'upstream',
    title: 'Upstream sent a bad response',
    detail: 'The service behind the gateway answered with something that is not valid HTTP.',
  },
  upstream_tls_failed: {
    status: 502,
    source: 'upstream',
    title: 'Upstream not trusted',
    detail: 'The gateway could not make a secure connection to the service behind it.',
  },
  draining: {
    status: 503,
    source: 'gateway',
    title: 'Shutting down',
    detail: 'This gateway is shutting down; send the request again.',
    type: REDUCED_CAPACITY,
  },
  overloaded: {
    status: 503,
    source: 'gateway',
    title: 'Overloaded',
    detail: 'The gateway has no room for this request now; try again shortly.',
    type: REDUCED_CAPACITY,
  },
  maintenance: {
    status: 503,
    source: 'gateway',
    title: 'Maintenance',
    detail: 'The service is in maintenance; try again after the time in Retry-After.',
    type: REDUCED_CAPACITY,
  },
  no_upstream: {
    status: 503,
    source: 'gateway',
    title: 'Out of service',
    detail: 'The service behind the gateway has been taken out of service; try again later.',
    type: REDUCED_CAPACITY,
  },
  circuit_open: {
    status: 503,
    source: 'upstream',
    title: 'Circuit open',
    detail:
      'The service behind the gateway has been failing and is given a rest; try again after the time in Retry-After.',
    type: REDUCED_CAPACITY,
  },
  identity_unavailable: {
    status: 503,
    source: 'gateway',
    title: 'Credential cannot be checked',
    detail: 'What it takes to check the credential is out of reach; try again after the time in Retry-After.',
    type: REDUCED_CAPACITY,
  },
  store_unavailable: {
    status: 503,
    source: 'gateway',
    title: 'Quota cannot be checked',
    detail:
      'The quota store is out of reach and this service refuses requests that it cannot count; try again shortly.',
    type: REDUCED_CAPACITY,
  },
  upstream_connect_timeout: {
    status: 504,
    source: 'upstream',
    title: 'Upstream connect timeout',
    detail: 'The service behind the gateway could not be reached in time.',
  },
  upstream_timeout: {
    status: 504,
    source: 'upstream',
    title: 'Upstream timeout',
    detail: 'The service behind the gateway did not answer in time.',
  },
  http_version: {
    status: 505,
    source: 'client',
    title: 'HTTP version not supported',
    detail: 'Send HTTP/1.1 or HTTP/1.0.',
  },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS

/**
 * Returns whether a request failed for a reason that is not its caller's. The status alone does not tell: a response may be
 * cut in its body.
 */
export function isFailure(status: number, error: ErrorCode | undefined): boolean {
  return status >= 500 || error === 'upstream_cut'
}

export const PROBLEM_JSON = 'application/problem+json'

/** The result of a stage at which the request ends. */
export interface Refusal {
  readonly code: ErrorCode
  /** For the caller: replaces the table's text. Never an internal address, path or library message. */
  readonly detail?: string
  /** Extra response headers as a flat name, value list. */
  readonly headers?: readonly string[]
  readonly violatedPolicies?: readonly string[]
  /** For the log only. */
  readonly cause?: string
  /** Built from all the other members, for a refusal that many requests get. */
  readonly prepared?: PreparedRefusal
  /** Sends nothing and closes the connection. */
  readonly silent?: boolean
}

/** The parts of a response that are the same for all callers refused for one reason. */
export interface PreparedRefusal {
  /** `headers` as lines. */
  readonly lines: string
  /** The body up to the request's id, and its length in bytes. */
  readonly body: string
  readonly bytes: number
}

export function prepareRefusal(refusal: Refusal): PreparedRefusal {
  const { headers = [] } = refusal
  let lines = ''
  for (let i = 0; i < headers.length; i += 2) lines += `${headers[i]}: ${headers[i + 1]}\r\n`
  const body = problemStart(refusal)
  return { lines, body, bytes: Buffer.byteLength(body) }
}

/** ASCII that needs no escaping in JSON. */
const PLAIN = /^[ !#-[\]-~]*$/

/** The beginning of every body with a code, up to the detail's text. */
const BEGINNINGS = Object.fromEntries(
  Object.entries<ErrorEntry>(ERRORS).map(([code, { type, title, status }]) => [
    code,
    `{${type === undefined ? '' : `"type":${quoted(type)},`}"title":${quoted(title)},"status":${status},"detail":`,
  ]),
) as Record<ErrorCode, string>

/** Returns the `application/problem+json` body of a refusal (RFC 9457). It is built by hand: denials come in floods. */
export function problemBody(refusal: Refusal, requestId: string): string {
  return `${problemStart(refusal)}${quoted(requestId)}}`
}

function problemStart({ code, detail, violatedPolicies }: Refusal): string {
  const violated =
    violatedPolicies === undefined ? '' : `,"violated-policies":${JSON.stringify(violatedPolicies)}`
  return `${BEGINNINGS[code]}${quoted(detail ?? ERRORS[code].detail)},"code":"${code}"${violated},"request_id":`
}

function quoted(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text)
}

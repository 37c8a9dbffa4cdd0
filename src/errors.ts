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

const from =
  (source: ErrorSource) =>
  (status: number, title: string, detail: string, type?: string): ErrorEntry =>
    type === undefined ? { status, source, title, detail } : { status, source, title, detail, type }
const client = from('client')
const gateway = from('gateway')
const upstream = from('upstream')

const PROBLEM_TYPES = 'https://iana.org/assignments/http-problem-types#'
const QUOTA_EXCEEDED = `${PROBLEM_TYPES}quota-exceeded`
const ABNORMAL_USAGE = `${PROBLEM_TYPES}abnormal-usage-detected`
const REDUCED_CAPACITY = `${PROBLEM_TYPES}temporary-reduced-capacity`

export const ERRORS = {
  bad_request: client(400, 'Bad request', 'The request is not valid HTTP. Correct it and send it again.'),
  bad_target: client(
    400,
    'Bad request target',
    'The path contains a dot segment, a backslash, a control character or an invalid escape. Send it without.',
  ),
  bad_host: client(400, 'Bad Host', 'Send exactly one valid Host header (RFC 9112 section 3.2).'),
  bad_header: client(
    400,
    'Bad header',
    'A header is repeated, invalid or not allowed here. Send the request again without it.',
  ),
  digest_mismatch: client(
    400,
    'Body differs from the signed one',
    'The body does not have the digest in the signed Content-Digest. Sign the body that you send.',
  ),
  unauthorized: client(401, 'Credentials missing or not valid', 'Send a valid credential for this API.'),
  forbidden: client(
    403,
    'Forbidden',
    'Requests like this one are not allowed here. If this is a mistake, tell the operator of this gateway the request id.',
  ),
  insufficient_scope: client(
    403,
    'Scope missing',
    'The credential lacks a required scope. Get a credential that has it.',
  ),
  no_route: client(
    404,
    'No such route',
    'No route of this gateway matches the host and path of the request.',
  ),
  method_not_allowed: client(
    405,
    'Method not allowed',
    'The path exists, but not for this method. The Allow header lists the methods.',
  ),
  request_timeout: client(
    408,
    'Request timeout',
    'The request did not arrive in time. Send it again, faster.',
  ),
  payload_too_large: client(413, 'Payload too large', 'The body is larger than this route accepts.'),
  uri_too_long: client(414, 'URI too long', 'The request target is longer than this gateway accepts.'),
  expectation_failed: client(
    417,
    'Expectation failed',
    'This gateway supports no expectation other than 100-continue.',
  ),
  upgrade_required: client(
    426,
    'Upgrade required',
    'This gateway supports version 13 of WebSocket. Send Sec-WebSocket-Version: 13.',
  ),
  quota_exceeded: client(
    429,
    'Quota exceeded',
    'The quota of this consumer is used up. Try again after the time in Retry-After.',
    QUOTA_EXCEEDED,
  ),
  address_limited: client(
    429,
    'Too many requests from this address',
    'This address sends too many requests. Try again after the time in Retry-After.',
    ABNORMAL_USAGE,
  ),
  share_exceeded: client(
    429,
    'Too much at once',
    'This client uses as much at once as one client may. End some of it, or try again after the time in Retry-After.',
    ABNORMAL_USAGE,
  ),
  headers_too_large: client(
    431,
    'Request header fields too large',
    'The request has more headers, or larger ones, than this gateway accepts. Send fewer or shorter headers.',
  ),
  client_closed: client(
    499,
    'Client closed the request',
    'The client left before the response was complete. Nobody gets this body.',
  ),
  internal: gateway(
    500,
    'Internal error',
    'The gateway failed on this request. Its log has the reason under this request id.',
  ),
  upgrade_not_supported: client(
    501,
    'Upgrade not supported',
    'This gateway forwards only WebSocket upgrades (GET, HTTP/1.1).',
  ),
  upstream_refused: upstream(
    502,
    'Upstream refused',
    'The service behind the gateway does not accept connections. Try again later.',
  ),
  upstream_failed: upstream(
    502,
    'Upstream failed',
    'The service behind the gateway closed the connection before it answered.',
  ),
  upstream_cut: upstream(
    502,
    'Upstream broke off',
    'The service behind the gateway broke off in the middle of its response. Nobody gets this body.',
  ),
  upstream_bad_response: upstream(
    502,
    'Upstream sent a bad response',
    'The response of the service behind the gateway is not valid HTTP.',
  ),
  upstream_tls_failed: upstream(
    502,
    'Upstream not trusted',
    'The gateway could not make a secure connection to the service behind it.',
  ),
  draining: gateway(
    503,
    'Shutting down',
    'This gateway is shutting down. Send the request again.',
    REDUCED_CAPACITY,
  ),
  overloaded: gateway(
    503,
    'Overloaded',
    'The gateway has no capacity for this request now. Try again shortly.',
    REDUCED_CAPACITY,
  ),
  maintenance: gateway(
    503,
    'Maintenance',
    'The service is in maintenance. Try again after the time in Retry-After.',
    REDUCED_CAPACITY,
  ),
  no_upstream: gateway(
    503,
    'Out of service',
    'The service behind the gateway has been taken out of service. Try again later.',
    REDUCED_CAPACITY,
  ),
  circuit_open: upstream(
    503,
    'Circuit open',
    'The service behind the gateway failed too often and gets a pause. Try again after the time in Retry-After.',
    REDUCED_CAPACITY,
  ),
  identity_unavailable: gateway(
    503,
    'Credential cannot be checked',
    'The gateway cannot check the credential now. Try again after the time in Retry-After.',
    REDUCED_CAPACITY,
  ),
  extension_failed: gateway(
    503,
    'Check failed',
    'A check that this gateway makes for the request failed. Try again shortly.',
    REDUCED_CAPACITY,
  ),
  auth_unavailable: gateway(
    503,
    'Permission cannot be checked',
    'The service that decides on this request does not answer. Try again after the time in Retry-After.',
    REDUCED_CAPACITY,
  ),
  store_unavailable: gateway(
    503,
    'Quota cannot be checked',
    'The quota store is unavailable, and this service refuses requests that cannot be counted. Try again shortly.',
    REDUCED_CAPACITY,
  ),
  upstream_connect_timeout: upstream(
    504,
    'Upstream connect timeout',
    'The service behind the gateway did not accept a connection in time.',
  ),
  upstream_timeout: upstream(
    504,
    'Upstream timeout',
    'The service behind the gateway did not answer in time.',
  ),
  http_version: client(505, 'HTTP version not supported', 'Send HTTP/1.1 or HTTP/1.0.'),
} satisfies Record<string, ErrorEntry>

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

import { METHODS } from 'node:http'
import { type Fail, readEdgePath, readHost, readOrigin, readRoutePath, readStripPrefix } from './parse-url.js'
import { kindOf, patternKind, textKind } from './scalar-type.js'
import { readTemplate, showTemplate } from './template.js'

// A token (RFC 9110 §5.6.2) without `_`: CGI-style backends read it as `-`, so such a header is dropped as a twin.
const HEADER_PATTERN = "^[A-Za-z0-9!#$%&'*+.^`|~-]+$"

const MEDIA_PATTERN = '^([A-Za-z0-9.+-]+/([A-Za-z0-9.+-]+|\\*)|\\*\\+[A-Za-z0-9.-]+)$'

/** Every method that Node's parser knows, except the two that are never routed. */
export const ROUTABLE_METHODS: readonly string[] = METHODS.filter(
  (name) => name !== 'CONNECT' && name !== 'TRACE',
)

/** Headers that describe the transport, or that a proxy writes. They cannot identify a consumer. */
const NOT_IDENTITY = new Set(
  `connection content-length expect forwarded host keep-alive proxy-authenticate proxy-authorization te trailer
   transfer-encoding upgrade via x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-request-id`.split(
    /\s+/,
  ),
)

/** Components that a signature can cover besides headers (RFC 9421 §2.2). */
const DERIVED = ['@method', '@authority', '@scheme', '@path', '@query', '@target-uri', '@request-target']

/** Headers that a gateway rewrites or removes, so that the gateway cannot see what the client signed. */
const NOT_COVERED = new Set(['signature', 'signature-input', 'keep-alive', 'proxy-connection'])

/** Kinds for parts of requests and responses. */
export const HTTP = {
  host: textKind('host', '^[^:/]+$|^\\[', readHost),
  path: textKind('path', '^/', readRoutePath),
  prefix: textKind('path', '^/', readStripPrefix),
  edge_path: textKind('path', '^/', readEdgePath),

  method: textKind('method', `^(${ROUTABLE_METHODS.join('|')})$`, (value, fail) => {
    if (ROUTABLE_METHODS.includes(value)) return value
    if (ROUTABLE_METHODS.includes(value.toUpperCase()))
      return fail('is not in capitals', `write ${value.toUpperCase()}`)
    if (value === 'CONNECT' || value === 'TRACE') return fail('is never passed on', 'remove it')
    return fail('is not a method that the gateway can receive', 'write methods such as GET or POST')
  }),

  header: textKind('header name', HEADER_PATTERN, (value, fail) =>
    readHeaderName(value, fail, 'belongs to the transport or to proxies and identifies nobody', 'x-user-id'),
  ),

  /** Header that does not identify a consumer. */
  field: textKind('header name', HEADER_PATTERN, (value, fail) =>
    readHeaderName(value, fail, 'belongs to the transport or to proxies', 'x-token-cost'),
  ),

  /** Any header, in lower case. Its user checks which headers are allowed. */
  any_field: textKind('header name', HEADER_PATTERN, (value, fail) =>
    new RegExp(HEADER_PATTERN).test(value) && value.length <= 64
      ? value.toLowerCase()
      : fail('cannot be the name of a header here', 'write one such as x-powered-by, without "_"'),
  ),

  /** Component that a signature must cover. */
  component: textKind('component', '^@?[a-z0-9-]+$', (value, fail) => {
    const derived = value.startsWith('@')
    if (derived && !DERIVED.includes(value))
      return fail('is not known here', `write one of ${DERIVED.join(', ')}`)
    if (!derived && !/^[a-z0-9-]{1,64}$/.test(value))
      return fail('is not the name of a header in lower case', 'write one such as content-digest')
    const read = value === 'host' || value === 'content-length' || !NOT_IDENTITY.has(value)
    return read && !NOT_COVERED.has(value)
      ? value
      : fail('belongs to the transport, to proxies or to the signature itself', 'remove it')
  }),

  template: kindOf('text', '^[^\\r\\n]+$', readTemplate, showTemplate, ['string', 'integer', 'boolean']),

  media_type: textKind('media type', MEDIA_PATTERN, (value, fail) =>
    new RegExp(MEDIA_PATTERN).test(value)
      ? value.toLowerCase()
      : fail('is not a media type', 'write one such as application/json, text/* or *+json'),
  ),

  origin: textKind('origin', '^(\\*|null|[a-z][a-z0-9+.-]*://[^/?#]+)$', readOrigin),

  /** Status that a client may get, or a class of statuses. */
  status: patternKind(
    'class or status',
    '^[2-5]([0-9][0-9]|xx)$',
    ['is neither a status nor a class of them', 'write 5xx, or one such as 502, from 200 to 599'],
    3,
    ['string', 'integer'],
  ),

  /** Status, class, or a response that broke off after its status was sent. */
  outcome: patternKind(
    'class, status or outcome',
    '^([2-5]([0-9][0-9]|xx)|upstream_cut)$',
    [
      'is neither a status, nor a class of them, nor an outcome',
      'write 5xx, one such as 502, from 200 to 599, or upstream_cut',
    ],
    12,
    ['string', 'integer'],
  ),

  status_class: patternKind(
    'class or status',
    '^[1-5]([0-9][0-9]|xx)$',
    ['is neither a status nor a class of them', 'write 2xx, or one such as 200'],
    3,
    ['string', 'integer'],
  ),

  /** Request target of a health check: a path, optionally with a query. */
  probe: textKind('path', '^/', (value, fail) =>
    /^\/[\x21-\x22\x24-\x7e]{0,1023}$/.test(value)
      ? value
      : fail(
          'is not a valid request path',
          'write one such as /healthz or /status?deep=1, in ASCII without spaces and "#"',
        ),
  ),
} as const

function readHeaderName(value: string, fail: Fail, belongs: string, fix: string): string | undefined {
  if (!new RegExp(HEADER_PATTERN).test(value) || value.length > 64) {
    return fail('cannot be the name of a header here', `write one such as ${fix}, without "_"`)
  }
  const name = value.toLowerCase()
  return NOT_IDENTITY.has(name) ? fail(belongs, `take a header of your own, such as ${fix}`) : name
}

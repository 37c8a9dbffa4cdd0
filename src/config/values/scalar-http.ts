import { METHODS } from 'node:http'
import { type Fail, readEdgePath, readHost, readOrigin, readRoutePath, readStripPrefix } from './parse-url.js'
import { asText, type Kind } from './scalar-type.js'
import { readTemplate, showTemplate, type Template } from './template.js'

// A token (RFC 9110 §5.6.2) but for `_`: backends of the CGI family read it as `-`, so such a field is dropped as a twin.
const HEADER_PATTERN = "^[A-Za-z0-9!#$%&'*+.^`|~-]+$"

const STATUS_PATTERN = '^[2-5]([0-9][0-9]|xx)$'
const OUTCOME_PATTERN = '^([2-5]([0-9][0-9]|xx)|upstream_cut)$'

const MEDIA_PATTERN = '^([A-Za-z0-9.+-]+/([A-Za-z0-9.+-]+|\\*)|\\*\\+[A-Za-z0-9.-]+)$'

/** Every method that Node's parser knows, without the two that are never routed. */
export const ROUTABLE_METHODS: readonly string[] = METHODS.filter(
  (name) => name !== 'CONNECT' && name !== 'TRACE',
)

/** Headers that say how a message travels, or that a proxy writes: nobody is identified by them. */
const NOT_IDENTITY = new Set(
  `connection content-length expect forwarded host keep-alive proxy-authenticate proxy-authorization te trailer
   transfer-encoding upgrade via x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-request-id`.split(
    /\s+/,
  ),
)

/** What a signature can cover besides fields (RFC 9421 §2.2). */
const DERIVED = ['@method', '@authority', '@scheme', '@path', '@query', '@target-uri', '@request-target']

/** Fields that a gateway writes anew or that end here; what a caller signed of them is not to be seen. */
const NOT_COVERED = new Set(['signature', 'signature-input', 'keep-alive', 'proxy-connection'])

/** Parts of requests and responses. */
export const HTTP = {
  host: {
    label: 'host',
    types: ['string'],
    pattern: '^[^:/]+$|^\\[',
    read: readHost,
    show: asText,
  } satisfies Kind<string>,

  path: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readRoutePath,
    show: asText,
  } satisfies Kind<string>,

  prefix: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readStripPrefix,
    show: asText,
  } satisfies Kind<string>,

  edge_path: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readEdgePath,
    show: asText,
  } satisfies Kind<string>,

  method: {
    label: 'method',
    types: ['string'],
    pattern: `^(${ROUTABLE_METHODS.join('|')})$`,
    read: (value, fail) => {
      if (ROUTABLE_METHODS.includes(value)) return value
      if (ROUTABLE_METHODS.includes(value.toUpperCase()))
        return fail('is not in capitals', `write ${value.toUpperCase()}`)
      if (value === 'CONNECT' || value === 'TRACE') return fail('is never passed on', 'remove it')
      return fail('is not a method that the gateway can receive', 'write methods such as GET or POST')
    },
    show: asText,
  } satisfies Kind<string>,

  header: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      readHeaderName(
        value,
        fail,
        'belongs to the transport or to proxies and identifies nobody',
        'x-user-id',
      ),
    show: asText,
  } satisfies Kind<string>,

  /** A header that identifies nobody. */
  field: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      readHeaderName(value, fail, 'belongs to the transport or to proxies', 'x-token-cost'),
    show: asText,
  } satisfies Kind<string>,

  /** Any header, kept in lower case: what may not be meant is said where it is used. */
  any_field: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      new RegExp(HEADER_PATTERN).test(value) && value.length <= 64
        ? value.toLowerCase()
        : fail('cannot be the name of a header here', 'write one such as x-powered-by, without "_"'),
    show: asText,
  } satisfies Kind<string>,

  /** What a signature has to cover. */
  component: {
    label: 'component',
    types: ['string'],
    pattern: '^@?[a-z0-9-]+$',
    read: (value, fail) => {
      const derived = value.startsWith('@')
      if (derived && !DERIVED.includes(value))
        return fail('is not known here', `write one of ${DERIVED.join(', ')}`)
      if (!derived && !/^[a-z0-9-]{1,64}$/.test(value))
        return fail('is not the name of a field in lower case', 'write one such as content-digest')
      const read = value === 'host' || value === 'content-length' || !NOT_IDENTITY.has(value)
      return read && !NOT_COVERED.has(value)
        ? value
        : fail('belongs to the transport, to proxies or to the signature itself', 'remove it')
    },
    show: asText,
  } satisfies Kind<string>,

  template: {
    label: 'text',
    types: ['string', 'integer', 'boolean'],
    pattern: '^[^\\r\\n]+$',
    read: readTemplate,
    show: showTemplate,
  } satisfies Kind<Template>,

  media_type: {
    label: 'media type',
    types: ['string'],
    pattern: MEDIA_PATTERN,
    read: (value, fail) =>
      new RegExp(MEDIA_PATTERN).test(value)
        ? value.toLowerCase()
        : fail('is not a media type', 'write one such as application/json, text/* or *+json'),
    show: asText,
  } satisfies Kind<string>,

  origin: {
    label: 'origin',
    types: ['string'],
    pattern: '^(\\*|null|[a-z][a-z0-9+.-]*://[^/?#]+)$',
    read: readOrigin,
    show: asText,
  } satisfies Kind<string>,

  /** A status that a client may get, or a class of them. */
  status: {
    label: 'class or status',
    types: ['string', 'integer'],
    pattern: STATUS_PATTERN,
    read: (value, fail) =>
      new RegExp(STATUS_PATTERN).test(value)
        ? value
        : fail('is neither a status nor a class of them', 'write 5xx, or one such as 502, from 200 to 599'),
    show: asText,
  } satisfies Kind<string>,

  /** The same, or that the response broke off when its status was out. */
  outcome: {
    label: 'class, status or outcome',
    types: ['string', 'integer'],
    pattern: OUTCOME_PATTERN,
    read: (value, fail) =>
      new RegExp(OUTCOME_PATTERN).test(value)
        ? value
        : fail(
            'is neither a status, nor a class of them, nor an outcome',
            'write 5xx, one such as 502, from 200 to 599, or upstream_cut',
          ),
    show: asText,
  } satisfies Kind<string>,

  /** A request target for a check of health: a path, perhaps with a query. */
  probe: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: (value, fail) =>
      /^\/[\x21-\x22\x24-\x7e]{0,1023}$/.test(value)
        ? value
        : fail(
            'is not a path that can be asked for',
            'write one such as /healthz or /status?deep=1, in ASCII without spaces and "#"',
          ),
    show: asText,
  } satisfies Kind<string>,
} as const

function readHeaderName(value: string, fail: Fail, belongs: string, fix: string): string | undefined {
  if (!new RegExp(HEADER_PATTERN).test(value) || value.length > 64) {
    return fail('cannot be the name of a header here', `write one such as ${fix}, without "_"`)
  }
  const name = value.toLowerCase()
  return NOT_IDENTITY.has(name) ? fail(belongs, `take a header of your own, such as ${fix}`) : name
}

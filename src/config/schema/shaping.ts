import type { Static } from '@sinclair/typebox'
import {
  boolean,
  choice,
  duration,
  integer,
  list,
  named,
  object,
  scalar,
  string,
  switchable,
} from './define.js'

/** Schema of what the gateway changes in messages, and what it answers by itself. */

const MaintenanceSettings = object(
  {
    enabled: boolean('Answer requests with 503', { default: true }),
    retry_after: duration('Value of Retry-After, in whole seconds', [1000, 366 * 86_400_000], {
      default: '5m',
    }),
    'detail?': string('Text for clients, instead of the usual sentence', { maxLength: 1000 }),
  },
  'What clients are told while the service is in maintenance',
)
export const maintenance = switchable(
  'The service is in maintenance',
  MaintenanceSettings,
  'true, false, or a mapping with what clients are told. While true, requests get 503 and take no quota; a split goes on with its other services',
)

const Share = object(
  {
    service: scalar('name', 'A service'),
    weight: integer('Its share of the requests, relative to the other weights; 0: none', [0, 1_000_000], {
      default: 1,
    }),
  },
  'A service with its share of the requests',
)
export const split = list(
  Share,
  'Several services by weight, instead of service. The limits of the first one count, whichever serves',
  {
    minItems: 2,
    maxItems: 16,
    examples: [
      [
        { service: 'api', weight: 95 },
        { service: 'canary', weight: 5 },
      ],
    ],
  },
)
export const sticky = choice(
  ['consumer'],
  'consumer: with split, a consumer stays with one service as long as the weights allow',
)

// A token (RFC 9110 §5.6.2) without `_`: CGI-style backends read it as `-`.
const FIELD_NAMES = "^[A-Za-z0-9!#$%&'*+.^`|~-]{1,64}$"
const fields = (description: string) =>
  named(scalar('template', 'Value of the header', { secret: true }), description, {
    keys: FIELD_NAMES,
    keyFix: 'a header name here has no "_" and 64 characters at most',
  })
const headerNames = (description: string, examples?: unknown[]) =>
  list(scalar('any_field', 'Name of a header'), description, {
    minItems: 1,
    maxItems: 100,
    ...(examples && { examples }),
  })
const HeaderChanges = (message: string) =>
  object(
    {
      'set?': fields(`Headers of ${message} with their values. They replace any by the same names`),
      'add?': fields(`Headers that ${message} gets in addition`),
      'remove?': headerNames(`Headers that ${message} loses`, [['x-powered-by']]),
    },
    `Changes to the headers of ${message}`,
  )
export const headers = object(
  {
    'request?': HeaderChanges('the request'),
    'response?': HeaderChanges('the response'),
  },
  `Headers that are set, added or removed. Values may contain \${consumer}, \${tier}, \${request_id}, \${route}, \${service} and \${client_ip}. A name in lower case is one of these; a name with a capital letter is an environment variable`,
)
export type HeaderSettings = Static<typeof headers>

export const respond = object(
  {
    status: integer('Status of the response', [200, 599], { default: 200 }),
    'body?': string(
      'Body of the response. Its Content-Type is application/json for JSON, otherwise text/plain',
      {
        maxLength: 65_536,
      },
    ),
    'headers?': fields('Headers of the response'),
  },
  'Response of the gateway itself, instead of a service. It needs no credential and takes no quota',
)
export type RespondSettings = Static<typeof respond>

export const cors = object(
  {
    origins: list(
      scalar('origin', 'An origin, https://*.example.com for all below it, null, or * for every one'),
      'Origins of pages that may read responses of the route',
      { minItems: 1, maxItems: 100, examples: [['https://app.example.com']] },
    ),
    'methods?': list(
      scalar('method', 'A method, in capitals'),
      'Methods that pages may use. Default: those of the route',
      { minItems: 1 },
    ),
    'headers?': headerNames('Request headers that pages may set. Default: all that they ask for'),
    'expose?': headerNames("Response headers that pages may read, besides the gateway's own"),
    credentials: boolean('Pages may send cookies and other credentials', { default: false }),
    max_age: scalar('duration', 'How long browsers remember the response to a preflight', {
      default: '10m',
      most: 86_400_000,
    }),
  },
  'Cross-origin requests of browsers. The gateway answers preflights itself: they need no credential, take no quota and are not forwarded',
)

export const mirror = object(
  {
    service: scalar('name', 'Service that gets the copies'),
    share: integer('Percentage of the requests that is copied', [1, 100], { default: 100 }),
  },
  'Copies of requests for a second service. The gateway discards its responses and does not wait for them. Copies take no quota',
)

const CompressSettings = object(
  {
    enabled: boolean('Compress responses', { default: true }),
    encodings: list(
      choice(
        ['zstd', 'br', 'gzip'],
        'A content coding. zstd needs Node.js 22.15 or later; older versions skip it',
      ),
      'Codings on offer. Among those that a client prefers equally, the first is used',
      { default: ['zstd', 'br', 'gzip'], minItems: 1, maxItems: 3 },
    ),
    types: list(
      scalar('media_type', 'A media type, such as application/json, text/* or *+json'),
      'Media types of responses that are compressed. text/event-stream only if it is named here',
      {
        default: [
          'text/*',
          'application/json',
          'application/javascript',
          'application/xml',
          'application/wasm',
          'application/x-ndjson',
          '*+json',
          '*+xml',
        ],
        minItems: 1,
        maxItems: 100,
      },
    ),
    min_size: scalar('size', 'Smaller bodies stay as they are, if their length is known', {
      default: '1KiB',
    }),
  },
  'Compression of responses',
)
export const compress = switchable(
  'Compress responses',
  CompressSettings,
  'true, false, or a mapping: compress responses for clients that accept it, unless the upstream has done so',
)

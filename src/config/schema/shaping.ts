import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, either, integer, list, named, object, scalar, string } from './define.js'

/** Schema of what the gateway changes in messages, and what it answers by itself. */

const MaintenanceSettings = object(
  {
    enabled: boolean('Whether requests are answered with 503', { default: true }),
    retry_after: scalar('duration', 'When callers may come back: Retry-After, in whole seconds', {
      default: '5m',
      least: 1000,
      most: 366 * 86_400_000,
    }),
    detail: Type.Optional(
      string('What callers are told, in place of the usual sentence', { maxLength: 1000 }),
    ),
  },
  'What callers are told while the service is in maintenance',
)
export const maintenance = either<Static<typeof MaintenanceSettings>>(
  [scalar('switch', 'Whether the service is in maintenance', { shorthand: true }), MaintenanceSettings],
  'true, false, or a mapping with what callers are told. While true requests are answered with 503 and take no quota; a split goes on with its other services',
)

const Share = object(
  {
    service: scalar('name', 'A service'),
    weight: integer('Its share of the requests, in relation to the other weights; 0: none', {
      default: 1,
      minimum: 0,
      maximum: 1_000_000,
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
  'consumer: with split, a consumer stays with one service for as long as the weights allow',
)

// A token (RFC 9110 §5.6.2) without `_`: CGI-style backends read it as `-`.
const FIELD_NAMES = "^[A-Za-z0-9!#$%&'*+.^`|~-]{1,64}$"
const fields = (description: string) =>
  Type.Optional(
    named(scalar('template', 'The value of the field', { secret: true }), description, {
      keys: FIELD_NAMES,
      keyFix: 'a header name here has no "_" and 64 characters at most',
    }),
  )
const HeaderChanges = (whose: string) =>
  object(
    {
      set: fields(`Fields of ${whose} with their values, in place of any that it has by these names`),
      add: fields(`Fields that ${whose} gets besides those that it has`),
      remove: Type.Optional(
        list(scalar('any_field', 'Name of a field'), `Fields that ${whose} loses`, {
          minItems: 1,
          maxItems: 100,
          examples: [['x-powered-by']],
        }),
      ),
    },
    `What becomes of the fields of ${whose}`,
  )
export const headers = object(
  {
    request: Type.Optional(HeaderChanges('the request')),
    response: Type.Optional(HeaderChanges('the response')),
  },
  `Header fields that are set, added or removed. Values may hold \${consumer}, \${tier}, \${request_id}, \${route}, \${service} and \${client_ip}: a name in lower case is the gateway's own here, one with a capital letter is the environment's`,
)
export type HeaderSettings = Static<typeof headers>

export const respond = object(
  {
    status: integer('Status of the answer', { default: 200, minimum: 200, maximum: 599 }),
    body: Type.Optional(
      string('Body of the answer. Its Content-Type is application/json if it is that, else text/plain', {
        maxLength: 65_536,
      }),
    ),
    headers: fields('Fields of the answer'),
  },
  'The answer of the gateway, instead of a service. Nobody has to say who is calling, and nothing is counted',
)
export type RespondSettings = Static<typeof respond>

export const cors = object(
  {
    origins: list(
      scalar('origin', 'An origin, https://*.example.com for all below it, null, or * for every one'),
      'Pages that may read what the route answers',
      { minItems: 1, maxItems: 100, examples: [['https://app.example.com']] },
    ),
    methods: Type.Optional(
      list(
        scalar('method', 'A method, in capitals'),
        'Methods that pages may use; by default those of the route',
        {
          minItems: 1,
        },
      ),
    ),
    headers: Type.Optional(
      list(
        scalar('any_field', 'Name of a field'),
        'Request fields that pages may set; by default whatever they ask for',
        {
          minItems: 1,
          maxItems: 100,
        },
      ),
    ),
    expose: Type.Optional(
      list(
        scalar('any_field', 'Name of a field'),
        "Response fields that pages may read, besides the gateway's own",
        { minItems: 1, maxItems: 100 },
      ),
    ),
    credentials: boolean('Whether pages may send cookies and the like', { default: false }),
    max_age: scalar('duration', 'How long browsers remember the answer to a preflight', {
      default: '10m',
      most: 86_400_000,
    }),
  },
  'Cross-origin requests of browsers. Preflights are answered by the gateway: nobody has to say who is calling, and nothing is counted or forwarded',
)

export const mirror = object(
  {
    service: scalar('name', 'The service that gets the copies'),
    share: integer('Percent of the requests that are copied', { default: 100, minimum: 1, maximum: 100 }),
  },
  'Copies of requests for a second service, whose answers are thrown away. They take no quota, and nobody waits for them',
)

const CompressSettings = object(
  {
    enabled: boolean('Whether responses are compressed', { default: true }),
    encodings: list(
      choice(
        ['zstd', 'br', 'gzip'],
        'A content coding. zstd needs Node.js 22.15 or later, and is passed over before that',
      ),
      'Codings that are offered; of those that a client takes equally gladly the first is used',
      { default: ['zstd', 'br', 'gzip'], minItems: 1, maxItems: 3 },
    ),
    types: list(
      scalar('media_type', 'A media type, such as application/json, text/* or *+json'),
      'Media types of responses that are compressed. text/event-stream only where it is named',
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
    min_size: scalar('size', 'Smaller bodies are left as they are, where their length is known', {
      default: '1KiB',
    }),
  },
  'Compression of responses',
)
export const compress = either<Static<typeof CompressSettings>>(
  [scalar('switch', 'Whether responses are compressed', { shorthand: true }), CompressSettings],
  'true, false, or a mapping: whether responses are compressed for clients that take it, where the upstream has not done so',
)

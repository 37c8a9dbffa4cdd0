import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, either, integer, list, named, object, scalar, string } from './define.js'

/**
 * The configuration file, said once: this schema is the source of the types, the defaults, `config/schema.json` and
 * `docs/config.md`. What it cannot say (that a route's service exists, say) is in `checks.ts`.
 */

const DAY = 86_400_000
/** Longest time that a timer of Node can wait, in whole days. */
const LONGEST_TIMER = 24 * DAY
/** The packed counters of the store have 25 bits (`lua/take.lua`). */
export const MAX_AMOUNT = 2 ** 25 - 1
export const MAX_LIMITS = 8
export const MAX_WINDOW = 366 * DAY

const timer = (description: string, fallback: string, least = 1) =>
  scalar('duration', description, { default: fallback, least, most: LONGEST_TIMER })

const onFailure = 'open: let requests pass uncounted; local: count in this process alone; closed: answer 503'

const Limit = object(
  {
    name: Type.Optional(
      scalar(
        'name',
        'Shown in the RateLimit fields; by default second, minute, hour, day, or the window as written',
      ),
    ),
    amount: integer('How much may be taken in one window', { minimum: 1, maximum: MAX_AMOUNT }),
    window: scalar('duration', 'Length of the window', {
      least: 1,
      most: MAX_WINDOW,
      examples: ['1m', '30s'],
    }),
    algorithm: choice(['sliding'], 'sliding: a sliding window counter', { default: 'sliding' }),
  },
  'A limit in full',
)
type Limit = Static<typeof Limit>

const limit = either<Limit>(
  [
    scalar('rate', 'Amount per window: N/s, N/min, N/h, N/day, or N/30s', {
      shorthand: true,
      examples: ['10/min'],
    }),
    Limit,
  ],
  'A limit: 10/min, or in full with amount and window',
)

const limits = either<'unlimited' | Limit[]>(
  [
    Type.Literal('unlimited', { description: 'No limit: requests of this tier are not counted' }),
    limit,
    list(limit, 'Limits that must all hold: a request takes from every one or from none', {
      minItems: 1,
      maxItems: MAX_LIMITS,
    }),
  ],
  'unlimited, one limit, or a list of limits that must all hold',
  { wrap: true, examples: ['10/min', ['5/s', '100/min'], 'unlimited'] },
)

const owner = {
  consumer: string('Whose key it is: the id that quota is counted under', { maxLength: 256 }),
  tier: Type.Optional(scalar('name', 'The tier that comes with the key; by default the default_tier')),
}
const HashedKey = object(
  { sha256: scalar('sha256', 'SHA-256 of the key in hex: printf %s THE-KEY | sha256sum'), ...owner },
  'A key by its SHA-256',
)
const PlainKey = object(
  {
    key: scalar(
      'hashed',
      'The key itself, best from the environment: "${ACME_KEY}". Only its SHA-256 is kept',
      {
        secret: true,
        becomes: 'sha256',
      },
    ),
    ...owner,
  },
  'A key by itself',
)

const ApiKeyConsumer = object(
  {
    api_key: object(
      {
        header: scalar('header', 'The header that holds the key', { default: 'x-api-key' }),
        keys: list(
          either<Static<typeof HashedKey>>([HashedKey, PlainKey], 'A key, whose it is, and its tier'),
          'The keys that are known; any other is answered with 401',
          { minItems: 1 },
        ),
      },
      'By a key in a header',
    ),
  },
  'Callers known by an API key',
)
const HeaderConsumer = object(
  {
    header: object(
      { name: scalar('header', 'The header that holds the id of the consumer', { examples: ['x-user-id'] }) },
      'By a header that something in front of the gateway sets, and that callers cannot',
    ),
  },
  'Callers known by a header that is trusted as it is',
)
const IpConsumer = object(
  { ip: object({}, 'Takes no settings: write {}') },
  'Callers known by their address: IPv4 as it is, IPv6 by its /64',
)

const Service = object(
  {
    upstreams: list(
      scalar('upstream', 'Address of an upstream, with or without a base path', {
        examples: ['http://127.0.0.1:9001'],
      }),
      'The addresses of the service',
      { minItems: 1 },
    ),
    on_failure: Type.Optional(
      choice(
        ['open', 'local', 'closed'],
        `While the store is out of reach. ${onFailure}. By default store.on_failure`,
      ),
    ),
    limits: Type.Optional(
      named(limits, 'For every tier its limits. Left out: the service is not limited', {
        examples: [{ free: '10/min', pro: ['5/s', '100/min'], enterprise: 'unlimited' }],
      }),
    ),
  },
  'A backend, and how much of it each tier may use',
)

const WebSocketSettings = object(
  {
    enabled: boolean('Whether WebSocket upgrades are passed on', { default: true }),
    handshake: timer('Longest wait for the upstream to answer the handshake', '10s'),
    idle: timer('Longest time without a byte in either direction', '5m'),
  },
  'WebSocket with its time limits',
)

const Route = object(
  {
    path: scalar(
      'path',
      'Literal segments, :name for one segment, * as the last segment for any rest. /payments/* also matches /payments',
      { examples: ['/payments/*', '/users/:id/orders'] },
    ),
    host: Type.Optional(
      scalar('host', 'The host, or *.example.com for all names below it. Left out: every host', {
        examples: ['api.example.com'],
      }),
    ),
    hosts: Type.Optional(list(scalar('host', 'A host'), 'Several hosts, instead of host', { minItems: 1 })),
    methods: Type.Optional(
      list(scalar('method', 'A method, in capitals'), 'Left out: every method. GET includes HEAD', {
        minItems: 1,
      }),
    ),
    service: scalar('name', 'The service that requests go to'),
    strip_prefix: Type.Optional(
      scalar('prefix', 'Removed from the front of the path before it is forwarded', {
        examples: ['/payments'],
      }),
    ),
    cost: integer('How much one request takes from each limit', {
      default: 1,
      minimum: 1,
      maximum: MAX_AMOUNT,
    }),
    body_limit: scalar('size', 'Largest request body; a larger one is answered with 413', {
      default: '1GiB',
    }),
    access_log: boolean('Whether requests of this route are in the access log', { default: true }),
    allow_encoded: boolean(
      'Whether %2F, %5C, ; and doubly encoded characters may stand in a path; else they are 400',
      {
        default: false,
      },
    ),
    preserve_host: boolean("Whether the upstream sees the caller's Host instead of its own", {
      default: false,
    }),
    timeouts: object(
      {
        total: timer('Longest time for the whole exchange; 0: none', '5m', 0),
        headers: timer("Longest wait for the response's header after the request has been sent", '30s'),
        idle: timer('Longest time without a byte in either direction while a body is under way', '30s'),
      },
      'Time limits towards the upstream',
      { default: {} },
    ),
    websocket: either<Static<typeof WebSocketSettings>>(
      [scalar('switch', 'Whether WebSocket upgrades are passed on', { shorthand: true }), WebSocketSettings],
      'true, false, or a mapping with time limits',
      { default: false },
    ),
  },
  'Host, path and methods that lead to a service',
)

export const ConfigSchema = object(
  {
    listen: scalar('listen', 'Where the gateway listens, as host:port; port 0 takes any free one', {
      default: '0.0.0.0:8080',
      restart: true,
    }),
    admin: object(
      {
        listen: scalar('listen', 'Where the admin server listens; anything but loopback needs a token', {
          default: '127.0.0.1:8081',
          restart: true,
        }),
        token: Type.Optional(
          string('Callers of the admin server send it as a bearer token', {
            secret: true,
            restart: true,
            minLength: 16,
            maxLength: 256,
          }),
        ),
      },
      'The admin server: health, metrics, configuration, usage',
      { default: {} },
    ),
    store: object(
      {
        redis: Type.Optional(
          either<string | string[]>(
            [
              scalar('redis', 'redis:// or rediss:// address', { secret: true }),
              list(
                scalar('redis', 'redis:// or rediss:// address', { secret: true }),
                'Nodes of a Redis Cluster',
                {
                  minItems: 1,
                },
              ),
            ],
            'One Redis server, or a list of nodes of a Redis Cluster. Left out: counts live in this process',
            { secret: true, restart: true, examples: ['redis://127.0.0.1:6379'] },
          ),
        ),
        timeout: scalar('duration', 'Longest wait for the store; then the decision is made without it', {
          default: '100ms',
          least: 1,
          most: 60_000,
          restart: true,
        }),
        on_failure: choice(['open', 'local', 'closed'], `While the store is out of reach. ${onFailure}`, {
          default: 'open',
        }),
        max_keys: integer(
          'How many counters are kept in memory at most, without Redis or while it is out of reach',
          {
            default: 1_000_000,
            minimum: 1000,
            maximum: 100_000_000,
            restart: true,
          },
        ),
      },
      'Where counts live',
      { default: {} },
    ),
    tiers: list(scalar('name', 'Name of a tier'), 'The plans that consumers are on', {
      minItems: 1,
      maxItems: 64,
      examples: [['free', 'pro', 'enterprise']],
    }),
    default_tier: Type.Optional(
      scalar('name', 'The tier of consumers that nothing else is known of; by default the first'),
    ),
    consumers: list(
      either<Static<typeof ApiKeyConsumer> | Static<typeof HeaderConsumer> | Static<typeof IpConsumer>>(
        [ApiKeyConsumer, HeaderConsumer, IpConsumer],
        'One way to know a caller: api_key, header or ip',
      ),
      'How callers are known; tried in order, the first that fits wins',
      { default: [{ ip: {} }], minItems: 1 },
    ),
    trusted_proxies: list(
      scalar('range', 'An address or a CIDR block', { examples: ['10.0.0.0/8'] }),
      'Proxies whose X-Forwarded-For is believed',
      { default: [] },
    ),
    services: named(Service, 'The backends, by name'),
    routes: list(
      Route,
      'Which requests go to which service. The most specific one wins, whatever the order',
      {
        minItems: 1,
      },
    ),
    telemetry: object(
      {
        otlp: Type.Optional(
          object(
            {
              url: scalar('url', 'Where metrics are pushed to', {
                secret: true,
                examples: ['http://127.0.0.1:4318/v1/metrics'],
              }),
              interval: timer('Time between two pushes', '10s', 1000),
              headers: Type.Optional(
                named(string('Value of the header', { secret: true }), 'Headers sent along', {
                  keys: '^[A-Za-z0-9-]{1,64}$',
                }),
              ),
            },
            'Push metrics by OTLP over HTTP',
            { restart: true },
          ),
        ),
        service_name: string('service.name in what is sent', {
          default: 'tidegate',
          maxLength: 255,
          restart: true,
        }),
      },
      'Metrics',
      { default: {} },
    ),
    log: object(
      {
        level: choice(
          ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
          'Least level of log lines',
          {
            default: 'info',
            restart: true,
          },
        ),
        access: string('Where access lines go: stdout, off, or the path of a file', {
          default: 'stdout',
          maxLength: 4096,
          restart: true,
        }),
      },
      'Logs',
      { default: {} },
    ),
    server: object(
      {
        header_timeout: timer("Longest time until a request's header has arrived", '10s', 100),
        request_timeout: timer('Longest time until a request has arrived whole; 0: none', '60s', 0),
        keep_alive: timer(
          'How long an idle connection is kept; longer than the load balancer in front does',
          '72s',
        ),
        max_connections: integer('Connections at the same time', {
          default: 10_000,
          minimum: 1,
          maximum: 1_000_000,
        }),
        shutdown_delay: timer(
          'After SIGTERM, how long requests are still accepted while /readyz says 503',
          '5s',
          0,
        ),
        shutdown_grace: timer('How long requests in flight may take to finish after that', '30s', 0),
        max_headers: integer('Header fields of a request', { default: 100, minimum: 8, maximum: 1000 }),
        max_header_size: scalar('size', 'Bytes of all header fields of a request, with its first line', {
          default: '16KiB',
          least: 1024,
          most: 1024 * 1024,
        }),
      },
      'The gateway as a server',
      { default: {}, restart: true },
    ),
  },
  'Configuration of Tidegate',
)

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

/**
 * A configuration as it is after loading: durations in ms, sizes in bytes, addresses taken apart, `limits` and the
 * like always lists, defaults filled in, keys hashed.
 */
export type Config = DeepReadonly<Static<typeof ConfigSchema>>

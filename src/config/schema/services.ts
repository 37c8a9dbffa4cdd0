import { type Static, Type } from '@sinclair/typebox'
import { ALGORITHM_TRAITS, type Algorithm } from './algorithms.js'
import { Auth } from './auth.js'
import {
  boolean,
  choice,
  duration,
  either,
  integer,
  list,
  named,
  object,
  scalar,
  string,
  switchable,
  timer,
} from './define.js'
import { use } from './extensions.js'
import { identity } from './identity.js'
import { CircuitBreaker, Concurrency, Retries } from './resilience.js'
import { compress, cors, headers, maintenance, mirror, respond, split, sticky } from './shaping.js'
import { transport } from './upstream-tls.js'
import { upstreamKeys } from './upstreams.js'

/** Schema of limits, services and routes. */

const DAY = 86_400_000
/** Largest amount: the packed counters of the store have 25 bits (`lua/take.lua`). */
const MAX_AMOUNT = 2 ** 25 - 1
const MAX_LIMITS = 8
const MAX_WINDOW = 366 * DAY

/** Description of on_failure, for the store and for a service. */
export const ON_FAILURE =
  'open: let requests pass uncounted; local: count in this process, within its share of the limit; closed: answer 503'

/** Shortest lease, in ms. A timer that runs once a second renews it: a shorter one would lapse during its request. */
const LEAST_LEASE = 5_000

const Limit = object(
  {
    'name?': scalar(
      'name',
      'Name in the RateLimit headers. Default: second, minute, hour, day, month, concurrent, or the window as written. If the level is not consumer it comes in front: ip-minute',
    ),
    amount: integer('Quota of one window. For concurrency, requests in progress at once', [1, MAX_AMOUNT]),
    'window?': duration(
      'Length of the window. Required, except for calendar and concurrency',
      [1, MAX_WINDOW],
      { examples: ['1m', '30s'] },
    ),
    algorithm: choice(
      Object.keys(ALGORITHM_TRAITS) as Algorithm[],
      Object.entries(ALGORITHM_TRAITS)
        .map(([name, { text }]) => `${name}: ${text}`)
        .join('; '),
      { default: 'sliding' },
    ),
    'burst?': integer('For token_bucket: how much may be taken at once. Default: the amount', [
      1,
      MAX_AMOUNT,
    ]),
    'period?': choice(['day', 'month'], 'For calendar, where it is required: the period of the amount'),
    'time_zone?': scalar('zone', 'For calendar: the time zone whose midnight counts. Default: UTC', {
      examples: ['Europe/Berlin'],
    }),
    'lease?': duration(
      'For concurrency: how long a slot stays taken after its gateway died. A slot in use is renewed. Default: 1m',
      [LEAST_LEASE, DAY],
    ),
    by: choice(
      ['ip', 'consumer', 'tenant', 'route', 'service'],
      "Level of the limit: the client's address (IPv6 by its /64), the consumer, its tenant (a consumer without one is its own tenant), the route (its host and path, whatever the method) or the whole service. Tiers whose limits on a level have the same algorithms and windows share its counts, each with its own amounts. With a limit by service of 800/min for free and 1000/min for pro, free is denied first",
      { default: 'consumer' },
    ),
    'share?': scalar(
      'share',
      "Part of the limit that one consumer may take, above 0 and below 1, so that it cannot starve the others. It counts as a limit of its own, named after this one (tenant-minute-share). A consumer without a tenant has no share of a tenant's limit",
      { examples: [0.3] },
    ),
    candidate: boolean(
      'Try the limit out: it counts the same traffic as the others and shows in metrics, but denies nothing',
      { default: false },
    ),
  },
  'A limit in full',
)
export type LimitSettings = Static<typeof Limit>

const limit = either<LimitSettings>(
  [
    scalar('rate', 'Amount per window: N/s, N/min, N/h, N/day, or N/30s', {
      shorthand: true,
      examples: ['10/min'],
    }),
    Limit,
  ],
  'A limit: 10/min, or in full with amount and window',
)

const limits = either<'unlimited' | LimitSettings[]>(
  [
    Type.Literal('unlimited', { description: 'No limit: requests of this tier are not counted' }),
    limit,
    list(limit, 'Limits that must all hold: a request takes from each of them or from none', {
      minItems: 1,
      maxItems: MAX_LIMITS,
    }),
  ],
  'unlimited, one limit, or a list of limits that must all hold',
  { wrap: true, examples: ['10/min', ['5/s', '100/min'], 'unlimited'] },
)

export const Service = object(
  {
    ...upstreamKeys,
    'on_failure?': choice(
      ['open', 'local', 'closed'],
      `While the store is unavailable. ${ON_FAILURE}. Default: store.on_failure`,
    ),
    'limits?': named(limits, 'Limits of every tier. Default: the service is not limited', {
      examples: [{ free: '10/min', pro: ['5/s', '100/min'], enterprise: 'unlimited' }],
    }),
    'exempt?': object(
      {
        consumers: list(
          string('Id of a consumer', { minLength: 1, maxLength: 256 }),
          'Consumers by their ids',
          {
            default: [],
            maxItems: 10_000,
          },
        ),
        addresses: list(scalar('range', 'An address or a CIDR block'), 'Addresses of clients', {
          default: [],
          maxItems: 10_000,
          examples: [['10.0.0.0/8']],
        }),
      },
      'Callers whose requests pass without being counted, whatever their tier',
    ),
    show_decided_by: boolean(
      'Tell clients in X-Tidegate-Decided-By that the gateway decided without the store: open or local',
      { default: false },
    ),
    ...transport,
    'maintenance?': maintenance,
    'identity?': identity,
    'use?': use,
    retries: Retries,
    'circuit_breaker?': CircuitBreaker,
    'concurrency?': Concurrency,
  },
  'A backend, and how much of it each tier may use',
)

const cost = (description: string, marks: { default?: number }) =>
  integer(description, [1, MAX_AMOUNT], { ...marks })

const Cost = object(
  {
    header: scalar('field', 'Request header with the cost: a whole number from 1', {
      examples: ['x-request-cost'],
    }),
    max: cost('Highest cost. A larger number counts as this', { default: 100 }),
    default: cost('Cost if the header is missing or invalid, and for all other consumers', { default: 1 }),
    consumers: list(
      string('Id of a consumer', { maxLength: 256 }),
      'Consumers that may declare the cost of their requests',
      { minItems: 1, maxItems: 10_000, examples: [['acme']] },
    ),
  },
  'Cost of a request, from a header of the request. The header is forwarded unchanged',
)
export type CostSettings = Static<typeof Cost>

const WebSocketSettings = object(
  {
    enabled: boolean('Forward WebSocket upgrades', { default: true }),
    handshake: timer("Timeout of the upstream's response to the handshake", '10s'),
    idle: timer('Timeout without a byte in either direction', '5m'),
  },
  'WebSocket with its timeouts',
)

export const Route = object(
  {
    path: scalar(
      'path',
      'Literal segments, :name for one segment, * as the last segment for any rest. /payments/* also matches /payments',
      { examples: ['/payments/*', '/users/:id/orders'] },
    ),
    'host?': scalar('host', 'The host, or *.example.com for all names below it. Default: every host', {
      examples: ['api.example.com'],
    }),
    'hosts?': list(scalar('host', 'A host'), 'Several hosts, instead of host', { minItems: 1 }),
    'methods?': list(scalar('method', 'A method, in capitals'), 'Default: every method. GET includes HEAD', {
      minItems: 1,
    }),
    'service?': scalar('name', 'Service that gets the requests'),
    'split?': split,
    'sticky?': sticky,
    'respond?': respond,
    'strip_prefix?': scalar('prefix', 'Prefix that is removed from the path before it is forwarded', {
      examples: ['/payments'],
    }),
    rewrite_location: boolean(
      "Map Location, Content-Location and cookie paths of the upstream back to the gateway's. With strip_prefix: /shop, /login becomes /shop/login. Has no effect with rewrite",
      { default: true },
    ),
    'rewrite?': scalar(
      'path',
      "Path for the upstream, instead of strip_prefix: literal segments, and the route's own :name and *",
      { examples: ['/v2/*', '/people/:id'] },
    ),
    'auth?': Auth,
    'use?': use,
    'headers?': headers,
    'cors?': cors,
    'compress?': compress,
    'mirror?': mirror,
    cost: either<number | CostSettings>(
      [cost('How much one request takes from each limit', {}), Cost],
      'A whole number, or a mapping if a request header declares it: how much one request takes from each limit, except concurrency',
      { default: 1 },
    ),
    'refund_on?': list(
      scalar('outcome', 'A class such as 5xx, one status, or upstream_cut'),
      'Outcomes that refund a request: statuses, from the upstream or the gateway itself (502, 504, or 499 for a client that left), and `upstream_cut` for a response that broke off in its body',
      {
        minItems: 1,
        maxItems: 100,
        examples: [
          ['5xx', 'upstream_cut'],
          ['502', '504'],
        ],
      },
    ),
    'cost_header?': scalar(
      'field',
      'Response header with the total cost of the request: a whole number from 0. The gateway then charges or refunds the difference. A debt delays the next requests. Clients do not see the header',
      { examples: ['x-token-cost'] },
    ),
    body_limit: scalar('size', 'Largest request body. A larger one gets 413', { default: '1GiB' }),
    access_log: boolean('Write requests of this route to the access log', { default: true }),
    allow_encoded: boolean(
      'Allow %2F, %5C, ; and doubly encoded characters in paths. Otherwise they get 400',
      {
        default: false,
      },
    ),
    preserve_host: boolean("Send the client's Host to the upstream instead of the upstream's own", {
      default: false,
    }),
    timeouts: object(
      {
        total: timer('Timeout of the whole exchange; 0: none', '5m', 0),
        request: timer('Timeout until the whole request body has arrived; 0: none', '60s', 0),
        connect: duration('Timeout of a connection to an upstream', [10, 60_000], { default: '2s' }),
        headers: timer('Timeout of the response headers, from the end of the request', '30s'),
        idle: timer('Timeout without a byte in either direction during a body', '30s'),
      },
      'Timeouts towards the upstream',
      { default: {} },
    ),
    websocket: switchable(
      'Forward WebSocket upgrades',
      WebSocketSettings,
      'true, false, or a mapping with timeouts',
      { default: false },
    ),
  },
  'Host, path and methods that lead to a service',
)

import { type Static, Type } from '@sinclair/typebox'
import { ALGORITHM_TRAITS, type Algorithm } from './algorithms.js'
import { Auth } from './auth.js'
import { boolean, choice, either, integer, list, named, object, scalar, string } from './define.js'
import { identity } from './identity.js'
import { CircuitBreaker, Concurrency, Retries } from './resilience.js'
import { compress, cors, headers, maintenance, mirror, respond, split, sticky } from './shaping.js'
import { timer } from './timer.js'
import { transport } from './upstream-tls.js'
import { upstreamKeys } from './upstreams.js'

/** Schema of limits, services and routes. */

const DAY = 86_400_000
/** Largest amount: the packed counters of the store have 25 bits (`lua/take.lua`). */
const MAX_AMOUNT = 2 ** 25 - 1
const MAX_LIMITS = 8
const MAX_WINDOW = 366 * DAY

export { timer }

/** Description of on_failure, for the store and for a service. */
export const ON_FAILURE =
  'open: let requests pass uncounted; local: count in this process, within its share of the limit; closed: answer 503'

/** Shortest lease, in ms. A timer that runs once a second renews it: a shorter one would lapse during its request. */
const LEAST_LEASE = 5_000

const Limit = object(
  {
    name: Type.Optional(
      scalar(
        'name',
        'Shown in the RateLimit fields; by default second, minute, hour, day, month, concurrent, or the window as written, with the level in front when it is not consumer: ip-minute',
      ),
    ),
    amount: integer('How much may be taken in one window; of concurrency, requests at once', {
      minimum: 1,
      maximum: MAX_AMOUNT,
    }),
    window: Type.Optional(
      scalar(
        'duration',
        'Length of the window. Required, but for calendar and concurrency, which have none',
        {
          least: 1,
          most: MAX_WINDOW,
          examples: ['1m', '30s'],
        },
      ),
    ),
    algorithm: choice(
      Object.keys(ALGORITHM_TRAITS) as Algorithm[],
      Object.entries(ALGORITHM_TRAITS)
        .map(([name, { text }]) => `${name}: ${text}`)
        .join('; '),
      { default: 'sliding' },
    ),
    burst: Type.Optional(
      integer('token_bucket: how much may be taken at once; by default the amount', {
        minimum: 1,
        maximum: MAX_AMOUNT,
      }),
    ),
    period: Type.Optional(choice(['day', 'month'], 'calendar: how long the amount is for. Required there')),
    time_zone: Type.Optional(
      scalar('zone', 'calendar: whose midnight it is; by default UTC', { examples: ['Europe/Berlin'] }),
    ),
    lease: Type.Optional(
      scalar(
        'duration',
        'concurrency: how long a slot is held that nobody gives back, because its gateway died; by default 1m. It is renewed for as long as the request or tunnel lasts',
        { least: LEAST_LEASE, most: DAY },
      ),
    ),
    by: choice(
      ['ip', 'consumer', 'tenant', 'route', 'service'],
      "Whose quota it is: the caller's address (IPv6 by its /64), the consumer, its tenant (a consumer without one is a tenant of its own), the route (its host and path, whatever the method) or the whole service. Tiers whose limits by one level have the same algorithms and windows share that level's counts, each with its own amounts: with a limit by service of 800/min for free and 1000/min for pro, free is turned away first",
      { default: 'consumer' },
    ),
    share: Type.Optional(
      scalar(
        'share',
        "How much of the limit one consumer may take, above 0 and below 1, so that none of those who share it starves the rest. It counts as a limit of its own, named after this one (tenant-minute-share); a consumer without a tenant has none to share a tenant's limit with",
        { examples: [0.3] },
      ),
    ),
    candidate: boolean(
      'Whether the limit is only tried out: counted beside the others on the same traffic, seen in metrics, deciding nothing',
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
    list(limit, 'Limits that must all hold: a request takes from every one or from none', {
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
    on_failure: Type.Optional(
      choice(
        ['open', 'local', 'closed'],
        `While the store is out of reach. ${ON_FAILURE}. By default store.on_failure`,
      ),
    ),
    limits: Type.Optional(
      named(limits, 'For every tier its limits. Left out: the service is not limited', {
        examples: [{ free: '10/min', pro: ['5/s', '100/min'], enterprise: 'unlimited' }],
      }),
    ),
    show_decided_by: boolean(
      'Whether responses say in X-Tidegate-Decided-By that they were decided without the store: open or local',
      { default: false },
    ),
    ...transport,
    maintenance: Type.Optional(maintenance),
    identity: Type.Optional(identity),
    retries: Retries,
    circuit_breaker: Type.Optional(CircuitBreaker),
    concurrency: Type.Optional(Concurrency),
  },
  'A backend, and how much of it each tier may use',
)

const cost = (description: string, marks: { default?: number }) =>
  integer(description, { ...marks, minimum: 1, maximum: MAX_AMOUNT })

const Cost = object(
  {
    header: scalar('field', 'The header of the request that says what it costs: a whole number from 1', {
      examples: ['x-request-cost'],
    }),
    max: cost('What a larger number counts as', { default: 100 }),
    default: cost(
      'The cost without the header, with one that is no such number, and of all other consumers',
      {
        default: 1,
      },
    ),
    consumers: list(
      string('Id of a consumer', { maxLength: 256 }),
      'Who is trusted to say what a request costs',
      { minItems: 1, maxItems: 10_000, examples: [['acme']] },
    ),
  },
  'What one request takes, as a header of the request says. It is forwarded as it is',
)
export type CostSettings = Static<typeof Cost>

const WebSocketSettings = object(
  {
    enabled: boolean('Whether WebSocket upgrades are passed on', { default: true }),
    handshake: timer('Longest wait for the upstream to answer the handshake', '10s'),
    idle: timer('Longest time without a byte in either direction', '5m'),
  },
  'WebSocket with its time limits',
)

export const Route = object(
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
    service: Type.Optional(scalar('name', 'The service that requests go to')),
    split: Type.Optional(split),
    sticky: Type.Optional(sticky),
    respond: Type.Optional(respond),
    strip_prefix: Type.Optional(
      scalar('prefix', 'Removed from the front of the path before it is forwarded', {
        examples: ['/payments'],
      }),
    ),
    rewrite_location: boolean(
      "Whether Location, Content-Location and the paths of cookies that the upstream names are mapped back to the gateway's: behind strip_prefix: /shop its /login becomes /shop/login. Of a route with rewrite they never are",
      { default: true },
    ),
    rewrite: Type.Optional(
      scalar(
        'path',
        "The path for the upstream, instead of strip_prefix: literal segments, with the route's own :name and * put in",
        { examples: ['/v2/*', '/people/:id'] },
      ),
    ),
    auth: Type.Optional(Auth),
    headers: Type.Optional(headers),
    cors: Type.Optional(cors),
    compress: Type.Optional(compress),
    mirror: Type.Optional(mirror),
    cost: either<number | CostSettings>(
      [cost('How much one request takes from each limit', {}), Cost],
      'A whole number, or in full, as a header of the request says: how much one request takes from each limit but those of concurrency',
      { default: 1 },
    ),
    refund_on: Type.Optional(
      list(
        scalar('outcome', 'A class such as 5xx, one status, or upstream_cut'),
        "Statuses of the response on which a request gets back what it took, whether they are the upstream's or the gateway's own: 502, 504, or 499 for a caller that left without one; and `upstream_cut` for a response that broke off in its body",
        {
          minItems: 1,
          maxItems: 100,
          examples: [
            ['5xx', 'upstream_cut'],
            ['502', '504'],
          ],
        },
      ),
    ),
    cost_header: Type.Optional(
      scalar(
        'field',
        'A header of the response in which the upstream says what the request has cost in all: a whole number from 0. The difference to what was taken is taken or given back then; what goes below zero is waited for by the next requests. The caller does not see it',
        { examples: ['x-token-cost'] },
      ),
    ),
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
        request: timer('Longest time until the whole body of the request has come; 0: none', '60s', 0),
        connect: scalar('duration', 'Longest wait for a connection to an upstream', {
          default: '2s',
          least: 10,
          most: 60_000,
        }),
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

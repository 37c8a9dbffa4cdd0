import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, either, integer, list, named, object, scalar } from './define.js'

/** The part of the schema about limits, services and routes. */

const DAY = 86_400_000
/** Longest time that a timer of Node can wait, in whole days. */
const LONGEST_TIMER = 24 * DAY
/** The packed counters of the store have 25 bits (`lua/take.lua`). */
const MAX_AMOUNT = 2 ** 25 - 1
const MAX_LIMITS = 8
const MAX_WINDOW = 366 * DAY

export const timer = (description: string, fallback: string, least = 1) =>
  scalar('duration', description, { default: fallback, least, most: LONGEST_TIMER })

/** Of on_failure, for the store and for a service. */
export const ON_FAILURE =
  'open: let requests pass uncounted; local: count in this process alone; closed: answer 503'

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

export const Service = object(
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
        `While the store is out of reach. ${ON_FAILURE}. By default store.on_failure`,
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

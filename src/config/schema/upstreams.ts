import { type Static, Type } from '@sinclair/typebox'
import { choice, either, integer, list, object, scalar } from './define.js'
import { timer } from './timer.js'

/** Schema of a service's upstreams: how requests are balanced, and when an upstream is left out. */

const WeightedUpstream = object(
  {
    url: scalar('upstream', 'Its address, with or without a base path', {
      examples: ['http://127.0.0.1:9001'],
    }),
    weight: integer('Its share of the requests, next to the weights of the others', {
      default: 1,
      minimum: 1,
      maximum: 1000,
    }),
  },
  'An upstream with its weight',
)
export type UpstreamEntry = string | Static<typeof WeightedUpstream>

const HashByHeader = object(
  { header: scalar('field', 'The header of the request', { examples: ['x-session'] }) },
  'By a header of the request; requests without it take turns',
)
const Hash = object(
  {
    hash: either<'consumer' | Static<typeof HashByHeader>>(
      [choice(['consumer'], 'By who is calling'), HashByHeader],
      'What decides: consumer, or { header: NAME }',
    ),
  },
  'The same upstream for the same consumer or header, for as long as it is there',
)

const Health = object(
  {
    path: scalar('probe', 'What is asked for with GET; a base path of the upstream is not put in front', {
      examples: ['/healthz'],
    }),
    interval: timer('Time from one check to the next, give or take a tenth; they never overlap', '5s', 100),
    timeout: timer('Longest wait for the whole answer, the connection included', '2s', 10),
    healthy_after: integer('Checks in a row that have to pass before it is given requests again', {
      default: 2,
      minimum: 1,
      maximum: 100,
    }),
    unhealthy_after: integer('Checks in a row that have to fail before it is left out', {
      default: 3,
      minimum: 1,
      maximum: 100,
    }),
    statuses: list(scalar('status', 'A class such as 2xx, or one status'), 'Statuses that pass', {
      default: ['2xx'],
      minItems: 1,
      maxItems: 100,
    }),
  },
  'Checks that the gateway makes by itself',
)

const percent = (description: string, fallback: number) =>
  integer(description, { default: fallback, minimum: 1, maximum: 100 })

const Outliers = object(
  {
    consecutive_failures: integer('Failures in a row after which an upstream is ejected', {
      default: 5,
      minimum: 1,
      maximum: 10_000,
    }),
    failure_ratio: percent('Percentage of failures within an interval from which it is ejected', 50),
    min_requests: integer('Requests within an interval below which the ratio says nothing', {
      default: 20,
      minimum: 1,
      maximum: 1_000_000,
    }),
    interval: timer('How long failures are added up for the ratio', '10s', 100),
    ejection: timer(
      'How long it is out the first time; twice as long the second time, up to ten times. Forgotten step by step while it is back',
      '30s',
      100,
    ),
    max_ejected: percent(
      'Percentage of the upstreams of a service that may be out at most; one of two or more always may',
      50,
    ),
    enabled: Type.Boolean({ default: true, description: 'Whether upstreams are ejected at all' }),
  },
  'Ejection of upstreams that fail: no connection, a connection that breaks, no answer in time, an answer that is no HTTP, 502, 503 or 504',
)
export type OutlierSettings = Static<typeof Outliers>

/** Keys of a service. */
export const upstreamKeys = {
  upstreams: list(
    either<UpstreamEntry>(
      [
        scalar('upstream', 'Address of an upstream, with or without a base path', {
          examples: ['http://127.0.0.1:9001'],
        }),
        WeightedUpstream,
      ],
      'An address, or { url: ADDRESS, weight: N }',
      { examples: ['http://127.0.0.1:9001'] },
    ),
    'The addresses of the service',
    { minItems: 1, maxItems: 1000 },
  ),
  balance: either<'round_robin' | 'least_requests' | Static<typeof Hash>>(
    [
      choice(
        ['round_robin', 'least_requests'],
        'round_robin: in turn, by weight; least_requests: of two by chance, the one with fewer requests under way for its weight',
      ),
      Hash,
    ],
    'Which upstream a request goes to. round_robin: in turn; least_requests: of two by chance, the one with fewer requests under way; { hash: consumer } or { hash: { header: NAME } }: the same one for the same key. All by weight',
    { default: 'round_robin' },
  ),
  slow_start: timer(
    'How long an upstream that was added or has come back takes to get its whole share; 0: at once',
    '0',
    0,
  ),
  max_connections: integer(
    'Connections to each upstream. One carries one request at a time, or a hundred over HTTP/2',
    {
      default: 128,
      minimum: 1,
      maximum: 65_536,
    },
  ),
  max_tunnels: integer(
    'WebSockets at once, to all upstreams together. They are none of max_connections; one more gets 503',
    { default: 1024, minimum: 1, maximum: 1_000_000 },
  ),
  max_tunnels_per_client: Type.Optional(
    integer(
      'WebSockets of one consumer at once, of one address (IPv6: its /64) where callers are known by that; one more gets 429. 0: any number. trusted_proxies may have more. By default a quarter of max_tunnels',
      { minimum: 0, maximum: 1_000_000 },
    ),
  ),
  max_waiting: integer(
    'Requests that wait while every upstream has all its connections in use; more get 503 at once',
    { default: 1000, minimum: 0, maximum: 100_000 },
  ),
  max_wait: scalar('duration', 'Longest such wait, then 503', { default: '1s', least: 1, most: 60_000 }),
  health: Type.Optional(Health),
  outliers: either<OutlierSettings>(
    [scalar('switch', 'Whether upstreams that fail are ejected', { shorthand: true }), Outliers],
    'true, false, or a mapping of settings: whether and when an upstream that fails is left out for a while',
    { default: true },
  ),
}

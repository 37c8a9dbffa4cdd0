import type { Static } from '@sinclair/typebox'
import {
  boolean,
  choice,
  duration,
  either,
  integer,
  list,
  object,
  scalar,
  switchable,
  timer,
} from './define.js'

/** Schema of a service's upstreams: how requests are balanced, and when an upstream is left out. */

const WeightedUpstream = object(
  {
    url: scalar('upstream', 'Its address, with or without a base path', {
      examples: ['http://127.0.0.1:9001'],
    }),
    weight: integer('Its share of the requests, relative to the other weights', [1, 1000], { default: 1 }),
  },
  'An upstream with its weight',
)
export type UpstreamEntry = string | Static<typeof WeightedUpstream>

const HashByHeader = object(
  { header: scalar('field', 'Name of the request header', { examples: ['x-session'] }) },
  'By a request header. Requests without it take turns',
)
const Hash = object(
  {
    hash: either<'consumer' | Static<typeof HashByHeader>>(
      [choice(['consumer'], 'By consumer'), HashByHeader],
      'Key of the hash: consumer, or { header: NAME }',
    ),
  },
  'The same upstream for the same consumer or header, as long as it is available',
)

const Health = object(
  {
    path: scalar('probe', 'Path for GET. The base path of the upstream is not put in front', {
      examples: ['/healthz'],
    }),
    interval: timer('Time between two checks, plus or minus a tenth. Checks never overlap', '5s', 100),
    timeout: timer('Timeout of the whole check, including the connection', '2s', 10),
    healthy_after: integer('Successful checks in a row after which it gets requests again', [1, 100], {
      default: 2,
    }),
    unhealthy_after: integer('Failed checks in a row after which it gets none', [1, 100], { default: 3 }),
    statuses: list(scalar('status', 'A class such as 2xx, or one status'), 'Statuses that count as success', {
      default: ['2xx'],
      minItems: 1,
      maxItems: 100,
    }),
  },
  'Health checks: requests that the gateway makes by itself',
)

const percent = (description: string, fallback: number) =>
  integer(description, [1, 100], { default: fallback })

const Outliers = object(
  {
    consecutive_failures: integer('Failures in a row after which an upstream is ejected', [1, 10_000], {
      default: 5,
    }),
    failure_ratio: percent('Percentage of failures within an interval at which it is ejected', 50),
    min_requests: integer('Fewest requests within an interval for the ratio to count', [1, 1_000_000], {
      default: 20,
    }),
    interval: timer('Period over which the ratio is measured', '10s', 100),
    ejection: timer(
      'Length of the first ejection. It doubles each time, up to ten times, and shrinks step by step while the upstream is back',
      '30s',
      100,
    ),
    max_ejected: percent(
      'Percentage of the upstreams of a service that may be ejected at once. One of two or more always may',
      50,
    ),
    enabled: boolean('Eject upstreams that fail', { default: true }),
  },
  'Ejection of upstreams that fail: no connection, a broken connection, a timeout, a response that is not HTTP, 502, 503 or 504',
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
        'round_robin: in turn, by weight; least_requests: of two chosen at random, the one with fewer requests in progress for its weight',
      ),
      Hash,
    ],
    'Balancing, always by weight. round_robin: in turn; least_requests: of two chosen at random, the one with fewer requests in progress; { hash: consumer } or { hash: { header: NAME } }: the same upstream for the same key',
    { default: 'round_robin' },
  ),
  slow_start: timer(
    'How long a new or returning upstream takes to reach its full share; 0: it gets it at once',
    '0',
    0,
  ),
  max_connections: integer(
    'Connections to each upstream. Each carries one request at a time, or a hundred over HTTP/2',
    [1, 65_536],
    { default: 128 },
  ),
  max_tunnels: integer(
    'Concurrent WebSockets to all upstreams together, beside max_connections. One more gets 503',
    [1, 1_000_000],
    { default: 1024 },
  ),
  'max_tunnels_per_client?': integer(
    'Concurrent WebSockets of one consumer, or of one address (IPv6: its /64) where clients are known by address. One more gets 429. 0: no limit. trusted_proxies may have more. Default: a quarter of max_tunnels',
    [0, 1_000_000],
  ),
  max_waiting: integer(
    'Requests that may wait while all connections of every upstream are in use. Further ones get 503 at once',
    [0, 100_000],
    { default: 1000 },
  ),
  max_wait: duration('Timeout of that wait, then 503', [1, 60_000], { default: '1s' }),
  'health?': Health,
  outliers: switchable(
    'Eject upstreams that fail',
    Outliers,
    'true, false, or a mapping of settings: eject upstreams that fail for a while',
    { default: true },
  ),
}

import type { Static } from '@sinclair/typebox'
import {
  boolean,
  duration,
  either,
  integer,
  list,
  object,
  ownHeaders,
  scalar,
  string,
  timer,
} from './define.js'

/** Schema of external sources that know a consumer's tier. */

const DAY = 86_400_000

const nameOf = (kind: string) =>
  scalar('name', `Name in metrics and in tidegate why. Default: ${kind}`, { examples: ['billing'] })

const timeout = timer(
  'Timeout of one lookup, including the connection. The first request of a consumer waits that long, and as long at most for its turn',
  '500ms',
  10,
)

const memory = {
  wait: boolean('true: the first request of a consumer waits for the answer. false: it goes on without one', {
    default: true,
  }),
  ttl: duration(
    'How long an answer is fresh. After that, a request refreshes it in the background',
    [1000, 30 * DAY],
    { default: '5m' },
  ),
  stale: duration(
    'How long after ttl the last answer still counts, while the gateway fetches a new one or the source is down',
    [0, 30 * DAY],
    { default: '1h' },
  ),
  negative_ttl: duration(
    'How long the gateway remembers that the source does not know a consumer',
    [1000, 30 * DAY],
    { default: '30s' },
  ),
  max_consumers: integer(
    'Answers that each process remembers. Beyond that, those not used lately are dropped',
    [100, 10_000_000],
    { default: 100_000 },
  ),
}

const Postgres = object(
  {
    'name?': nameOf('postgres'),
    url: scalar('postgres', 'Address of the database', {
      secret: true,
      examples: ['postgres://tidegate:PASSWORD@db.internal:5432/billing'],
    }),
    query: string(
      'One SELECT with $1 for the id of the consumer. Its first row has the column tier and, if there are tenants, tenant',
      { maxLength: 4096, examples: ['SELECT tier, tenant FROM plans WHERE consumer = $1'] },
    ),
    'listen?': scalar(
      'channel',
      'NOTIFY channel. Each message is the id of a consumer whose tier has changed; an empty one stands for all',
      { examples: ['plans_changed'] },
    ),
    timeout,
    pool: integer('Connections of each process, besides one for listen', [1, 100], { default: 4 }),
    ...memory,
  },
  'A table in PostgreSQL',
)

const Http = object(
  {
    'name?': nameOf('http'),
    url: scalar('plan_url', 'Address for GET, with {consumer} in place of the id', {
      secret: true,
      examples: ['http://billing.internal/plans/{consumer}'],
    }),
    'headers?': ownHeaders('Headers of the request', { maxLength: 4096 }),
    tier: scalar('member', 'Path of the tier in the JSON response', {
      default: 'tier',
      examples: ['subscription.plan'],
    }),
    'tenant?': scalar('member', 'Path of the tenant in it, if there are tenants', { examples: ['org.id'] }),
    timeout,
    pool: integer('Connections of each process', [1, 256], { default: 16 }),
    ...memory,
  },
  'An HTTP endpoint that answers with JSON',
)

export type PostgresSource = Static<typeof Postgres>
export type HttpSource = Static<typeof Http>

export const TierSources = list(
  either<{ readonly postgres: PostgresSource } | { readonly http: HttpSource }>(
    [
      object({ postgres: Postgres }, 'Tiers from a table in PostgreSQL'),
      object({ http: Http }, 'Tiers from an HTTP endpoint'),
    ],
    'One source: postgres or http',
  ),
  'Sources of the tier of a consumer that has none by assignment or credential. They are asked in this order, before default_tier counts. Consumers known by address are not looked up',
  { default: [], maxItems: 8 },
)

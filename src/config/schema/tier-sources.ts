import { type Static, Type } from '@sinclair/typebox'
import { boolean, either, integer, list, named, object, scalar, string } from './define.js'
import { timer } from './timer.js'

/** Schema of external sources that know a consumer's tier. */

const DAY = 86_400_000

const nameOf = (kind: string) =>
  Type.Optional(
    scalar('name', `What it is called in metrics and by tidegate why; by default ${kind}`, {
      examples: ['billing'],
    }),
  )

const timeout = timer(
  'Longest time that one question takes, the connection included. The first request of a consumer waits for it, and as long at most for its turn',
  '500ms',
  10,
)

const memory = {
  wait: boolean(
    'Whether the first request of a consumer waits for the answer; false: it goes on at once as if there were none',
    { default: true },
  ),
  ttl: scalar('duration', 'How long an answer holds; then it is asked for anew, behind a request', {
    default: '5m',
    least: 1000,
    most: 30 * DAY,
  }),
  stale: scalar(
    'duration',
    'How long beyond ttl the last answer holds, while a new one is asked for or the source is down',
    { default: '1h', least: 0, most: 30 * DAY },
  ),
  negative_ttl: scalar('duration', 'How long it holds that the source does not know a consumer', {
    default: '30s',
    least: 1000,
    most: 30 * DAY,
  }),
  max_consumers: integer(
    'How many answers each process remembers; of more, those that were not of use lately go',
    {
      default: 100_000,
      minimum: 100,
      maximum: 10_000_000,
    },
  ),
}

const Postgres = object(
  {
    name: nameOf('postgres'),
    url: scalar('postgres', 'Address of the database', {
      secret: true,
      examples: ['postgres://tidegate:PASSWORD@db.internal:5432/billing'],
    }),
    query: string(
      'One SELECT with $1 for the id of the consumer, whose first row has the columns tier and, if there are tenants, tenant',
      { maxLength: 4096, examples: ['SELECT tier, tenant FROM plans WHERE consumer = $1'] },
    ),
    listen: Type.Optional(
      scalar(
        'channel',
        'Channel of NOTIFY whose messages say the id of a consumer that has changed; an empty message: all have',
        { examples: ['plans_changed'] },
      ),
    ),
    timeout,
    pool: integer('Connections that each process has at most, and one more for listen', {
      default: 4,
      minimum: 1,
      maximum: 100,
    }),
    ...memory,
  },
  'A table in PostgreSQL',
)

const Http = object(
  {
    name: nameOf('http'),
    url: scalar('plan_url', 'What is asked for with GET, with {consumer} in the place of the id', {
      secret: true,
      examples: ['http://billing.internal/plans/{consumer}'],
    }),
    headers: Type.Optional(
      named(string('Value of the header', { secret: true, maxLength: 4096 }), 'Headers sent along', {
        keys: '^[A-Za-z0-9-]{1,64}$',
        keyFix: 'a header name here has letters, digits and "-"',
      }),
    ),
    tier: scalar('member', 'Where the tier stands in the JSON of the answer', {
      default: 'tier',
      examples: ['subscription.plan'],
    }),
    tenant: Type.Optional(
      scalar('member', 'Where the tenant stands in it, if there are tenants', { examples: ['org.id'] }),
    ),
    timeout,
    pool: integer('Connections that each process has at most', { default: 16, minimum: 1, maximum: 256 }),
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
  'Who is asked for the tier of a consumer that has none by assignment or credential, in this order, before default_tier. Not for consumers known by their address',
  { default: [], maxItems: 8 },
)

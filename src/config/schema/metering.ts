import {
  boolean,
  choice,
  either,
  filePath,
  integer,
  list,
  object,
  ownHeaders,
  scalar,
  size,
  timer,
} from './define.js'

/** Schema of the metering: what each consumer uses, for billing. */

const GIB = 1024 ** 3
const COUNTS = ['requests', 'cost', 'denied', 'request_bytes', 'response_bytes'] as const
const GROUPS = ['consumer', 'tenant', 'service', 'tier', 'route'] as const

const Filtered = object(
  {
    requests: object(
      {
        status: scalar('status_class', 'A status such as 200, or a class such as 2xx', { examples: ['2xx'] }),
      },
      'Requests whose response has this status. The events name them requests_2xx',
    ),
  },
  'A part of the requests',
)

const Spool = object(
  {
    path: filePath('Folder for counts that are not sent yet. Each process makes a folder of its own in it', {
      examples: ['/var/lib/tidegate/usage'],
    }),
    size: size('Space that each process may use there', [1024 * 1024, 1024 * GIB], { default: '1GiB' }),
  },
  'Where counts wait on disk',
)

const Http = object(
  {
    url: scalar('url', 'Address that gets the events by POST', {
      secret: true,
      examples: ['https://openmeter.internal/api/v1/events'],
    }),
    'headers?': ownHeaders('Headers of the request'),
    timeout: timer('Timeout of one request', '10s', 100),
  },
  'A receiver of CloudEvents in batches (application/cloudevents-batch+json)',
)

const File = object(
  {
    path: filePath('Path of the file. A worker adds its number to the name', {
      examples: ['/var/log/tidegate/usage.jsonl'],
    }),
    size: size('Size from which a new file is begun. Two old ones are kept', [1024 * 1024, 1024 * GIB], {
      default: '100MiB',
    }),
  },
  'A file with one event a line, as JSON',
)

type Item = (typeof COUNTS)[number] | { readonly requests: { readonly status: string } }

export const Metering = object(
  {
    every: timer('Length of an interval. Each group has one event an interval', '1m', 1000),
    spool: Spool,
    to: either<
      | {
          readonly http: {
            readonly url: string
            readonly headers?: Readonly<Record<string, string>>
            readonly timeout: number
          }
        }
      | { readonly file: { readonly path: string; readonly size: number } }
    >(
      [object({ http: Http }, 'Send events by HTTP'), object({ file: File }, 'Write events to a file')],
      'Where events go: http or file',
    ),
    by: list(choice(GROUPS, 'A property'), 'What requests are grouped by', {
      minItems: 1,
      maxItems: GROUPS.length,
      uniqueItems: true,
      default: ['consumer', 'tenant', 'service', 'tier'],
    }),
    count: list(
      either<Item>([choice(COUNTS, 'A count'), Filtered], 'A count, or requests with some statuses only'),
      'What the events show. Requests are those sent to an upstream, denied are those that a limit denied',
      { minItems: 1, maxItems: 16, default: [...COUNTS] },
    ),
    addresses: boolean(
      'true: count each caller that only its address identifies by itself. false: all of them are one group',
      {
        default: false,
      },
    ),
    max_groups: integer('Groups of one interval. All beyond them are one group', [100, 10_000_000], {
      default: 200_000,
    }),
    source: scalar('name', 'source of the events, which tells several sites apart', {
      default: 'tidegate',
    }),
  },
  'Count what each consumer uses, for billing',
  { restart: true },
)

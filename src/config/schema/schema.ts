import { type Static, Type } from '@sinclair/typebox'
import { Admin } from './admin.js'
import { Consumers } from './credentials.js'
import { Decisions } from './decisions.js'
import {
  boolean,
  choice,
  duration,
  either,
  filePath,
  integer,
  list,
  named,
  object,
  oneOrMore,
  ownHeaders,
  scalar,
  size,
  string,
  timer,
} from './define.js'
import { Edge, TrustedHeaders, TrustedProxies } from './edge.js'
import { Extensions } from './extensions.js'
import { http2Keys } from './http2.js'
import { Listen, listenerKeys } from './listener.js'
import { Metering } from './metering.js'
import { protection } from './protection.js'
import { Shed, Tier } from './resilience.js'
import { ON_FAILURE, Route, Service } from './services.js'
import { TierSources } from './tier-sources.js'
import { Traces } from './traces.js'

/**
 * Schema of the configuration file. It is the single source of the types, the defaults, `config/schema.json` and
 * `docs/config.md`. `checks.ts` has the rules that it cannot express, such as that a route's service exists.
 */

const Store = object(
  {
    'redis?': either<string | string[]>(
      [
        scalar('redis', 'redis:// or rediss:// address, redis+sentinel:// for a primary by its name', {
          secret: true,
        }),
        list(
          scalar('redis_node', 'redis:// or rediss:// address of a node', { secret: true }),
          'Nodes of a Redis Cluster',
          { minItems: 1 },
        ),
      ],
      'One Redis server, Sentinels and the name of a primary, or a list of nodes of a Redis Cluster. Default: this process keeps the counts',
      {
        secret: true,
        restart: true,
        examples: ['redis://127.0.0.1:6379', 'redis+sentinel://10.0.0.1,10.0.0.2:26379/primary'],
      },
    ),
    'tls?': object(
      {
        'ca?': filePath('File with the trusted CA certificates (PEM). Default: those of Node.js'),
        'cert?': filePath("File with the gateway's certificate (PEM), if the server requires one"),
        'key?': filePath('File with the private key (PEM) of that certificate'),
        'server_name?': scalar(
          'host',
          "Name in the server's certificate, if it is not the host of the address",
        ),
      },
      'TLS to addresses that begin with rediss',
      { restart: true },
    ),
    'sentinel?': object(
      {
        'username?': string('User at the Sentinels', { maxLength: 256 }),
        password: string('Password at the Sentinels', { secret: true, maxLength: 4096 }),
      },
      'Credentials for Sentinels that require a password. The one in the address is for the Redis servers',
      { restart: true },
    ),
    timeout: duration('Timeout of the store. After that, the gateway decides without it', [1, 60_000], {
      default: '100ms',
      restart: true,
    }),
    on_failure: choice(['open', 'local', 'closed'], `While the store is unavailable. ${ON_FAILURE}`, {
      default: 'open',
    }),
    max_keys: integer(
      'Counters kept in memory, without Redis or while it is unavailable. There are fewer if half of the heap has no room for them at 640 bytes each',
      [1, 100_000_000],
      { default: 1_000_000, restart: true },
    ),
    batch: integer('Decisions of one moment that share a call to Redis. 1: each has its own', [1, 64], {
      default: 64,
      restart: true,
    }),
    merge: boolean('Send equal requests of one moment to Redis as one', { default: true, restart: true }),
    gather: either<number | 'auto'>(
      [Type.Literal('auto', { description: 'As long as it pays' }), duration('A fixed time', [0, 5])],
      'How long a decision waits for others that share its call to Redis. auto: about 0.5 ms at most, and only where decisions come fast enough to share calls. 0: not at all',
      { default: 'auto', restart: true },
    ),
    denials: integer(
      'Denials to remember at least. They are repeated without asking Redis. 0: none',
      [0, 10_000_000],
      { default: 10_000, restart: true },
    ),
    own_connection: boolean(
      'Send decisions to Redis on a connection of their own, which costs less CPU. false: on the one that carries everything else',
      { default: true, restart: true },
    ),
  },
  'Where counts live',
  { default: {} },
)

const Telemetry = object(
  {
    'otlp?': object(
      {
        url: scalar('url', 'Address for metrics', {
          secret: true,
          examples: ['http://127.0.0.1:4318/v1/metrics'],
        }),
        'interval?': timer('Time between two pushes. Default: 10s', undefined, 1000),
        'headers?': ownHeaders('Headers of each push'),
      },
      'Push metrics by OTLP over HTTP',
      { restart: true },
    ),
    'traces?': Traces,
    'histograms?': choice(
      ['classic', 'exponential'],
      'exponential: record histograms as exponential ones, too, and push those. Default: classic',
      { restart: true },
    ),
    'service_name?': string('service.name of all that is sent. Default: tidegate', {
      maxLength: 255,
      restart: true,
    }),
  },
  'Metrics and traces',
  { default: {} },
)

const Log = object(
  {
    level: choice(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'Lowest level of log lines that are written',
      { default: 'info', restart: true },
    ),
    access: filePath('Destination of the access log: stdout, off, or the path of a file', {
      file: ['stdout', 'off'],
      default: 'stdout',
      restart: true,
    }),
    sample: scalar('share', 'Share of the requests below 400 that the access log shows, from 0 to 1', {
      default: 1,
      examples: [0.05],
      restart: true,
    }),
    max_errors: integer(
      'Lines per second in the access log for requests with 400 or above. Further ones are only counted. 0: no limit',
      [0, 1_000_000],
      { default: 1000, restart: true },
    ),
  },
  'Logs',
  { default: {} },
)

const Server = object(
  {
    header_timeout: timer('Timeout until all headers of a request have arrived', '10s', 100),
    keep_alive: timer(
      'How long an idle connection stays open. Set it longer than at the load balancer in front',
      '72s',
    ),
    ...listenerKeys,
    ...http2Keys,
    shutdown_delay: timer(
      'How long the gateway still accepts requests after SIGTERM, while /readyz says 503',
      '5s',
      0,
    ),
    shutdown_grace: timer('How long requests in progress may take to finish after that', '30s', 0),
    max_headers: integer('Headers of a request', [8, 1000], { default: 100 }),
    max_header_size: size('Size of all headers of a request, including its first line', [1024, 1024 * 1024], {
      default: '16KiB',
    }),
    ...protection,
    shed: Shed,
  },
  'The gateway as a server',
  { default: {}, restart: true },
)

export const ConfigSchema = object(
  {
    listen: Listen,
    admin: Admin,
    store: Store,
    tiers: list(
      either<Static<typeof Tier>>(
        [scalar('tier', 'Name of a tier', { shorthand: true }), Tier],
        'A tier: its name, or a mapping with its priority',
      ),
      'Plans of consumers. Under overload, the gateway serves those further down the list first',
      { minItems: 1, maxItems: 64, examples: [['free', 'pro', 'enterprise']] },
    ),
    'default_tier?': scalar('name', 'Tier of consumers without any other. Default: the first'),
    consumers: Consumers,
    tier_sources: TierSources,
    trusted_proxies: TrustedProxies,
    trusted_headers: TrustedHeaders,
    edge: Edge,
    'extensions?': Extensions,
    'include?': oneOrMore(
      filePath('Path of a file, relative to this one. A "*" in its name stands for any characters'),
      64,
      'Further files with services, routes, tier_sources and extensions, which count as if they stood here. Paths in such a file are relative to it',
      { examples: ['services/*.yaml'] },
    ),
    services: named(Service, 'The backends, by name'),
    routes: list(
      Route,
      'Which requests go to which service. The most specific route wins, whatever the order',
      { minItems: 1 },
    ),
    telemetry: Telemetry,
    decisions: Decisions,
    'metering?': Metering,
    log: Log,
    server: Server,
    'instance?': scalar(
      'instance',
      'Name of this gateway for operators, in tidegate fleet, why and the audit. Default: its host and process id',
      { restart: true, examples: ['gw-1'] },
    ),
    'group?': scalar(
      'name',
      'Group of gateways that this one belongs to. tidegate fleet compares a gateway with its group, so a group may differ from the others on purpose',
      { examples: ['canary'] },
    ),
  },
  'Configuration of Tidegate',
)

export type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

/**
 * Loaded configuration: durations in ms, sizes in bytes, addresses parsed, `limits` and similar keys always lists,
 * defaults filled in, keys hashed.
 */
export type Config = DeepReadonly<Static<typeof ConfigSchema>>

import { type Static, Type } from '@sinclair/typebox'
import { Admin } from './admin.js'
import { Consumers } from './credentials.js'
import { Decisions } from './decisions.js'
import { boolean, choice, either, integer, list, named, object, scalar, string } from './define.js'
import { Edge, TrustedHeaders, TrustedProxies } from './edge.js'
import { http2Keys } from './http2.js'
import { listenerKeys } from './listener.js'
import { protection } from './protection.js'
import { Shed, Tier } from './resilience.js'
import { ON_FAILURE, Route, Service, timer } from './services.js'
import { TierSources } from './tier-sources.js'
import { Traces } from './traces.js'

/**
 * Schema of the configuration file. It is the single source of the types, the defaults, `config/schema.json` and
 * `docs/config.md`. `checks.ts` has the rules that it cannot express, such as that a route's service exists.
 */

export const ConfigSchema = object(
  {
    listen: scalar('listen', 'Where the gateway listens, as host:port; port 0 takes any free one', {
      default: '0.0.0.0:8080',
      restart: true,
    }),
    admin: Admin,
    store: object(
      {
        redis: Type.Optional(
          either<string | string[]>(
            [
              scalar('redis', 'redis:// or rediss:// address, redis+sentinel:// for a primary by its name', {
                secret: true,
              }),
              list(
                scalar('redis_node', 'redis:// or rediss:// address of a node', { secret: true }),
                'Nodes of a Redis Cluster',
                {
                  minItems: 1,
                },
              ),
            ],
            'One Redis server, Sentinels and the name of a primary, or a list of nodes of a Redis Cluster. Left out: counts live in this process',
            {
              secret: true,
              restart: true,
              examples: ['redis://127.0.0.1:6379', 'redis+sentinel://10.0.0.1,10.0.0.2:26379/primary'],
            },
          ),
        ),
        tls: Type.Optional(
          object(
            {
              ca: Type.Optional(
                string(
                  'File with the certificates (PEM) that are trusted; by default those that Node.js trusts',
                  { file: [], maxLength: 4096 },
                ),
              ),
              cert: Type.Optional(
                string('File with the own certificate (PEM), where the server asks for one', {
                  file: [],
                  maxLength: 4096,
                }),
              ),
              key: Type.Optional(
                string('File with the private key (PEM) of that certificate', { file: [], maxLength: 4096 }),
              ),
              server_name: Type.Optional(
                scalar('host', "The name in the server's certificate, if it is not the host of the address"),
              ),
            },
            'TLS to addresses that begin with rediss',
            { restart: true },
          ),
        ),
        sentinel: Type.Optional(
          object(
            {
              username: Type.Optional(string('User at the Sentinels', { maxLength: 256 })),
              password: string('Password at the Sentinels', { secret: true, maxLength: 4096 }),
            },
            'Where Sentinels ask for a password of their own; that in the address is for the Redis servers',
            { restart: true },
          ),
        ),
        timeout: scalar('duration', 'Longest wait for the store; then the decision is made without it', {
          default: '100ms',
          least: 1,
          most: 60_000,
          restart: true,
        }),
        on_failure: choice(['open', 'local', 'closed'], `While the store is out of reach. ${ON_FAILURE}`, {
          default: 'open',
        }),
        max_keys: integer(
          'How many counters are kept in memory at most, without Redis or while it is out of reach; fewer where half of the heap has no room for them at 640 bytes each',
          {
            default: 1_000_000,
            minimum: 1,
            maximum: 100_000_000,
            restart: true,
          },
        ),
        batch: integer(
          'How many decisions of one moment go to Redis in one call at most; 1: each in one of its own',
          { default: 64, minimum: 1, maximum: 64, restart: true },
        ),
        merge: boolean('Whether equal requests of one moment are asked as one', {
          default: true,
          restart: true,
        }),
        gather: scalar(
          'duration',
          'How long a decision waits for others, to go to Redis along with them; 0: it goes at once. Takes load off Redis where each decision comes alone, and delays it by as much',
          { default: '0', least: 0, most: 5, restart: true },
        ),
        denials: integer(
          'How many denials are remembered at least, so that they need not be asked again; 0: none',
          { default: 10_000, minimum: 0, maximum: 10_000_000, restart: true },
        ),
      },
      'Where counts live',
      { default: {} },
    ),
    tiers: list(
      either<Static<typeof Tier>>(
        [scalar('tier', 'Name of a tier', { shorthand: true }), Tier],
        'A tier: its name, or in full with its priority',
      ),
      'The plans that consumers are on. When there is not room for all, those further down the list are served first',
      { minItems: 1, maxItems: 64, examples: [['free', 'pro', 'enterprise']] },
    ),
    default_tier: Type.Optional(
      scalar('name', 'The tier of consumers that nothing else is known of; by default the first'),
    ),
    consumers: Consumers,
    tier_sources: TierSources,
    trusted_proxies: TrustedProxies,
    trusted_headers: TrustedHeaders,
    edge: Edge,
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
              interval: Type.Optional(timer('Time between two pushes; by default 10s', undefined, 1000)),
              headers: Type.Optional(
                named(string('Value of the header', { secret: true }), 'Headers sent along', {
                  keys: '^[A-Za-z0-9-]{1,64}$',
                  keyFix: 'a header name here has letters, digits and "-"',
                }),
              ),
            },
            'Push metrics by OTLP over HTTP',
            { restart: true },
          ),
        ),
        traces: Type.Optional(Traces),
        histograms: Type.Optional(
          choice(
            ['classic', 'exponential'],
            'exponential: histograms are recorded as exponential ones, too, and pushed as such; by default classic',
            { restart: true },
          ),
        ),
        service_name: Type.Optional(
          string('service.name in what is sent; by default tidegate', { maxLength: 255, restart: true }),
        ),
      },
      'Metrics and traces',
      { default: {} },
    ),
    decisions: Decisions,
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
          file: ['stdout', 'off'],
          default: 'stdout',
          maxLength: 4096,
          restart: true,
        }),
        sample: scalar('share', 'Share of the requests below 400 that have an access line, from 0 to 1', {
          default: 1,
          examples: [0.05],
          restart: true,
        }),
        max_errors: integer(
          'Most access lines a second of requests with 400 or above; the rest are counted. 0: any number',
          { default: 1000, minimum: 0, maximum: 1_000_000, restart: true },
        ),
      },
      'Logs',
      { default: {} },
    ),
    server: object(
      {
        header_timeout: timer("Longest time until a request's header has arrived", '10s', 100),
        keep_alive: timer(
          'How long an idle connection is kept; longer than the load balancer in front does',
          '72s',
        ),
        ...listenerKeys,
        ...http2Keys,
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
        ...protection,
        shed: Shed,
      },
      'The gateway as a server',
      { default: {}, restart: true },
    ),
  },
  'Configuration of Tidegate',
)

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

/**
 * Loaded configuration: durations in ms, sizes in bytes, addresses parsed, `limits` and similar keys always lists,
 * defaults filled in, keys hashed.
 */
export type Config = DeepReadonly<Static<typeof ConfigSchema>>

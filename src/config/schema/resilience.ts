import { integer, object, scalar } from './define.js'

/** Schema of what happens when an upstream, or the gateway itself, is overloaded. */

const percent = (description: string, fallback: number, least = 1) =>
  integer(description, { default: fallback, minimum: least, maximum: 100 })

const duration = (description: string, fallback: string, least: number, most: number) =>
  scalar('duration', description, { default: fallback, least, most })

const HOUR = 3_600_000

export const Tier = object(
  {
    name: scalar('name', 'Name of the tier'),
    'priority?': integer(
      'Priority under overload: the gateway serves larger numbers first. Default: the position in the list, from 0',
      { minimum: 0, maximum: 1000 },
    ),
  },
  'A tier with its priority',
)

export const Retries = object(
  {
    budget: integer(
      'Share of the traffic of the last 10 s that may be retried, in percent. 3 retries a second are always allowed. 0: none',
      { default: 10, minimum: 0, maximum: 100 },
    ),
    attempts: integer(
      'Retries of a request that an upstream may have seen. Only idempotent requests that can be repeated are retried. A request that no upstream has seen may go to each of the others once',
      { default: 1, minimum: 0, maximum: 5 },
    ),
  },
  'Retries after a connection fails or breaks before the response, at another upstream if there is one',
  { default: {} },
)

export const CircuitBreaker = object(
  {
    error_ratio: percent('Opens when this percentage of the window failed or was 5xx', 50),
    slow: duration('Response headers that take longer are slow; 0: none are', '5s', 0, HOUR),
    slow_ratio: percent('Opens when this percentage of the window was slow', 80),
    window: duration('Length of the window', '10s', 1000, HOUR),
    min_requests: integer('Fewest requests in the window for a verdict', {
      default: 20,
      minimum: 1,
      maximum: 1_000_000,
    }),
    open: duration(
      'How long no request goes upstream after it has opened. Doubles each time that the probes fail, up to ten times',
      '5s',
      100,
      HOUR,
    ),
    probes: integer('Requests that test whether the service has recovered', {
      default: 3,
      minimum: 1,
      maximum: 1000,
    }),
  },
  'Answers 503 at once while the service fails or is slow. Default: none',
)

export const Concurrency = object(
  {
    'initial?': integer('Limit at the start. Default: 100, brought between min and max', {
      minimum: 1,
      maximum: 100_000,
    }),
    min: integer('Lowest limit', { default: 10, minimum: 1, maximum: 100_000 }),
    max: integer('Highest limit', { default: 1000, minimum: 1, maximum: 100_000 }),
  },
  'A limit on the requests that wait for a response of this service at once. It adapts to response times: it falls when they are longer than usual. Default: none',
)

export const Shed = object(
  {
    event_loop_delay: duration(
      'Sheds while the 99th percentile of the event loop delay is above this; 0: never',
      '200ms',
      0,
      60_000,
    ),
    heap: percent(
      'Sheds while the heap is fuller than this, in percent of 80 % of `--max-old-space-size`, where V8 ends the process. Garbage does not count. 0: never',
      85,
      0,
    ),
    exit_heap: percent(
      'Drains and exits with code 1 when the heap stays fuller than this, in percent, for 2 s. A supervisor then starts the gateway again. 0: never',
      95,
      0,
    ),
  },
  'Load shedding: while the gateway itself is overloaded it answers 503, first to the tiers with the lowest priority',
  { default: {} },
)

import { duration, integer, object, scalar } from './define.js'

/** Schema of what happens when an upstream, or the gateway itself, is overloaded. */

const percent = (description: string, fallback: number, least = 1) =>
  integer(description, [least, 100], { default: fallback })

const HOUR = 3_600_000

export const Tier = object(
  {
    name: scalar('name', 'Name of the tier'),
    'priority?': integer(
      'Priority under overload: the gateway serves larger numbers first. Default: the position in the list, from 0',
      [0, 1000],
    ),
  },
  'A tier with its priority',
)

export const Retries = object(
  {
    budget: integer(
      'Share of the traffic of the last 10 s that may be retried, in percent. 3 retries a second are always allowed. 0: none',
      [0, 100],
      { default: 10 },
    ),
    attempts: integer(
      'Retries of a request that an upstream may have seen. Only idempotent requests that can be repeated are retried. A request that no upstream has seen may go to each of the others once',
      [0, 5],
      { default: 1 },
    ),
  },
  'Retries after a connection fails or breaks before the response, at another upstream if there is one',
  { default: {} },
)

export const CircuitBreaker = object(
  {
    error_ratio: percent('Opens when this percentage of the window failed or was 5xx', 50),
    slow: duration('Response headers that take longer are slow; 0: none are', [0, HOUR], { default: '5s' }),
    slow_ratio: percent('Opens when this percentage of the window was slow', 80),
    window: duration('Length of the window', [1000, HOUR], { default: '10s' }),
    min_requests: integer('Fewest requests in the window for a verdict', [1, 1_000_000], { default: 20 }),
    open: duration(
      'How long no request goes upstream after it has opened. Doubles each time that the probes fail, up to ten times',
      [100, HOUR],
      { default: '5s' },
    ),
    probes: integer('Requests that test whether the service has recovered', [1, 1000], { default: 3 }),
  },
  'Answers 503 at once while the service fails or is slow. Default: none',
)

export const Concurrency = object(
  {
    'initial?': integer('Limit at the start. Default: 100, brought between min and max', [1, 100_000]),
    min: integer('Lowest limit', [1, 100_000], { default: 10 }),
    max: integer('Highest limit', [1, 100_000], { default: 1000 }),
  },
  'A limit on the requests that wait for a response of this service at once. It adapts to response times: it falls when they are longer than usual. Default: none',
)

export const Shed = object(
  {
    event_loop_delay: duration(
      'Sheds while the 99th percentile of the event loop delay is above this; 0: never',
      [0, 60_000],
      { default: '200ms' },
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

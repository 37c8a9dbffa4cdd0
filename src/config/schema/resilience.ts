import { Type } from '@sinclair/typebox'
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
    priority: Type.Optional(
      integer(
        'Who is served first when there is not room for all: the larger number. By default the place in the list, from 0',
        { minimum: 0, maximum: 1000 },
      ),
    ),
  },
  'A tier with its priority',
)

export const Retries = object(
  {
    budget: integer(
      'How much of the traffic of the last 10 s may be tried again, in percent, but 3 a second in any case; 0: nothing is',
      { default: 10, minimum: 0, maximum: 100 },
    ),
    attempts: integer(
      'How often a request that an upstream may have seen is sent again. Only an idempotent one that can be repeated is; what no upstream has seen may go to each of the others once',
      { default: 1, minimum: 0, maximum: 5 },
    ),
  },
  'When a connection cannot be made or breaks before the response, the request may be tried again, at another upstream where there is one',
  { default: {} },
)

export const CircuitBreaker = object(
  {
    error_ratio: percent('Opens when this share of the window, in percent, failed or was 5xx', 50),
    slow: duration('A response header that takes longer is slow; 0: none is', '5s', 0, HOUR),
    slow_ratio: percent('Opens when this share of the window, in percent, was slow', 80),
    window: duration('The time that is looked at', '10s', 1000, HOUR),
    min_requests: integer('Fewer in the window say nothing', {
      default: 20,
      minimum: 1,
      maximum: 1_000_000,
    }),
    open: duration(
      'How long nothing is sent after it has opened; twice as long each time that the probes fail, up to ten times',
      '5s',
      100,
      HOUR,
    ),
    probes: integer('Requests that try whether the service is well again', {
      default: 3,
      minimum: 1,
      maximum: 1000,
    }),
  },
  'Answers 503 at once while the service fails or is slow. Left out: there is none',
)

export const Concurrency = object(
  {
    initial: Type.Optional(
      integer('The limit to begin with; by default 100, or what of min and max is nearest to it', {
        minimum: 1,
        maximum: 100_000,
      }),
    ),
    min: integer('It never falls below', { default: 10, minimum: 1, maximum: 100_000 }),
    max: integer('It never rises above', { default: 1000, minimum: 1, maximum: 100_000 }),
  },
  'A limit of requests that wait for the response of this service at once, found from how long responses take: it falls when they take longer than usual. Left out: there is none',
)

export const Shed = object(
  {
    event_loop_delay: duration(
      'Sheds while the 99th percentile of the delay of the event loop is above this; 0: never',
      '200ms',
      0,
      60_000,
    ),
    heap: percent(
      'Sheds while the heap is fuller than this, in percent of 80 % of `--max-old-space-size`, where V8 ends the process; garbage is not counted; 0: never',
      85,
      0,
    ),
    exit_heap: percent(
      'Drains and exits with 1 when the heap stays fuller than this, in percent, for 2 s, so that a supervisor starts it anew; 0: never',
      95,
      0,
    ),
  },
  'When the gateway itself cannot keep up, requests are answered with 503, those of the tiers with the lowest priority first',
  { default: {} },
)

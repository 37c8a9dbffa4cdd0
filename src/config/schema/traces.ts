import { choice, integer, object, ownHeaders, scalar } from './define.js'

/** Schema of traces: which requests are recorded, and where traces are sent. */
export const Traces = object(
  {
    'url?': scalar(
      'url',
      'Address for spans. Default: /v1/traces of the collector in telemetry.otlp, otherwise of http://127.0.0.1:4318',
      { secret: true, examples: ['http://127.0.0.1:4318/v1/traces'] },
    ),
    'headers?': ownHeaders(
      'Headers of each request. Default: those of telemetry.otlp if spans go to its collector',
    ),
    'sample?': scalar(
      'share',
      'Share of requests to record where no trusted traceparent decides, from 0 to 1. Default: OTEL_TRACES_SAMPLER, otherwise 0.01',
      { restart: false, examples: [0.05] },
    ),
    'parent?': choice(
      ['trusted', 'always', 'never'],
      'Clients whose traceparent decides: trusted_proxies, all, or none. Default: trusted, unless OTEL_TRACES_SAMPLER names a sampler that is not parent-based',
      { restart: false },
    ),
    max_per_second: integer('Requests recorded per second, whoever asks for it', [1, 100_000], {
      default: 500,
      restart: false,
    }),
  },
  'Record requests as traces and send them by OTLP over HTTP',
  { restart: true },
)

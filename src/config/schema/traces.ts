import { Type } from '@sinclair/typebox'
import { choice, integer, named, object, scalar, string } from './define.js'

/** Schema of traces: which requests are recorded, and where traces are sent. */
export const Traces = object(
  {
    url: Type.Optional(
      scalar(
        'url',
        'Where spans are sent; by default to /v1/traces of the collector that telemetry.otlp names, or else of http://127.0.0.1:4318',
        { secret: true, examples: ['http://127.0.0.1:4318/v1/traces'] },
      ),
    ),
    headers: Type.Optional(
      named(
        string('Value of the header', { secret: true }),
        'Headers sent along; by default those of telemetry.otlp where the collector is its own',
        {
          keys: '^[A-Za-z0-9-]{1,64}$',
          keyFix: 'a header name here has letters, digits and "-"',
        },
      ),
    ),
    sample: Type.Optional(
      scalar(
        'share',
        'Share of the requests that are recorded where nobody whose word counts has decided, from 0 to 1; by default what OTEL_TRACES_SAMPLER says, else 0.01',
        { restart: false, examples: [0.05] },
      ),
    ),
    parent: Type.Optional(
      choice(
        ['trusted', 'always', 'never'],
        'Whose decision in traceparent counts: that of trusted_proxies, that of every caller, or that of none; by default that of trusted_proxies, unless OTEL_TRACES_SAMPLER names a sampler that is not parent-based',
        { restart: false },
      ),
    ),
    max_per_second: integer('How many requests a second are recorded at most, whoever asks for it', {
      default: 500,
      minimum: 1,
      maximum: 100_000,
      restart: false,
    }),
  },
  'Record requests as traces and send them by OTLP over HTTP',
  { restart: true },
)

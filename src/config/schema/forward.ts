import { choice, duration, list, object, scalar, timer } from './define.js'
import { UpstreamTls } from './upstream-tls.js'

/** Schema of forward auth: an HTTP service decides on requests. */

const HOUR = 3_600_000

const header = (description: string) => scalar('header', description, { examples: ['authorization'] })

const Cache = object(
  {
    for: duration('How long a 2xx lets equal requests pass. 0: each request asks the service', [0, HOUR], {
      default: '10s',
    }),
    denied_for: duration('How long any other response below 500 counts. At most as long as for', [0, HOUR], {
      default: '1s',
    }),
    'by?': list(
      scalar('any_field', 'A name of headers, or method, host, path, address'),
      'What requests must have in common to share a response: names of headers, and the words method, host, path (with its query) and address. Default: every header that is sent, method, scheme, host, path and query, and address',
      { minItems: 1, maxItems: 36, examples: [['authorization']] },
    ),
  },
  'How long a response counts for further requests. A response with Set-Cookie counts for one request only',
)

const url = scalar('url', 'Address of the service, for GET. Only a 2xx lets a request pass', {
  examples: ['http://auth.internal/check'],
})

const described = {
  'tier?': header('Header of it with the tier. A tier that is not in tiers counts as none'),
  'tenant?': header('Header of it with the tenant, for limits by tenant'),
}

const settings = {
  'upstream_headers?': list(
    header('A header'),
    "Headers of the service's 2xx that the upstream gets. The client's own headers of these names are removed. Default: none",
    { minItems: 1, maxItems: 32, examples: [['x-auth-request-email']] },
  ),
  'cache?': Cache,
  'timeout?': timer(
    'Timeout of a call, including the connection and the wait for its turn. Default: 1s',
    undefined,
    10,
  ),
  'on_failure?': choice(
    ['deny', 'allow'],
    'While the service does not answer, or answers 5xx. deny: 503, or its 5xx. allow: requests pass, without the headers that it should have checked. Default: deny',
  ),
  'tls?': UpstreamTls,
}

export const RouteForward = object(
  {
    url,
    'headers?': list(
      header('A header'),
      'Headers of the request that the service gets, besides X-Forwarded-Method, -Proto, -Host, -Uri and -For, and X-Original-URI. Default: authorization and cookie',
      { maxItems: 32 },
    ),
    'id?': header(
      "Header of the service's 2xx with the id of the consumer, for clients that consumers knows by address only. Default: the service names nobody",
    ),
    ...described,
    ...settings,
  },
  'A service that decides on each request, after the client is identified. With the url of a consumer source, its settings hold: write only the url',
)

const ForwardSettings = object(
  {
    url,
    headers: list(
      header('A header'),
      'Headers with the credential. The service gets them, and is asked only about requests that have one of them. Upstreams get them only once the service has let the request pass',
      { minItems: 1, maxItems: 32, examples: [['authorization']] },
    ),
    id: header("Header of the service's 2xx with the id of the consumer"),
    ...described,
    ...settings,
  },
  'By an HTTP service that checks the credential',
)

export const ForwardConsumer = object({ forward: ForwardSettings }, 'Consumers that a service identifies')

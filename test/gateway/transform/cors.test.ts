import t from 'tap'
import { startSite } from '../../support/gateway/site.js'
import { rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

const SITE = `
tiers: [free]
consumers:
  - api_key: { keys: [{ key: the-key, consumer: acme }] }
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 1/min } }
  marketing: { upstreams: [MARKETING] }
routes:
  - path: /payments/*
    methods: [GET, POST]
    service: payments
    cors: { origins: [https://app.example.com, https://*.example.org, "null"], expose: [x-total], max_age: 1h }
  - path: /marketing/*
    service: marketing
    cors: { origins: ["*"], methods: [GET], headers: [content-type] }
  - path: /private/*
    service: marketing
    cors: { origins: [https://app.example.com], credentials: true }
  - { path: /plain/*, service: marketing }
  - { path: /fixed, respond: { body: hello }, cors: { origins: [https://app.example.com] } }
`
const APP = 'Origin: https://app.example.com'

async function site(t: Parameters<typeof startSite>[0]) {
  const upstream = await recordingUpstream(t, (_, res) => {
    res.setHeader('Access-Control-Allow-Origin', '*')
    res.setHeader('access-control-allow-credentials', 'true')
    res.setHeader('Vary', 'Accept-Encoding')
    res.end('ok')
  })
  const started = await startSite(t, SITE, { payments: upstream, marketing: upstream })
  const ask = async (line: string, ...fields: readonly string[]) => {
    const { responses } = await rawExchange(started.gateway.port, rawRequest(line, ...fields))
    return responses[0]!
  }
  return { ...started, upstream, ask }
}

t.test('a preflight needs no credential, takes no quota, and is not forwarded', async (t) => {
  const { gateway, upstream, ask } = await site(t)
  for (let i = 0; i < 3; i++) {
    const answer = await ask(
      'OPTIONS /payments/x',
      APP,
      'Access-Control-Request-Method: POST',
      'Access-Control-Request-Headers: x-api-key,content-type',
    )
    t.equal(answer.status, 204)
    t.equal(answer.header('access-control-allow-origin'), 'https://app.example.com')
    t.equal(answer.header('access-control-allow-methods'), 'GET, POST, HEAD')
    t.equal(answer.header('access-control-allow-headers'), 'x-api-key,content-type')
    t.equal(answer.header('access-control-max-age'), '3600')
    t.equal(answer.header('access-control-allow-credentials'), undefined)
    t.equal(answer.header('content-length'), undefined)
    t.equal(
      answer.header('vary'),
      'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
      'a cache must not give the answer for one page to another',
    )
  }
  t.equal(upstream.received.length, 0)
  t.match(gateway.records[0], { status: 204, decision: undefined, consumer: undefined, error: undefined })
  t.equal((await ask('GET /payments/x', 'X-Api-Key: the-key', APP)).status, 200, 'the quota is whole')
})

t.test('an origin that is not on the list gets no CORS headers', async (t) => {
  const { ask } = await site(t)
  const allowed = async (origin: string) => {
    const answer = await ask('OPTIONS /payments/x', `Origin: ${origin}`, 'Access-Control-Request-Method: GET')
    t.equal(answer.status, 204)
    return answer.header('access-control-allow-origin')
  }
  for (const origin of [
    'https://app.example.com',
    'https://a.example.org',
    'https://a.b.example.org',
    'null',
  ])
    t.equal(await allowed(origin), origin)
  for (const origin of [
    'https://evil.com',
    'http://app.example.com',
    'https://app.example.com:8443',
    'https://app.example.com.evil.com',
    'https://example.org',
    'https://evil.com/.example.org',
    'https://evil.com#.example.org',
    'https://evil.com:1.example.org/x',
    'https://user@.example.org',
    'https://notexample.org',
    'NULL',
  ]) {
    t.equal(await allowed(origin), undefined, origin)
  }
})

t.test('every response of the route has CORS headers, refusals too', async (t) => {
  const { ask } = await site(t)
  const served = await ask('GET /payments/x', 'X-Api-Key: the-key', APP)
  const denied = await ask('GET /payments/x', 'X-Api-Key: the-key', APP)
  const unknown = await ask('GET /payments/x', APP)
  const fixed = await ask('GET /fixed', APP)
  t.same([served.status, denied.status, unknown.status, fixed.status], [200, 429, 401, 200])
  for (const answer of [served, denied, unknown, fixed]) {
    t.equal(answer.header('access-control-allow-origin'), 'https://app.example.com')
    t.match(answer.header('vary'), /\bOrigin$/)
  }
  t.equal(served.header('vary'), 'Accept-Encoding, Origin')
  t.equal(
    served.header('access-control-allow-credentials'),
    undefined,
    "the upstream's own word is not passed on",
  )
  t.equal(
    denied.header('access-control-expose-headers'),
    'Retry-After, RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id, x-total',
  )
  const other = await ask('GET /payments/x', 'X-Api-Key: the-key', 'Origin: https://evil.com')
  t.equal(other.header('access-control-allow-origin'), undefined)
  t.match(other.header('vary'), /Origin/)
})

t.test('with * every page may read, but without credentials', async (t) => {
  const { ask } = await site(t)
  const preflight = await ask(
    'OPTIONS /marketing/x',
    'Origin: https://who.ever',
    'Access-Control-Request-Method: PUT',
  )
  t.equal(preflight.header('access-control-allow-origin'), '*')
  t.equal(preflight.header('access-control-allow-methods'), 'GET')
  t.equal(preflight.header('access-control-allow-headers'), 'content-type')
  const answer = await ask('GET /marketing/x', 'X-Api-Key: the-key', 'Origin: https://who.ever')
  t.equal(answer.header('access-control-allow-origin'), '*')
  t.equal(answer.header('vary'), 'Accept-Encoding', 'the answer is the same for all')
})

t.test('credentials are allowed to listed origins', async (t) => {
  const { ask } = await site(t)
  const preflight = await ask('OPTIONS /private/x', APP, 'Access-Control-Request-Method: PATCH')
  t.equal(preflight.header('access-control-allow-credentials'), 'true')
  t.equal(preflight.header('access-control-allow-methods'), 'PATCH')
  const answer = await ask('GET /private/x', 'X-Api-Key: the-key', APP)
  t.equal(answer.header('access-control-allow-credentials'), 'true')
  t.equal(answer.header('access-control-allow-origin'), 'https://app.example.com')
})

t.test('a request that is no preflight is handled as usual', async (t) => {
  const { upstream, ask } = await site(t)
  t.equal((await ask('OPTIONS /private/x', APP, 'X-Api-Key: the-key')).status, 200)
  t.equal(
    (await ask('OPTIONS /private/x', 'Access-Control-Request-Method: GET', 'X-Api-Key: the-key')).status,
    200,
  )
  t.equal(
    (await ask('OPTIONS /plain/x', APP, 'Access-Control-Request-Method: GET', 'X-Api-Key: the-key')).status,
    200,
  )
  t.equal(upstream.received.length, 3)
  t.equal((await ask('OPTIONS /plain/x', APP, 'Access-Control-Request-Method: GET')).status, 401)
  t.equal((await ask('OPTIONS /payments/x', APP, 'Access-Control-Request-Method: DELETE')).status, 405)
  t.equal((await ask('OPTIONS /payments/x', APP, APP, 'Access-Control-Request-Method: GET')).status, 405)
})

t.test('requested headers are sent back only if they are a list of names', async (t) => {
  const { ask } = await site(t)
  for (const names of ['x: y', `x${'-long'.repeat(300)}`, '"a"', 'a(b)']) {
    const answer = await ask(
      'OPTIONS /payments/x',
      APP,
      'Access-Control-Request-Method: GET',
      `Access-Control-Request-Headers: ${names}`,
    )
    t.equal(answer.status, 204)
    t.equal(answer.header('access-control-allow-headers'), undefined)
  }
})

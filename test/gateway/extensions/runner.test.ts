// Tests src/gateway/extensions/{runner,request-view,results,on-denied}.ts src/gateway/exchange/hook-state.ts
// Tests src/gateway/identify/extension.ts src/gateway/stages/extensions.ts src/config/snapshot/extensions.ts
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { ExtensionRequest } from '../../../src/extension/define.js'
import { respond } from '../../../src/extension/respond.js'
import { eventually } from '../../support/eventually.js'
import { instances } from '../../support/gateway/hooks.js'
import { startSite } from '../../support/gateway/site.js'
import { stall } from '../../support/stall.js'

t.jobs = 4

const SITE = `
tiers: [free, pro]
extensions: [{ name: own, module: ./own.js, timeout: TIMEOUT, on_error: ON_ERROR }]
consumers: [{ header: { name: x-user, from: anyone } }, { extension: own }, { ip: {} }]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 10/min, pro: 1000/min } }
routes:
  - { path: "/payments/:id/*", service: payments, use: [own] }
  - { path: /plain/*, service: payments }
`

type Hooks = Parameters<typeof instances>[0][string]

async function site(t: Test, hooks: Hooks, onError: 'deny' | 'skip' = 'deny', timeout = '60s') {
  const yaml = SITE.replace('ON_ERROR', onError).replace('TIMEOUT', timeout)
  const made = await startSite(t, yaml, {}, { extensions: instances({ own: hooks }) })
  const get = async (path = '/payments/7/a?b=c', headers: Record<string, string> = {}) => {
    const response = await request(made.gateway.origin + path, { headers })
    const text = await response.body.text()
    return { status: response.statusCode, headers: response.headers, text }
  }
  return { ...made, get }
}

t.test('a hook sees the request, and the same frozen object in each hook', async (t) => {
  const seen: ExtensionRequest[] = []
  let params: unknown
  const keep = (request: ExtensionRequest) => {
    seen.push(request)
    params = request.params
  }
  const { get } = await site(t, {
    onRequest: keep,
    cost(request: ExtensionRequest) {
      keep(request)
      t.same(
        { ...pick(request) },
        {
          method: 'GET',
          path: '/payments/7/a',
          query: '?b=c',
          host: '127.0.0.1',
          address: '127.0.0.1',
          secure: false,
          route: '/payments/:id/*',
          service: 'payments',
          consumer: 'acme',
          tier: 'free',
          tenant: undefined,
          scopes: [],
          limits: [{ name: 'minute', amount: 10, window: 60_000 }],
        },
      )
      t.equal(request.header('X-Two'), 'one')
      t.equal(request.header('x-user'), 'acme', 'the credential, too')
      t.equal(request.header('X-Consumer-Id'), 'forged', 'what the client sent, believed or not')
      t.equal(request.header('none'), undefined)
      return 1
    },
    onUpstreamRequest: keep,
  })
  t.equal((await get(undefined, { 'x-user': 'acme', 'x-two': 'one', 'x-consumer-id': 'forged' })).status, 200)
  t.equal(new Set(seen).size, 1)
  t.same({ ...(params as object) }, { id: '7', '*': 'a' })
  t.throws(() => {
    ;(seen[0] as { consumer?: string }).consumer = 'another'
  })
  t.throws(() => Object.assign(seen[0]!, { more: 1 }))
  t.throws(() => Object.assign(Object.getPrototypeOf(seen[0]), { header: () => 'forged' }))
})

/** Returns an object whose `then` is what the function returns. */
function thenable(then: () => unknown): object {
  return Object.defineProperty({}, 'then', { get: then })
}

function pick(request: ExtensionRequest) {
  const { method, path, query, host, address, secure, route } = request
  const { service, consumer, tier, tenant, scopes, limits } = request
  return {
    method,
    path,
    query,
    host,
    address,
    secure,
    route,
    service,
    consumer,
    tier,
    tenant,
    scopes,
    limits,
  }
}

t.test('a reply ends the request before a service is asked, and nothing is charged', async (t) => {
  const { get, gateway, received } = await site(t, {
    onRequest: (request: ExtensionRequest) =>
      request.consumer === 'evil'
        ? respond(403, { title: 'Fraud', detail: 'No.', code: 'fraud' }, { 'X-Score': '99' })
        : request.consumer === 'late'
          ? sleep(5).then(() => respond(200, 'from the extension'))
          : undefined,
  })
  const refused = await get(undefined, { 'x-user': 'evil' })
  t.equal(refused.status, 403)
  t.equal(refused.headers['content-type'], 'application/problem+json')
  t.equal(refused.headers['x-score'], '99')
  t.equal(refused.headers['cache-control'], 'no-store')
  t.match(JSON.parse(refused.text), {
    title: 'Fraud',
    status: 403,
    detail: 'No.',
    code: 'fraud',
    request_id: String,
  })
  const answered = await get(undefined, { 'x-user': 'late' })
  t.match(answered, { status: 200, text: 'from the extension' })
  t.equal(received(), 0)
  t.equal(gateway.records[0]?.decision, undefined)
  t.equal(gateway.records[0]?.cause, 'extension own (onRequest)')
  t.equal((await get(undefined, { 'x-user': 'good' })).status, 200)
  t.equal((await get('/plain/1', { 'x-user': 'evil' })).status, 200, 'other routes do not use it')
})

t.test('identify tells consumer, tier, tenant and scopes; undefined leads to the next kind', async (t) => {
  const { get, gateway } = await site(t, {
    async identify(request: ExtensionRequest) {
      t.equal(request.consumer, undefined)
      t.equal(request.tier, undefined)
      t.same(request.limits, [])
      const key = request.header('x-partner')
      if (key === undefined) return undefined
      await sleep(1)
      if (key === 'bad')
        return respond(401, { detail: 'No such partner.' }, { 'WWW-Authenticate': 'Partner' })
      return { consumer: key, tier: 'pro', tenant: 'group', scopes: ['read'] }
    },
  })
  t.equal((await get(undefined, { 'x-partner': 'globex' })).status, 200)
  t.match(gateway.records[0], {
    consumer: 'globex',
    identifiedBy: 'extension',
    tier: 1,
    tierFrom: 'credential',
    tenant: 'group',
  })
  const refused = await get(undefined, { 'x-partner': 'bad' })
  t.equal(refused.status, 401)
  t.equal(refused.headers['www-authenticate'], 'Partner')
  await get()
  t.equal(gateway.records[2]?.identifiedBy, 'ip')
})

t.test('an identity that is none is a failure, which denies whatever on_error says', async (t) => {
  let identity: unknown
  const { get, gateway } = await site(t, { identify: () => identity }, 'skip')
  for (identity of [
    {},
    'acme',
    7,
    null,
    [],
    { consumer: '' },
    { consumer: 'a\nb' },
    { consumer: 'a'.repeat(257) },
    { consumer: 'acme', tier: 'gold' },
    { consumer: 'acme', tenant: '' },
    { consumer: 'acme', scopes: 'read' },
    { consumer: 'acme', scopes: [1] },
    new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error('no')
        },
      },
    ),
    Object.defineProperty({}, 'consumer', {
      enumerable: true,
      get: () => {
        throw new Error('no')
      },
    }),
    thenable(() => {
      throw new Error('no')
    }),
  ]) {
    const { status, text, headers } = await get()
    t.match({ status, code: JSON.parse(text).code }, { status: 503, code: 'extension_failed' })
    t.equal(headers['retry-after'], '1')
    t.equal(gateway.records.at(-1)?.consumer, undefined)
  }
  t.equal(gateway.extensionErrors.length, 15)
  t.same(gateway.extensionErrors[0], ['own', 'identify'])
  t.equal(gateway.internalErrors(), 0)
})

t.test(
  'what throws, rejects or takes too long denies with 503, or is skipped, and is counted and logged',
  async (t) => {
    const ways: (() => unknown)[] = [
      () => {
        throw new Error('boom')
      },
      () => {
        throw {
          toString() {
            throw new Error('no')
          },
        }
      },
      () => Promise.reject(new Error('boom')),
      () => new Promise(() => {}),
      () =>
        thenable(() => (_: unknown, bad: (error: Error) => void) => {
          bad(new Error('boom'))
          bad(new Error('twice'))
        }),
      () =>
        Object.assign(Promise.resolve(), {
          constructor: {
            get [Symbol.species]() {
              throw new Error('no')
            },
          },
        }),
      () => Object.create(Promise.prototype),
      () => 'a text',
      () => ({ status: 200 }),
      () => Promise.resolve({}),
    ]
    for (const onError of ['deny', 'skip'] as const) {
      let way = ways[0]!
      const { get, gateway } = await site(t, { onRequest: () => way() }, onError, '50ms')
      for (way of ways) {
        const { status, text } = await get()
        t.equal(status, onError === 'deny' ? 503 : 200, `${onError} ${way}`)
        t.notMatch(text, 'boom', 'the client does not see why')
      }
      t.equal(gateway.extensionErrors.length, ways.length)
      t.match(gateway.logged[0], {
        message: 'a hook of an extension failed',
        fields: { extension: 'own', hook: 'onRequest', on_error: onError, error: /Error: boom\n +at / },
      })
      t.ok(gateway.logged.length <= 3, 'once a second')
      t.equal(gateway.internalErrors(), 0)
      if (onError === 'deny')
        t.match(gateway.records[0], {
          error: 'extension_failed',
          cause: 'the hook onRequest of the extension own failed: Error: boom',
        })
    }
  },
)

t.test('the highest cost counts, and a wrong one is a failure', async (t) => {
  let cost: unknown = 4
  const { get, gateway } = await site(t, { cost: () => cost })
  t.equal((await get()).headers['x-ratelimit-remaining'], '6')
  cost = Promise.resolve(5)
  t.equal((await get()).headers['x-ratelimit-remaining'], '1')
  t.equal(gateway.records[1]?.cost, 5)
  for (cost of [0, -1, 1.5, Number.NaN, '3', undefined, null, 2 ** 25, {}, 10n])
    t.equal((await get()).status, 503)
  cost = 1
  t.equal((await get()).status, 200, 'nothing was charged for those')
})

t.test(
  'onUpstreamRequest changes the header for the upstream, and nothing that the gateway vouches for',
  async (t) => {
    let headers: unknown = {
      'X-Score': '7',
      'X-Two': null,
      'x-list': ['a', 'b'],
      Authorization: 'Basic eA==',
    }
    const { get, payments } = await site(t, { onUpstreamRequest: () => ({ headers }) })
    t.equal(
      (await get(undefined, { 'x-two': 'gone', 'x-score': 'forged', authorization: 'Bearer x' })).status,
      200,
    )
    const sent = payments.received[0]!
    t.same(sent.values('x-score'), ['7'])
    t.same(sent.values('authorization'), ['Basic eA=='])
    t.same(sent.values('x-list'), ['a', 'b'])
    t.same(sent.values('x-two'), [])
    let users = 0
    for (const name of [
      ...[
        'Host',
        'Connection',
        'Content-Length',
        'Transfer-Encoding',
        'TE',
        'Upgrade',
        'Keep-Alive',
        'Expect',
        'Via',
      ],
      ...[
        'X-Forwarded-For',
        'x_forwarded_host',
        'X-Forwarded-Anything',
        'Forwarded',
        'X-Real-IP',
        'X-Request-Id',
      ],
      ...[
        'X-Consumer-Id',
        'X_Consumer.Tier',
        'X-Tidegate-Identity',
        'Remote-User',
        'X-Original-URL',
        'X-Tidegate-Mirror',
      ],
      ...['a b', '', 'a:b'],
    ]) {
      headers = { [name]: 'x' }
      t.equal((await get(undefined, { 'x-user': `user-${++users}` })).status, 503, name)
    }
    for (const value of [
      'a\r\nb: c',
      'a\0',
      '\u{1f600}',
      7,
      undefined,
      { a: 1 },
      ['x', 7],
      'x'.repeat(20_000),
    ]) {
      headers = { 'x-a': value }
      t.equal(
        (await get(undefined, { 'x-user': `user-${++users}` })).status,
        503,
        JSON.stringify(value)?.slice(0, 20) ?? 'undefined',
      )
    }
    t.equal(payments.received.length, 1)
  },
)

t.test('no twin of a header that a hook has read, set or removed reaches the upstream', async (t) => {
  const { get, payments } = await site(t, {
    identify: (request: ExtensionRequest) => ({ consumer: request.header('X-Partner')! }),
    onUpstreamRequest: () => ({ headers: { 'X-Entitled': 'yes', 'x-score': null } }),
  })
  const twins = { x_partner: 'victim', 'X.Partner': 'victim', x_entitled: 'forged', x_score: '1' }
  t.equal((await get(undefined, { 'x-partner': 'acme', x_own: 'a', ...twins })).status, 200)
  const [sent] = payments.received
  t.same(sent!.values('x-partner'), ['acme'])
  t.same(sent!.values('x-entitled'), ['yes'])
  t.same(sent!.values('x_own'), ['a'], 'others pass')
  for (const name of Object.keys(twins)) t.same(sent!.values(name.toLowerCase()), [], name)
})

t.test('onDenied changes the header and detail of a 429; a failure leaves it as it is', async (t) => {
  let result: unknown = { detail: 'Buy more.', headers: { 'X-Upgrade': 'https://shop', RateLimit: null } }
  const { get } = await site(t, {
    cost: () => 11,
    onDenied(_: ExtensionRequest, denial: object) {
      t.same({ ...denial }, { limit: 'minute', retryAfter: undefined, remaining: 10, cost: 11 })
      return result
    },
  })
  const changed = await get()
  t.equal(changed.status, 429)
  t.match(JSON.parse(changed.text), { code: 'quota_exceeded', detail: 'Buy more.' })
  t.equal(changed.headers['x-upgrade'], 'https://shop')
  t.equal(changed.headers.ratelimit, undefined)
  t.ok(changed.headers['ratelimit-policy'])
  for (result of [
    Promise.resolve({ detail: 'Later.' }),
    { detail: 7 },
    { headers: { 'content-type': 'a/b' } },
    7,
    undefined,
  ]) {
    const { status, text } = await get()
    t.equal(status, 429)
    t.equal(JSON.parse(text).code, 'quota_exceeded')
  }
})

t.test('the signal aborts when the time of the hook is over', async (t) => {
  let signal: AbortSignal | undefined
  const { get } = await site(
    t,
    {
      onRequest(request: ExtensionRequest) {
        signal = request.signal
        t.equal(request.signal, signal, 'one signal a hook')
        return new Promise(() => {})
      },
      cost(request: ExtensionRequest) {
        t.notOk(request.signal.aborted, 'that of the next hook is another')
        return 1
      },
    },
    'skip',
    '50ms',
  )
  t.equal((await get()).status, 200)
  t.ok(signal?.aborted)
})

t.test('the signal aborts when the client leaves, which is no error of the hook', async (t) => {
  let signal: AbortSignal | undefined
  const hooks = {
    onRequest(request: ExtensionRequest) {
      signal = request.signal
      return new Promise(() => {})
    },
    cost: () => t.fail('the next hook does not run') as never,
  }
  const { gateway } = await site(t, hooks, 'deny')
  const leaving = new AbortController()
  const left = t.rejects(request(`${gateway.origin}/payments/1/2`, { signal: leaving.signal }))
  await eventually('the hook runs', () => signal !== undefined)
  leaving.abort()
  await left
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 499, error: 'client_closed' })
  t.ok(signal?.aborted)
  t.same(gateway.extensionErrors, [])
})

t.test('a hook that holds up all requests is named in the log', async (t) => {
  const { get, gateway } = await site(t, { onRequest: () => stall(60) })
  t.equal((await get()).status, 200)
  t.match(gateway.logged, [
    {
      message: 'a hook of an extension held up all requests',
      fields: { extension: 'own', hook: 'onRequest' },
    },
  ])
})

// Tests src/gateway/identify/application.ts
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyPluginCallback, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { WebSocket } from 'ws'
import plugin, { type RunningGateway, type TidegateOptions, tidegate } from '../../src/embed/fastify.js'
import { createLog } from '../../src/telemetry/logs/log.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { openRaw, rawRequest } from '../support/http/raw.js'
import { recordingUpstream } from '../support/http/upstream.js'
import { closeOf, startChat } from '../support/http/websocket.js'
import { scratchFolder } from '../support/scratch.js'

// By name, so that nothing else needs their types.
const load = async (name: string) =>
  (await import(name)).default as FastifyPluginCallback<Record<string, unknown>>
const [jwt, helmet, cors] = await Promise.all(['@fastify/jwt', '@fastify/helmet', '@fastify/cors'].map(load))

interface Site {
  readonly app: FastifyInstance
  readonly origin: string
  readonly gateway: RunningGateway
  /** Returns what the gateway has logged. */
  events(): string
}

/** Starts an application with the gateway in it. `before` and `after` are called around its registration. */
async function startApp(
  t: Test,
  yaml: string,
  {
    before,
    after,
    fastify = {},
    ...options
  }: Partial<TidegateOptions> & {
    before?: (app: FastifyInstance) => void | Promise<void>
    after?: (app: FastifyInstance) => void
    fastify?: FastifyServerOptions
  } = {},
): Promise<Site> {
  const folder = t.testdir({
    'tidegate.yaml': `log: { access: off }\nadmin: { listen: 127.0.0.1:0 }\n${yaml}`,
  })
  const app = Fastify(fastify)
  await before?.(app)
  let gateway!: RunningGateway
  await app.register(plugin, {
    config: `${folder}/tidegate.yaml`,
    events: createLog({ level: 'info', destination: `${folder}/events.log` }),
    opened: (opened) => {
      gateway = opened
    },
    ...options,
  })
  after?.(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close())
  const events = () => readFileSync(`${folder}/events.log`, 'utf8')
  return { app, gateway, events, origin: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

const config = (upstream: string, more = '') => `
tiers: [free, pro]
services:
  orders: { upstreams: [${upstream}], limits: { free: 6/min, pro: 100/min } }
routes:
  - { path: /api/*, service: orders }
${more}`

async function ask(url: string, options: Parameters<typeof request>[1] = {}) {
  const { statusCode: status, headers, body } = await request(url, options)
  return { status, headers, text: await body.text() }
}

t.test('@fastify/jwt, helmet and cors work in front of the gateway, and name who is calling', async (t) => {
  const upstream = await recordingUpstream(t, (req, res) => {
    req.on('end', () =>
      res
        .writeHead(200, { vary: 'Accept', 'x-frame-options': 'DENY', 'set-cookie': ['a=1', 'b=2'] })
        .end('ok'),
    )
  })
  let token = ''
  const { origin } = await startApp(t, config(upstream.origin), {
    identify: true,
    async before(app) {
      await app.register(jwt!, { secret: 'a secret of the application' })
      await app.register(helmet!)
      await app.register(cors!, { origin: ['https://shop.example'] })
      app.decorateRequest('consumer', null)
      app.decorateRequest('tier', null)
      // After the body would have been parsed.
      app.addHook('preHandler', async (request, reply) => {
        const { sub, plan } = await (
          request as unknown as { jwtVerify(): Promise<Record<string, string>> }
        ).jwtVerify()
        Object.assign(request, { consumer: sub, tier: plan })
        reply.header('set-cookie', 'c=3')
      })
    },
    after(app) {
      token = (app as unknown as { jwt: { sign(claims: object): string } }).jwt.sign({
        sub: 'acme',
        plan: 'pro',
      })
    },
  })
  const authorization = `Bearer ${token}`
  t.match(await ask(`${origin}/api/a`), { status: 401 }, 'the application refuses')
  t.equal(upstream.received.length, 0)

  const body = '{"a": "not parsed", }'
  const allowed = await ask(`${origin}/api/a?b=c`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json', origin: 'https://shop.example' },
    body,
  })
  t.match(allowed, {
    status: 200,
    headers: {
      'x-ratelimit-limit': '100',
      'content-security-policy': /default-src/,
      'access-control-allow-origin': 'https://shop.example',
      // Both sides have one of these, and both count.
      'set-cookie': ['a=1', 'b=2', 'c=3'],
      vary: ['Accept', 'Origin'],
      'x-frame-options': 'DENY',
    },
  })
  t.match(
    upstream.received,
    [{ method: 'POST', url: '/api/a?b=c', body }],
    'the body went through as it came',
  )

  t.match(
    await ask(`${origin}/api/a`, {
      method: 'OPTIONS',
      headers: { origin: 'https://shop.example', 'access-control-request-method': 'PUT' },
    }),
    { status: 204, headers: { 'access-control-allow-methods': /PUT|POST/ } },
    'the preflight is answered before the hook that asks for a token',
  )
})

t.test(
  'a consumer by a function; others are known as the file says; a route may insist on a credential',
  async (t) => {
    const upstream = await recordingUpstream(t)
    const { origin } = await startApp(
      t,
      `${config(upstream.origin, '  - { path: /keys/*, service: orders, auth: { any_of: [api_key] } }')}
consumers:
  - api_key: { store: true }
  - ip: {}
`,
      {
        identify: ({ headers }) =>
          headers['x-user'] === undefined
            ? undefined
            : { consumer: String(headers['x-user']), tier: headers['x-plan'] as string | undefined },
        prefix: '',
      },
    )
    const as = (user: string, plan?: string) => ({
      headers: { 'x-user': user, ...(plan && { 'x-plan': plan }) },
    })
    t.match(await ask(`${origin}/api/a`, as('ann', 'pro')), { headers: { 'x-ratelimit-remaining': '99' } })
    for (const left of ['5', '4', '3', '2', '1', '0'])
      t.match(await ask(`${origin}/api/a`, as('bob')), { headers: { 'x-ratelimit-remaining': left } })
    t.match(await ask(`${origin}/api/a`, as('bob')), {
      status: 429,
      headers: { 'content-type': 'application/problem+json', 'retry-after': /^\d+$/ },
    })
    t.match(
      await ask(`${origin}/api/a`, as('eve', 'gold')),
      { headers: { 'x-ratelimit-remaining': '5' } },
      'no such tier',
    )
    t.match(await ask(`${origin}/api/a`), { headers: { 'x-ratelimit-remaining': '5' } }, 'by address')
    t.match(await ask(`${origin}/keys/a`, as('ann', 'pro')), { status: 401 })
    t.match(await ask(`${origin}/api/a`, as('x'.repeat(300))), {
      status: 500,
      text: /consumer that is no text/,
    })
  },
)

t.test("the application's routes come first, and what no route takes is its own 404", async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin, app } = await startApp(t, config(upstream.origin), {
    before(app) {
      app.get('/api/own', async () => 'own')
      app.setNotFoundHandler((request, reply) => reply.code(404).send(`nothing at ${request.url}`))
    },
    after: (app) => void app.post('/later', async ({ body }) => body),
  })
  t.match(await ask(`${origin}/api/own`), { status: 200, text: 'own' })
  t.match(await ask(`${origin}/api/own`, { method: 'PUT' }), { status: 200, text: 'ok' }, 'another method')
  t.match(await ask(`${origin}/elsewhere`, { method: 'POST', body: 'x' }), {
    status: 404,
    text: 'nothing at /elsewhere',
  })
  t.match(
    await ask(`${origin}/later`, {
      method: 'POST',
      body: '{"a":1}',
      headers: { 'content-type': 'application/json' },
    }),
    { status: 200, text: '{"a":1}' },
    'bodies are parsed there as ever',
  )
  t.match(await ask(`${origin}/api/${'a'.repeat(500)}`), { status: 200 })
  t.match(await app.inject({ url: '/api/injected', method: 'PUT', payload: 'x' }), {
    statusCode: 200,
    body: 'ok',
  })
})

t.test('with a prefix the gateway gets that part of the paths, whole', async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin } = await startApp(t, config(upstream.origin, '  - { path: /api, service: orders }'), {
    prefix: '/api',
    before: (app) => void app.get('/*', async () => 'own'),
  })
  for (const [path, text] of Object.entries({ '/api/a': 'ok', '/api': 'ok', '/apis': 'own', '/': 'own' }))
    t.match(await ask(origin + path), { status: 200, text })
  t.strictSame(
    upstream.received.map(({ url }) => url),
    ['/api/a', '/api'],
  )
})

t.test('no spelling of a path leads past the hooks of its prefix', async (t) => {
  const upstream = await recordingUpstream(t)
  const { app } = await startApp(t, config(upstream.origin), {
    before: (app) => void app.all('/api/admin/*', async (_request, reply) => reply.code(401).send('no')),
  })
  t.equal(await status('/api/admin/x'), 401)
  for (const path of ['//api/admin/x', '/api//admin/x', 'http://gateway.example//api/admin/x'])
    t.equal(await status(path), 404, path)
  t.equal(upstream.received.length, 0)
  t.equal(await status('/api/x?to=http://y'), 200)
  t.equal(await status('http://gateway.example/api/x'), 200)

  async function status(path: string): Promise<number | undefined> {
    const sent = await openRaw((app.server.address() as AddressInfo).port)
    sent.write(rawRequest(`GET ${path}`, 'Connection: close'))
    await sent.closed()
    return sent.responses()[0]?.status
  }
})

t.test('large and slow bodies stream through, and Expect: 100-continue is answered once', async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin } = await startApp(t, config(upstream.origin), { fastify: { bodyLimit: 10 } })
  const port = Number(new URL(origin).port)
  const sent = httpRequest({
    port,
    path: '/api/a',
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
  })
  const half = 'x'.repeat(300_000)
  sent.write(half)
  await eventually('the upstream has the first half', () => (upstream.received[0]?.body.length ?? 0) > 0)
  sent.end(half)
  const [response] = await once(sent, 'response')
  t.equal(response.statusCode, 200)
  response.resume()
  t.equal(upstream.received[0]!.body.length, 600_000)

  const raw = await openRaw(port)
  raw.write(rawRequest('PUT /api/a', 'Content-Length: 1', 'Expect: 100-continue', 'Connection: close'))
  await raw.until('100 Continue', () => raw.received().includes('100 Continue'))
  raw.write('x')
  await raw.closed()
  t.equal(raw.received().match(/HTTP\/1\.1 100/g)?.length, 1, raw.received())
  t.match(raw.responses(), [{ status: 200 }])
})

t.test('an async identify is an error, not a client without a name', async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin } = await startApp(t, config(upstream.origin), {
    identify: (async () => ({ consumer: 'ann' })) as never,
  })
  t.match(await ask(`${origin}/api/a`), { status: 500, text: /identify is async/ })
  t.equal(upstream.received.length, 0)
})

t.test('a hook that has read the body is named', async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin } = await startApp(t, config(upstream.origin), {
    before: (app) =>
      void app.addHook('onRequest', async ({ raw }) => {
        raw.resume()
        await once(raw, 'end')
      }),
  })
  t.match(await ask(`${origin}/api/a`, { method: 'POST', body: 'x' }), {
    status: 500,
    text: /has read the body/,
  })
})

t.test('a hook that hands the body to another stream is named', async (t) => {
  const upstream = await recordingUpstream(t)
  const { origin } = await startApp(t, config(upstream.origin), {
    before: (app) =>
      void app.addHook('preParsing', (_request, _reply, payload, done) =>
        done(null, payload.pipe(new PassThrough())),
      ),
  })
  t.match(await ask(`${origin}/api/a`, { method: 'POST', body: 'x'.repeat(300_000) }), {
    status: 500,
    text: /has read the body/,
  })
})

t.test('an upgrade behind other requests of its connection waits for their responses', async (t) => {
  const chat = await startChat(t)
  const { origin } = await startApp(
    t,
    config(chat.origin).replace('service: orders }', 'service: orders, websocket: true }'),
    {
      before: (app) =>
        void app.get('/slow', async () => {
          await delay(50)
          return 'slow'
        }),
    },
  )
  const raw = await openRaw(Number(new URL(origin).port))
  const upgrade = rawRequest(
    'GET /api/chat',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  )
  raw.write(rawRequest('GET /slow') + rawRequest('GET /nowhere') + upgrade)
  await raw.until('the upgrade', () => raw.received().includes('HTTP/1.1 101'))
  t.match(raw.received(), /^HTTP\/1\.1 200.*HTTP\/1\.1 404.*HTTP\/1\.1 101/s)
  raw.socket.destroy()
})

t.test('an upgrade that a hook refuses leaves no connection behind', async (t) => {
  const chat = await startChat(t)
  const { origin, app } = await startApp(
    t,
    config(chat.origin).replace('service: orders }', 'service: orders, websocket: true }'),
    { before: (app) => void app.addHook('onRequest', async (_request, reply) => reply.code(403).send('no')) },
  )
  const socket = connect({ port: Number(new URL(origin).port), allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(rawRequest('GET /api/chat', 'Connection: Upgrade', 'Upgrade: websocket'))
  const [answer] = await once(socket, 'data')
  t.match(String(answer), /^HTTP\/1\.1 403/)
  await app.close()
})

t.test('WebSockets pass the hooks of the application, and end with it', async (t) => {
  const chat = await startChat(t)
  const { origin, app } = await startApp(
    t,
    config(chat.origin).replace('service: orders }', 'service: orders, websocket: true }'),
    {
      before: (app) =>
        void app.addHook('onRequest', async ({ headers }, reply) => {
          if (headers['x-user'] === undefined) return reply.code(403).send('no')
          return undefined
        }),
    },
  )
  const url = `${origin.replace('http', 'ws')}/api/chat`
  const refused = new WebSocket(url)
  const [error] = await once(refused, 'error')
  t.match(error.message, /403/)
  const lost = new WebSocket(`${origin.replace('http', 'ws')}/nowhere`, { headers: { 'x-user': 'ann' } })
  t.match((await once(lost, 'error'))[0].message, /404/)

  const socket = new WebSocket(url, { headers: { 'x-user': 'ann' } })
  await once(socket, 'open')
  socket.send('hello')
  t.equal(String((await once(socket, 'message'))[0]), 'hello')
  const closed = closeOf(socket)
  await app.close()
  t.match(await closed, { code: 1001 })
})

t.test('other upgrades are the requests that they are; two gateways share an application', async (t) => {
  const [chat, upstream] = [await startChat(t), await recordingUpstream(t)]
  const second = scratchFolder(t, 'tidegate-second-')
  writeFileSync(
    `${second}/second.yaml`,
    `admin: { listen: 127.0.0.1:0 }\nlog: { access: off, level: error }\n${config(chat.origin)
      .replace('service: orders }', 'service: orders, websocket: true }')
      .replace('/api/*', '/second/*')}`,
  )
  const { origin } = await startApp(
    t,
    config(upstream.origin).replace('service: orders }', 'service: orders, websocket: true }'),
    {
      prefix: '/api',
      after: (app) => void app.register(tidegate, { config: `${second}/second.yaml`, prefix: '/second' }),
    },
  )
  const raw = await openRaw(Number(new URL(origin).port))
  raw.write(rawRequest('GET /api/a', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c'))
  await raw.closed()
  t.match(raw.responses(), [{ status: 200 }])
  const post = await openRaw(Number(new URL(origin).port))
  post.write(rawRequest('POST /api/a', 'Connection: Upgrade', 'Upgrade: h2c', 'Content-Length: 1'))
  await post.closed()
  t.match(post.responses(), [{ status: 400 }])
  const socket = new WebSocket(`${origin.replace('http', 'ws')}/second/chat`)
  await once(socket, 'open')
  socket.send('hello')
  t.equal(String((await once(socket, 'message'))[0]), 'hello')
  socket.close()
})

t.test('the admin server opens only if the file sets it', async (t) => {
  const upstream = await recordingUpstream(t)
  const folder = t.testdir({ 'a.yaml': `log: { access: off, level: silent }\n${config(upstream.origin)}` })
  for (const app of [Fastify(), Fastify()]) {
    const addresses: string[] = []
    t.teardown(() => app.close())
    await app.register(tidegate, {
      config: `${folder}/a.yaml`,
      opened: ({ adminAddress }) => void addresses.push(adminAddress),
    })
    t.match(await app.inject('/api/a'), { statusCode: 200 })
    t.same(addresses, [''])
  }
})

t.test('closing the application lets requests finish, then closes all that was opened', async (t) => {
  let answer: (() => void) | undefined
  const upstream = await recordingUpstream(t, (_req, res) => {
    answer = () => res.end('late')
  })
  const seen: string[] = []
  const { origin, app, gateway } = await startApp(t, config(upstream.origin), {
    before: (app) =>
      void app.addHook(
        'onResponse',
        async ({ url }, { statusCode }) => void seen.push(`${url} ${statusCode}`),
      ),
  })
  t.match(await ask(`${gateway.adminAddress}/readyz`), { status: 200 })
  const waiting = ask(`${origin}/api/a`)
  await eventually('the upstream was asked', () => answer !== undefined)
  const closing = app.close()
  await delay(50)
  answer!()
  t.match(await waiting, { status: 200, text: 'late' })
  await closing
  t.strictSame(seen, ['/api/a 200'], "the application's own log has it")
  await t.rejects(ask(`${gateway.adminAddress}/readyz`))
})

t.test('a request that does not end is broken off after the grace', async (t) => {
  let asked = false
  const upstream = await recordingUpstream(t, () => {
    asked = true
  })
  const { origin, app } = await startApp(t, `${config(upstream.origin)}server: { shutdown_grace: 100ms }\n`)
  const waiting = ask(`${origin}/api/a`)
  waiting.catch(() => {})
  await eventually('the upstream was asked', () => asked)
  await app.close()
  await t.rejects(waiting)
})

t.test("over TLS the application's client certificate identifies the consumer", async (t) => {
  const upstream = await recordingUpstream(t)
  const authority = createAuthority(t)
  const server = authority.issue('localhost', 'DNS:localhost')
  const client = pairOf(authority.issue('acme'))
  const { app, events } = await startApp(
    t,
    `${config(upstream.origin)}
listen: 127.0.0.1:1
server:
  tls: { certificates: [{ cert: ${server.cert}, key: ${server.key} }], client_ca: ${authority.ca} }
consumers: [client_certificate: { id: subject_cn }, ip: {}]
`,
    {
      fastify: {
        https: {
          ...pairOf(server),
          ca: readFileSync(authority.ca),
          requestCert: true,
          rejectUnauthorized: false,
        },
      } as object,
      identify: false,
    },
  )
  const { port } = app.server.address() as AddressInfo
  const limitOf = async (pair: object) => {
    const sent = httpsRequest({
      port,
      path: '/api/a',
      rejectUnauthorized: false,
      agent: false,
      ...pair,
    }).end()
    const [response] = await once(sent, 'response')
    response.resume()
    return [response.statusCode, response.headers['x-ratelimit-remaining']]
  }
  t.strictSame(await limitOf(client), [200, '5'])
  t.strictSame(await limitOf({}), [200, '5'], 'another consumer')
  t.strictSame(upstream.received[0]!.values('x-forwarded-proto'), ['https'])
  await eventually('the warning is written', () => /have no effect/.test(events()))
  t.match(events(), /"keys":\["listen","server.tls"\].*these keys have no effect/)
})

t.test('what cannot work is said when it is registered', async (t) => {
  const upstream = await recordingUpstream(t)
  const folder = t.testdir({ 'good.yaml': config(upstream.origin), 'bad.yaml': 'tiers: [free' })
  const good = `${folder}/good.yaml`
  const cases: [options: object, fastify: object, pattern: RegExp][] = [
    [{ config: `${folder}/bad.yaml` }, {}, /bad\.yaml:1:/],
    [{ config: `${folder}/none.yaml` }, {}, /none\.yaml/],
    [{}, {}, /the option config is missing/],
    [{ config: good, identfy: true }, {}, /unknown option "identfy"; .*identify/],
    [{ config: good }, { http2: true }, /does not serve HTTP\/1\.1/],
  ]
  for (const [options, fastify, pattern] of cases) {
    const app = Fastify(fastify)
    await t.rejects(async () => app.register(tidegate, options as TidegateOptions), { message: pattern })
    await app.close()
  }
})

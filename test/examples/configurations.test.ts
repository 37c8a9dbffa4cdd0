import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Metadata, type ServiceError, status } from '@grpc/grpc-js'
import t from 'tap'
import { WebSocket } from 'ws'
import { formatError, loadConfig } from '../../src/config/load/load.js'
import { createAuthority } from '../support/credentials/authority.js'
import { createKey, startJwksServer, tokenOf } from '../support/credentials/issuer.js'
import { eventually } from '../support/eventually.js'
import { ask, startExample, statusesOf } from '../support/gateway/example.js'
import { startBackend, tally } from '../support/gateway/process.js'
import { grpcClient, grpcUpstream } from '../support/http/grpc.js'
import { startChat } from '../support/http/websocket.js'
import { ROOT, readPage } from '../support/pages.js'

/** Starts the examples that need no store, and sees what each of them promises. */

t.jobs = 3

const ACME = { 'x-api-key': 'acme-demo-key' }

t.test('every example is in the table, begins with its schema, and is good without a warning', async (t) => {
  const files = readdirSync(join(ROOT, 'examples'), { recursive: true, encoding: 'utf8' })
  const examples = files.filter((name) => name.endsWith('.yaml'))
  t.equal(examples.length, 8)
  const table = readPage('examples/README.md')
  const { cert, key } = createAuthority(t).issue('localhost', 'DNS:localhost')
  const secret = 'at-least-thirty-two-characters-of-it'
  const env = {
    TLS_CERT: cert,
    TLS_KEY: key,
    ...Object.fromEntries(
      ['DEPLOY_TOKEN', 'SUPPORT_TOKEN', 'PROMETHEUS_TOKEN', 'ACME_SECRET'].map((name) => [
        name,
        name + secret,
      ]),
    ),
  }
  for (const name of examples) {
    const file = join(ROOT, 'examples', name)
    const text = readFileSync(file, 'utf8')
    t.ok(
      table.links.some(({ to }) => to === name),
      `examples/README.md links ${name}`,
    )
    t.ok(
      text.startsWith(
        `# yaml-language-server: $schema=${'../'.repeat(name.split('/').length)}config/schema.json\n`,
      ),
    )
    const loaded = loadConfig(text, { file, env })
    t.strictSame(loaded.ok ? loaded.warnings.map(formatError) : loaded.errors.map(formatError), [], name)
  }
})

t.test('first-quota: ten requests a minute by address, more with a key', async (t) => {
  const api = await startBackend(t)
  const { address } = await startExample(t, 'first-quota.yaml', { API_URL: api.origin })
  t.strictSame(tally(await statusesOf(12, address)), { 200: 10, 429: 2 })
  const denied = await ask(address)
  t.match(denied.headers, { 'retry-after': /^[1-9]\d*$/, ratelimit: /^"minute";r=0;t=\d+$/ })
  t.match(JSON.parse(denied.body), { code: 'quota_exceeded' })
  t.match(await ask(address, ACME), {
    status: 200,
    headers: { 'ratelimit-policy': '"second";q=5;w=1, "minute";q=100;w=60' },
  })
  t.match(await ask(address, { 'x-api-key': 'another' }), { status: 401 })
  t.equal(api.requests.length, 11)
})

t.test('jwt-plans: the token says who it is and which plan', async (t) => {
  const api = await startBackend(t)
  const key = createKey('p256', 'k1')
  const { url } = await startJwksServer(t, [key.jwk])
  const { address } = await startExample(t, 'jwt-plans.yaml', { API_URL: api.origin, JWKS_URL: url })
  const asks = (claims: object, path = '/') => {
    const exp = Math.floor(Date.now() / 1000) + 300
    const all = { iss: 'https://id.example.com', aud: 'api', exp, ...claims }
    const token = tokenOf({ alg: 'ES256', kid: 'k1' }, all, key.privateKey)
    return ask(`${address}${path}`, { authorization: `Bearer ${token}` })
  }
  const quota = async (plan: object) => {
    const { status, headers, body } = await asks({ sub: 'ann', ...plan })
    return status === 200 ? headers['ratelimit-policy'] : body
  }
  // Until the keys of the issuer are there, tokens get 503.
  await eventually('a pro has 100', async () => (await quota({ plan: 'pro' })) === '"minute";q=100;w=60')
  t.equal(await quota({}), '"minute";q=10;w=60')
  t.equal(await quota({ plan: 'unheard of' }), '"minute";q=10;w=60')
  t.match(await quota({ plan: 'enterprise' }), 'q=1000')
  t.match(api.requests[0]!.headers, { 'x-consumer-id': 'ann', 'x-consumer-tier': 'pro' })
  t.equal((await ask(address)).status, 401)
  t.equal((await asks({ sub: 'ann', aud: 'another' })).status, 401)
  t.equal((await asks({ sub: 'ann' }, '/admin/users')).status, 403)
  t.equal((await asks({ sub: 'ann', scope: 'admin' }, '/admin/users')).status, 200)
})

t.test('organisation-quotas: an organisation shares its quota, and nobody takes all of it', async (t) => {
  const api = await startBackend(t, (req, res) => {
    res.statusCode = req.url === '/exports/broken' ? 500 : 200
    res.end()
  })
  const { address } = await startExample(t, 'organisation-quotas.yaml', { API_URL: api.origin })
  const exported = (name: string) =>
    statusesOf(5, `${address}/exports/1`, { 'x-api-key': `${name}-demo-key` })
  const broken = await statusesOf(5, `${address}/exports/broken`, { 'x-api-key': 'alice-demo-key' })
  t.strictSame(tally(broken), { 500: 5 }, 'a failed export costs nothing')
  t.strictSame(tally(await exported('alice')), { 200: 4, 429: 1 }, 'her share')
  t.strictSame(tally(await exported('bob')), { 200: 4, 429: 1 })
  t.strictSame(tally(await exported('carol')), { 200: 2, 429: 3 }, 'what acme has left')
  t.strictSame(tally(await exported('dan')), { 200: 4, 429: 1 }, 'another organisation')
})

t.test('behind-cdn: the CDN says who the client is, and nobody else can', async (t) => {
  const api = await startBackend(t)
  const { address } = await startExample(t, 'behind-cdn/tidegate.yaml', { API_URL: api.origin })
  const from = (client: string, more: Record<string, string> = {}) => ({
    'cf-connecting-ip': client,
    ...more,
  })
  const minute = async (headers: Record<string, string>, localAddress = '127.0.0.1') =>
    (await ask(address, headers, { localAddress })).headers.ratelimit
  t.match(await minute(from('203.0.113.7')), '"minute";r=9')
  t.match(await minute(from('203.0.113.7')), '"minute";r=8')
  t.match(await minute(from('203.0.113.8')), '"minute";r=9', 'each client has its own quota')
  t.match(await minute(from('203.0.113.9'), '127.0.0.2'), '"minute";r=9')
  t.match(
    await minute(from('203.0.113.10'), '127.0.0.2'),
    '"minute";r=8',
    'a stranger cannot choose its address',
  )
  t.equal(api.requests.at(-1)!.headers['cf-connecting-ip'], undefined)
  t.equal((await ask(address, from('203.0.113.7', { 'cf-ipcountry': 'T1' }))).status, 403)
  t.equal((await ask(`${address}/wp-login.php`, from('203.0.113.7'))).status, 403)
  t.equal((await ask(address, from('203.0.113.7', { 'user-agent': 'sqlmap/1.8' }))).status, 403)
  const guesses = await statusesOf(25, address, from('203.0.113.66', { 'x-api-key': 'a guess' }))
  t.ok(guesses.includes(401))
  t.equal(guesses.at(-1), 403, 'who guesses keys is banned')
  t.equal((await ask(address, from('203.0.113.7', ACME))).status, 200)
})

t.test('tls-grpc-websocket: HTTPS, gRPC and WebSockets on one port, with quotas', async (t) => {
  const authority = createAuthority(t)
  const { cert, key } = authority.issue('localhost', 'DNS:localhost')
  const ca = readFileSync(authority.ca)
  const web = await startBackend(t)
  const chat = await startChat(t)
  const orders = await grpcUpstream(t, {
    unary: (call: { request: string }, done: (error: null, text: string) => void) => done(null, call.request),
    serverStream() {},
    clientStream() {},
    bidi() {},
  })
  const gateway = await startExample(t, 'tls-grpc-websocket.yaml', {
    TIDEGATE_LISTEN_HTTP: '127.0.0.1:0',
    TLS_CERT: cert,
    TLS_KEY: key,
    WEB_URL: web.origin,
    GRPC_URL: orders,
    CHAT_URL: chat.origin,
  })
  const { port } = new URL(gateway.address)
  const plain = /listens on \S+, (http:[^\s,]+)/.exec(gateway.stderr())![1]!

  const secure = await ask(`https://127.0.0.1:${port}/hello`, { host: 'localhost' }, {
    ca,
    servername: 'localhost',
  } as object)
  t.match(secure, { status: 200, headers: { 'strict-transport-security': /max-age=31536000/ } })
  t.equal(web.requests[0]!.headers['x-forwarded-proto'], 'https')
  t.match(await ask(`${plain}/hello?a=1`, { host: 'localhost' }), {
    status: 308,
    headers: { location: 'https://localhost:8443/hello?a=1' },
  })

  const client = grpcClient(t, Number(port), authority.ca)
  const call = (metadata: Metadata) =>
    new Promise<string | number>((resolve) => {
      const answered = (error: ServiceError | null, text?: string) => resolve(error?.code ?? text!)
      client.unary('hello', metadata, {}, answered)
    })
  const calls: (string | number)[] = []
  for (let i = 0; i < 4; i++) calls.push(await call(new Metadata()))
  t.strictSame(calls, ['hello', 'hello', 'hello', status.RESOURCE_EXHAUSTED])
  const acme = new Metadata()
  acme.set('x-api-key', ACME['x-api-key'])
  t.equal(await call(acme), 'hello', 'a key in the metadata')

  const socket = new WebSocket(`wss://localhost:${port}/chat/room`, { ca, headers: ACME, family: 4 })
  t.teardown(() => socket.terminate())
  const echo = await new Promise<string>((resolve, reject) => {
    socket.on('open', () => socket.send('hello'))
    socket.on('message', (data) => resolve(String(data)))
    socket.on('error', reject)
  })
  t.equal(echo, 'hello')
})

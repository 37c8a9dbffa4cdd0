// Tests src/config/snapshot/doors.ts src/gateway/listen/{doors,redirect}.ts src/gateway/exchange/tls-info.ts
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { type Agent, createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { loadConfig } from '../../src/config/load/load.js'
import { openDoors } from '../../src/gateway/listen/doors.js'
import { startGateway } from '../../src/main.js'
import { createAuthority } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startProcess } from '../support/gateway/process.js'
import { http2Client } from '../support/http/http2-client.js'
import { openRaw, rawOn, rawRequest } from '../support/http/raw.js'
import { type RecordingUpstream, recordingUpstream } from '../support/http/upstream.js'
import { scratchFolder } from '../support/scratch.js'
import { sampleOf } from '../support/telemetry/exposition.js'

const authority = createAuthority(t)
const first = authority.issue('first', 'DNS:localhost')
const second = authority.issue('second', 'DNS:localhost')

const HSTS = 'strict-transport-security'

function configOf(upstream: RecordingUpstream, listen: string, server = '', extra = ''): string {
  return `
listen:${listen}
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services:
  a: { upstreams: ["${upstream.origin}"], limits: { free: 1000/min } }
  none: { upstreams: ["${upstream.origin}"], limits: { free: 1/day } }
routes:
  - { path: /*, service: a }
  - { path: /once, service: none }
  - { path: /own, respond: { status: 200, body: hello } }
  - { path: /route, service: a, headers: { response: { set: { strict-transport-security: max-age=1 } } } }
log: { access: off, level: silent }
server: { shutdown_delay: 0s${server} }
${extra}
`
}

async function start(t: Test, yaml: string) {
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const gateway = await startGateway({ configFile: file })
  t.teardown(() => gateway.close(0))
  return gateway
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly subject: string | undefined
}

/** Asks over TCP, TLS, or a unix socket. */
function ask(address: string, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  const isTls = address.startsWith('https:')
  const at = address.startsWith('unix:')
    ? { socketPath: address.slice(5) }
    : { host: new URL(address).hostname.replace(/^\[|\]$/g, ''), port: new URL(address).port }
  const options = { ...at, path, headers, agent: false as unknown as Agent, rejectUnauthorized: false }
  return new Promise((resolve, reject) => {
    const req = (isTls ? httpsRequest : httpRequest)(options, (res) => {
      const certificate = isTls
        ? (res.socket as import('node:tls').TLSSocket).getPeerX509Certificate()
        : undefined
      res
        .resume()
        .on('end', () =>
          resolve({ status: res.statusCode!, headers: res.headers, subject: certificate?.subject }),
        )
    })
    req.on('error', reject).end()
  })
}

const tlsOf = (pair: object, more = '') => `{ certificates: [${JSON.stringify(pair)}]${more} }`

t.test('each address of a list has its own TLS, and all serve the same', async (t) => {
  const upstream = await recordingUpstream(t)
  const listen = `
  - { address: "localhost:0", redirect: https }
  - { address: "127.0.0.1:0", tls: true }
  - { address: ":0", tls: ${tlsOf(second)} }
  - { address: "127.0.0.1:0", tls: false }`
  const yaml = configOf(upstream, listen, `, tls: ${tlsOf(first)}`)
  const gateway = await start(t, yaml)
  t.equal(gateway.address, gateway.addresses[0], 'one that serves')
  t.match(gateway.addresses, [/^https:\/\/127/, /^https:\/\/(\[::\]|0\.0\.0\.0):/, /^http:\/\/127/, /^http:/])
  const [a, b, plain, redirects] = gateway.addresses as [string, string, string, string]
  t.match(await ask(a, '/x'), { status: 200, subject: 'CN=first' })
  const all = b.replace('[::]', '127.0.0.1').replace('0.0.0.0', '127.0.0.1')
  t.match(await ask(all, '/x'), { status: 200, subject: 'CN=second' })
  t.match(await ask(plain, '/x'), { status: 200, subject: undefined })
  t.match(await ask(redirects, '/x?y=1', { host: 'api.example:80' }), {
    status: 308,
    headers: { location: 'https://api.example/x?y=1' },
  })
  t.equal(upstream.received.length, 3)
  t.same(
    upstream.received.map(({ values }) => values('x-forwarded-proto')[0]),
    ['https', 'https', 'http'],
  )
  const metrics = await request(`${gateway.adminAddress}/metrics`).then(({ body }) => body.text())
  for (const { cert } of [first, second]) {
    t.ok(metrics.includes(`certificate="${cert}"`), 'the metrics have the certificates of all addresses')
  }
  const dir = t.testdir({ 'tidegate.yaml': yaml })
  const checked = await tidegate(['check', '--config', join(dir, 'tidegate.yaml')])
  t.match(checked.stdout, /listen +127\.0\.0\.1:0, TLSv1\.2 or later, 1 certificate\n +\[::\]:0, TLSv1\.2/)
  t.match(checked.stdout, /localhost:0, redirects to https\n/)
  const bad = yaml.replace(`${second.cert}`, `${first.cert}`)
  writeFileSync(join(dir, 'tidegate.yaml'), bad)
  t.match(
    (await tidegate(['check', '--config', join(dir, 'tidegate.yaml')])).stderr,
    /listen\[2\]\.tls\.certificates\[0\]/,
  )
  await t.rejects(startGateway({ configFile: join(dir, 'tidegate.yaml') }), {
    message: /tidegate\.yaml: listen\[2\]\.tls\.certificates\[0\]/,
  })
})

t.test('all addresses accept connections with the options of the first', async (t) => {
  const upstream = await recordingUpstream(t)
  const yaml = configOf(upstream, '\n  - { address: "127.0.0.1:0" }\n  - { address: "127.0.0.1:0" }')
  const loaded = loadConfig(yaml, { file: 'tidegate.yaml', env: {} })
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.errors))
  const { entrance } = await openDoors(loaded.config, 'tidegate.yaml', {
    log: { info() {}, warn() {}, error() {} },
    onReload() {},
  })
  const http = createServer({ highWaterMark: 65_536 })
  for (const key of ['allowHalfOpen', 'noDelay', 'highWaterMark'])
    t.equal(Reflect.get(entrance.further[0]!.server, key), Reflect.get(http, key), key)
})

t.test('a redirect keeps method, host and target, whatever the client sends', async (t) => {
  const upstream = await recordingUpstream(t)
  const listen = '\n  - { address: "127.0.0.1:0" }\n  - { address: "127.0.0.1:0", redirect: "https:8443" }'
  const gateway = await start(t, configOf(upstream, listen, ', header_timeout: 1s'))
  const port = Number(new URL(gateway.addresses[1]!).port)
  const sent = async (bytes: string) => {
    const raw = await openRaw(port)
    raw.write(bytes)
    await raw.closed()
    return raw.responses()
  }
  const located = async (bytes: string) => {
    const answers = await sent(bytes)
    t.equal(answers.length, 1, 'the connection ends with its first response')
    t.equal(answers[0]!.header('connection'), 'close')
    return answers[0]!.status === 308 ? answers[0]!.header('location') : answers[0]!.status
  }
  t.equal(await located(rawRequest('GET /a/../b?c')), 'https://gateway.example:8443/a/../b?c')
  t.equal(await located(`GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n`), 'https://[2001:db8::1]:8443/')
  t.equal(await located(`GET http://x.example HTTP/1.1\r\nHost: y\r\n\r\n`), 'https://x.example:8443/')
  t.equal(await located(`GET http://x.example/a HTTP/1.1\r\nHost: y\r\n\r\n`), 'https://x.example:8443/a')
  t.equal(await located(rawRequest('POST /a', 'Content-Length: 100000')), 'https://gateway.example:8443/a')
  t.equal(await located(rawRequest('GET /a', 'Expect: 100-continue')), 'https://gateway.example:8443/a')
  t.equal(
    await located(rawRequest('GET /a', 'Connection: upgrade', 'Upgrade: websocket')),
    'https://gateway.example:8443/a',
  )
  for (const host of ['', 'a b', 'a/b', 'user@a', 'a:x', '[::', 'a?b']) {
    t.equal(await located(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`), 400, `Host: ${host}`)
  }
  t.equal(await located('GET / HTTP/1.1\r\n\r\n'), 400, 'no Host')
  t.equal(await located('GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'), 400, 'two of them')
  const waits = await openRaw(port)
  waits.write(rawRequest('POST /a', 'Content-Length: 1', 'Expect: 100-continue'))
  await waits.closed()
  t.match(waits.received(), /^HTTP\/1\.1 308 /, 'no body is asked for in plain text')
  t.equal(await located('OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n'), 400)
  t.same(
    (await sent('nonsense\r\n\r\n')).map(({ status }) => status),
    [400],
  )
  t.same(await sent('CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n'), [])
  const silent = await openRaw(port)
  await eventually('the connection is counted', async () => {
    const { body } = await request(`${gateway.adminAddress}/metrics`)
    return (sampleOf(await body.text(), 'tidegate_connections') ?? 0) >= 1
  })
  await silent.closed()
  t.pass('a connection without a request ends after server.header_timeout')
  t.equal(upstream.received.length, 0)
})

t.test('Strict-Transport-Security is in every response over TLS, once, and in no other', async (t) => {
  const upstream = await recordingUpstream(t, (req, res) => {
    if (req.url === '/theirs') res.setHeader(HSTS, 'max-age=7')
    res.end('ok')
  })
  const more = ', hsts: { max_age: 365d, include_subdomains: true, preload: true }'
  const listen = `
  - { address: "127.0.0.1:0", tls: ${tlsOf(first, more)} }
  - { address: "127.0.0.1:0", tls: ${tlsOf(first, ', hsts: 1d')} }
  - { address: "127.0.0.1:0", tls: ${tlsOf(first)} }
  - { address: "127.0.0.1:0" }`
  const gateway = await start(t, configOf(upstream, listen, ', http2: true'))
  const [full, short, without, plain] = gateway.addresses as [string, string, string, string]
  const wanted = 'max-age=31536000; includeSubDomains; preload'
  const of = async (address: string, path: string) => {
    const { headers } = await ask(address, path)
    return headers[HSTS]
  }
  await ask(plain, '/once')
  for (const path of ['/a', '/own', '/once', '/a/%', '/%2f..']) t.equal(await of(full, path), wanted, path)
  t.equal(await of(full, '/theirs'), 'max-age=7', 'that of the upstream stays')
  t.equal(await of(full, '/route'), 'max-age=1', 'that of the route stays')
  t.equal(await of(short, '/a'), 'max-age=86400')
  for (const path of ['/a', '/own', '/once']) {
    t.equal(await of(without, path), undefined)
    t.equal(await of(plain, path), undefined)
  }
  const client = await http2Client(t, full, { rejectUnauthorized: false })
  for (const path of ['/a', '/own', '/once']) t.equal((await client.ask(path)).headers[HSTS], wanted)
})

t.test('a unix socket serves, has its mode, and is gone at the end', async (t) => {
  const upstream = await recordingUpstream(t)
  const path = join(scratchFolder(t, 'tg-'), 't.sock')
  const listen = `\n  - { unix: "${path}", mode: 0600 }\n  - { address: "127.0.0.1:0" }`
  const yaml = configOf(upstream, listen, '', 'trusted_proxies: [unix]')
  const gateway = await start(t, yaml)
  t.equal(gateway.address, `unix:${path}`)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.match(await ask(gateway.address, '/x', { 'x-forwarded-for': '192.0.2.1' }), { status: 200 })
  t.same(upstream.received.at(-1)!.values('x-forwarded-for'), ['192.0.2.1, unix'])
  t.match(await ask(gateway.address, '/x'), { status: 200 })
  t.same(upstream.received.at(-1)!.values('x-forwarded-for'), ['unix'])
  await ask(gateway.addresses[1]!, '/x', { 'x-forwarded-for': '192.0.2.1, unix' })
  t.same(upstream.received.at(-1)!.values('x-forwarded-for'), ['127.0.0.1'], 'nobody else is believed')
  await t.rejects(start(t, yaml), { message: `${path} (listen[0] in` })
  t.ok(existsSync(path), 'a second gateway does not take the socket away')
  const raw = rawOn(connect(path))
  raw.write(rawRequest('GET /x'))
  await raw.until('the response', () => raw.responses().length === 1)
  await gateway.close(0)
  await raw.closed()
  t.notOk(existsSync(path))
})

t.test('without trust, a client of a unix socket cannot choose its address', async (t) => {
  const upstream = await recordingUpstream(t)
  const path = join(scratchFolder(t, 'tg-'), 't.sock')
  const gateway = await start(t, configOf(upstream, `\n  - { unix: "${path}" }`, ', proxy_protocol: false'))
  t.equal(statSync(path).mode & 0o777, 0o660)
  await ask(gateway.address, '/x', { 'x-forwarded-for': '192.0.2.1' })
  t.same(upstream.received.at(-1)!.values('x-forwarded-for'), ['unix'])
})

t.test('a unix socket can carry the PROXY protocol', async (t) => {
  const upstream = await recordingUpstream(t)
  const path = join(scratchFolder(t, 'tg-'), 't.sock')
  const server = ', proxy_protocol: true'
  await start(t, configOf(upstream, `\n  - { unix: "${path}" }`, server, 'trusted_proxies: [unix]'))
  for (const [header, client] of [
    ['PROXY TCP4 192.0.2.9 127.0.0.1 1 2\r\n', '192.0.2.9'],
    ['PROXY UNKNOWN\r\n', '0.0.0.0'],
    ['\r\n\r\n\0\r\nQUIT\n\x20\0\0\0', 'unix'],
  ] as const) {
    const raw = rawOn(connect(path))
    raw.write(header + rawRequest('GET /x'))
    await raw.until('the response', () => raw.responses().length === 1)
    t.same(upstream.received.at(-1)!.values('x-forwarded-for'), [client])
    raw.socket.destroy()
  }
})

t.test('workers share all addresses, and a new generation takes them over', async (t) => {
  const upstream = await recordingUpstream(t)
  const path = join(scratchFolder(t, 'tg-'), 't.sock')
  const listen = `
  - { address: "127.0.0.1:0" }
  - { unix: "${path}" }
  - { address: "127.0.0.1:0", redirect: https }`
  const gateway = await startProcess(
    t,
    configOf(upstream, listen).replace('level: silent', 'level: info'),
    {},
    ['--workers', '2'],
  )
  const line = /listens on (\S+), (\S+), (\S+), admin on (\S+), /.exec(gateway.stderr())!
  const [, plain, unix, redirects] = line as unknown as [string, string, string, string]
  t.equal(unix, `unix:${path}`)
  const serves = async () => {
    for (const address of [plain, unix]) t.match(await ask(address, '/x'), { status: 200 })
    t.match(await ask(redirects, '/x'), { status: 308 })
  }
  await serves()
  gateway.child.kill('SIGUSR2')
  await eventually(
    'all workers are new',
    () => gateway.stderr().includes('restarted: all workers are new'),
    60_000,
  )
  await serves()
  t.equal(await gateway.stop(), 0)
  t.notOk(existsSync(path))
})

t.test('the socket of a killed process is replaced; a file is not', async (t) => {
  const upstream = await recordingUpstream(t)
  const path = join(scratchFolder(t, 'tg-'), 't.sock')
  const yaml = configOf(upstream, `\n  - { unix: "${path}" }`)
  const killed = await startProcess(t, yaml)
  killed.child.kill('SIGKILL')
  await once(killed.child, 'exit')
  t.ok(existsSync(path))
  const gateway = await start(t, yaml)
  t.match(await ask(gateway.address, '/x'), { status: 200 })
  const file = join(path, '..', 'file')
  writeFileSync(file, 'kept')
  await t.rejects(start(t, configOf(upstream, `\n  - { unix: "${file}" }`)), {
    message: /file \(listen\[0\] in .* is taken/,
  })
  t.ok(statSync(file).isFile())
})

// Tests src/config/snapshot/transport.ts
import { once } from 'node:events'
import { copyFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { openConfig, type ReloadEvent } from '../../src/config/load/reload.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { startGateway } from '../support/gateway/gateway.js'

const authority = createAuthority(t)
const stranger = createAuthority(t)
const issued = authority.issue('upstream', 'DNS:upstream.internal,IP:127.0.0.1')
const named = authority.issue('upstream', 'DNS:upstream.internal')
const client = authority.issue('gateway')

interface Secure {
  readonly port: number
  readonly server: Server
  /** By request: the server name asked for, the client certificate's subject, the Host. */
  readonly seen: { servername: string | false; subject: string | undefined; host: string | undefined }[]
  connections(): number
}

async function startSecure(t: Test, options: ServerOptions = {}): Promise<Secure> {
  const seen: Secure['seen'][number][] = []
  let connections = 0
  const server = createServer({ ...pairOf(issued), ...options }, (req, res) => {
    const socket = req.socket as TLSSocket & { servername: string | false }
    const subject = socket.getPeerCertificate().subject?.CN
    seen.push({ servername: socket.servername, subject: String(subject), host: req.headers.host })
    res.end('secret')
  })
  server.on('secureConnection', () => connections++)
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { port, server, seen, connections: () => connections }
}

function config(port: number, tls: string, more = ''): string {
  return `
tiers: [free]
services:
  bank: { upstreams: ["https://127.0.0.1:${port}"]${tls === '' ? '' : `, tls: { ${tls} }`} }
${more}
routes:
  - { path: /bank/*, service: bank, websocket: true }
  ${more === '' ? '' : '- { path: /other/*, service: other, preserve_host: true }'}
`
}

t.test("an upstream with a certificate of the service's CA is reached over TLS", async (t) => {
  const upstream = await startSecure(t)
  const gateway = await startGateway(t, config(upstream.port, `ca: ${authority.ca}`))
  const response = await fetch(`${gateway.origin}/bank/1`)
  t.same([response.status, await response.text()], [200, 'secret'])
  t.same(upstream.seen, [{ servername: false, subject: 'undefined', host: `127.0.0.1:${upstream.port}` }])
  t.match(gateway.records[0]?.upstream, { origin: `https://127.0.0.1:${upstream.port}` })
})

t.test('an upstream that cannot be verified gets nothing, and the 502 names no file', async (t) => {
  const upstream = await startSecure(t)
  const other = await startSecure(t, pairOf(named))
  for (const [what, port, tls, cause] of [
    ['public CAs alone', upstream.port, '', /^(UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN)/],
    ['another CA', upstream.port, `ca: ${stranger.ca}`, /^UNABLE_TO_VERIFY_LEAF_SIGNATURE/],
    [
      'an address that the certificate lacks',
      other.port,
      `ca: ${authority.ca}`,
      /^ERR_TLS_CERT_ALTNAME_INVALID/,
    ],
    [
      'a name that it lacks',
      other.port,
      `ca: ${authority.ca}, server_name: evil.internal`,
      /^ERR_TLS_CERT_ALTNAME_INVALID/,
    ],
  ] as const) {
    const gateway = await startGateway(t, config(port, tls))
    const response = await fetch(`${gateway.origin}/bank/1`, { method: 'POST', body: 'card=4111' })
    const problem = (await response.json()) as { code: string; detail: string }
    t.same([response.status, problem.code], [502, 'upstream_tls_failed'], what)
    t.notMatch(problem.detail, /127\.|CERT|internal/, what)
    t.match(gateway.records[0]?.cause, cause, what)
  }
  t.same([upstream.seen, other.seen], [[], []])
})

t.test('server_name sets the SNI and the name that is verified, whatever Host a client sends', async (t) => {
  const upstream = await startSecure(t, pairOf(named))
  const tls = `ca: ${authority.ca}, server_name: upstream.internal`
  const more = `  other: { upstreams: ["https://127.0.0.1:${upstream.port}"], tls: { ${tls} } }`
  const gateway = await startGateway(t, config(upstream.port, tls, more))
  const { request } = await import('undici')
  for (const host of ['a.example', 'evil.internal', '10.1.2.3']) {
    const { statusCode, body } = await request(`${gateway.origin}/other/1`, { headers: { host } })
    t.same([statusCode, await body.text()], [200, 'secret'])
  }
  t.same(
    upstream.seen.map(({ servername, host }) => [servername, host]),
    ['a.example', 'evil.internal', '10.1.2.3'].map((host) => ['upstream.internal', host]),
  )
  t.equal(upstream.connections(), 1, 'and on one connection')
})

t.test('verify: false accepts any certificate', async (t) => {
  const upstream = await startSecure(t, pairOf(named))
  const gateway = await startGateway(t, config(upstream.port, 'verify: false'))
  t.equal((await fetch(`${gateway.origin}/bank/1`)).status, 200)
})

t.test('TLS below 1.2 is refused', async (t) => {
  const upstream = await startSecure(t, {
    maxVersion: 'TLSv1.1',
    minVersion: 'TLSv1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  })
  const gateway = await startGateway(t, config(upstream.port, 'verify: false'))
  const response = await fetch(`${gateway.origin}/bank/1`)
  t.match(await response.json(), { status: 502 })
  t.same(upstream.seen, [])
})

t.test('a service never uses a connection that another made under laxer rules', async (t) => {
  const upstream = await startSecure(t)
  const more = `  other: { upstreams: ["https://127.0.0.1:${upstream.port}"], tls: { verify: false } }`
  const gateway = await startGateway(t, config(upstream.port, `ca: ${stranger.ca}`, more))
  for (const [path, status] of [
    ['other', 200],
    ['bank', 502],
    ['other', 200],
    ['bank', 502],
  ] as const) {
    const response = await fetch(`${gateway.origin}/${path}/1`)
    await response.arrayBuffer()
    t.equal(response.status, status, path)
  }
})

t.test("an upstream that asks for a certificate gets the service's", async (t) => {
  const upstream = await startSecure(t, {
    ca: pairOf({ cert: authority.ca, key: authority.ca }).cert,
    requestCert: true,
  })
  const pair = `ca: ${authority.ca}, cert: ${client.cert}, key: ${client.key}`
  const gateway = await startGateway(t, config(upstream.port, pair))
  t.equal((await fetch(`${gateway.origin}/bank/1`)).status, 200)
  t.match(upstream.seen, [{ subject: 'gateway' }])
  const without = await startGateway(t, config(upstream.port, `ca: ${authority.ca}`))
  t.match(await (await fetch(`${without.origin}/bank/1`)).json(), { status: 502 })
  t.equal(upstream.seen.length, 1)
})

t.test('a renewed client certificate is noticed, and new connections present it', async (t) => {
  const folder = t.testdir()
  const [cert, key] = [join(folder, 'gateway.pem'), join(folder, 'gateway.key')]
  const use = (issued: typeof client) => {
    copyFileSync(issued.cert, cert)
    copyFileSync(issued.key, key)
  }
  use(client)
  const upstream = await startSecure(t, {
    ca: pairOf({ cert: authority.ca, key: authority.ca }).cert,
    requestCert: true,
  })
  const text = config(upstream.port, `ca: ${authority.ca}, cert: ${cert}, key: ${key}`)
  const file = join(folder, 'tidegate.yaml')
  writeFileSync(file, text)
  const events: ReloadEvent[] = []
  const source = await openConfig({ file, env: {}, stableMs: 20, onReload: (event) => events.push(event) })
  t.teardown(() => source.close())
  const gateway = await startGateway(t, text)
  t.equal((await fetch(`${gateway.origin}/bank/1`)).status, 200)

  use(authority.issue('gateway-renewed'))
  await eventually('the reload', () => events.some(({ result }) => result === 'applied'))
  t.match(source.status().changed, [
    /^services\.bank\.tls\.cert: .*gateway\.pem \([0-9a-f]{8}\) -> .*gateway\.pem \([0-9a-f]{8}\)$/,
    /^services\.bank\.tls\.key: /,
  ])
  gateway.use(text)
  t.equal((await fetch(`${gateway.origin}/bank/1`)).status, 200)
  t.same(
    upstream.seen.map(({ subject }) => subject),
    ['gateway', 'gateway-renewed'],
  )

  const known = events.length
  writeFileSync(key, 'half a ke')
  const refusal = () => events.slice(known).find(({ result }) => result === 'rejected')
  await eventually('the refusal', () => refusal() !== undefined)
  t.match(refusal(), { result: 'rejected', messages: [/services\.bank\.tls\.key: .* contains no PEM/] })
})

t.test('WebSockets reach TLS upstreams, verified by the same rules', async (t) => {
  const upstream = await startSecure(t)
  const chat = new WebSocketServer({ server: upstream.server })
  chat.on('connection', (socket) => socket.on('message', (data) => socket.send(`${data}!`)))
  const gateway = await startGateway(t, config(upstream.port, `ca: ${authority.ca}`))
  const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/bank/room`)
  await once(socket, 'open')
  socket.send('hello')
  t.equal(String((await once(socket, 'message'))[0]), 'hello!')
  socket.close()
  await once(socket, 'close')

  const wary = await startGateway(t, config(upstream.port, `ca: ${stranger.ca}`))
  const refused = new WebSocket(`ws://127.0.0.1:${wary.port}/bank/room`)
  const [, response] = await once(refused, 'unexpected-response')
  t.equal(response.statusCode, 502)
  refused.on('error', () => {})
  refused.terminate()
  await wary.recorded(1)
  t.match(wary.records[0], { status: 502, error: 'upstream_tls_failed', cause: /^UNABLE_TO_VERIFY/ })
})

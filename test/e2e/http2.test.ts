import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServerDuplexStream } from '@grpc/grpc-js'
import t from 'tap'
import { Agent, request } from 'undici'
import { WebSocket, WebSocketServer } from 'ws'
import { startGateway } from '../../src/main.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { grpcClient, grpcUpstream } from '../support/http/grpc.js'
import { http2Client } from '../support/http/http2-client.js'
import { recordingUpstream } from '../support/http/upstream.js'

const authority = createAuthority(t)
const own = authority.issue('gateway', 'IP:127.0.0.1,DNS:localhost')
const acme = authority.issue('acme')
const ca = readFileSync(authority.ca, 'utf8')

async function start(services: string, routes: string) {
  const file = join(t.testdir(), 'tidegate.yaml')
  writeFileSync(
    file,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
consumers:
  - client_certificate: {}
  - ip: {}
services: { ${services} }
routes: [${routes}]
server:
  http2: true
  tls:
    certificates: [{ cert: ${own.cert}, key: ${own.key} }]
    client_ca: ${authority.ca}
    client_certificate: optional
log: { access: off, level: silent }
`,
  )
  const gateway = await startGateway({ configFile: file })
  t.teardown(() => gateway.close(0))
  return gateway
}

t.test(
  'one TLS port serves HTTP/2, HTTP/1.1 and WebSocket, and identifies consumers by client certificate',
  async (t) => {
    const upstream = await recordingUpstream(t)
    const chat = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    await once(chat, 'listening')
    t.teardown(() => chat.close())
    chat.on('connection', (socket) => socket.on('message', (data) => socket.send(`${data}!`)))
    const { port } = chat.address() as { port: number }
    const gateway = await start(
      `api: { upstreams: [${upstream.origin}], limits: { free: 1/min } }, chat: { upstreams: ["http://127.0.0.1:${port}"] }`,
      '{ path: /api, service: api }, { path: /chat, service: chat, websocket: true }',
    )
    const known = await http2Client(t, gateway.address, { ca, ...pairOf(acme) })
    t.equal(known.session.alpnProtocol, 'h2')
    t.equal((await known.ask('/api')).status, 200)
    t.equal((await known.ask('/api')).status, 429, 'acme has used up what is its own')
    t.same(upstream.received[0]?.values('x-forwarded-proto'), ['https'])

    const agent = new Agent({ connect: { ca } })
    t.teardown(() => agent.destroy())
    const plain = await request(`${gateway.address}/api`, { dispatcher: agent })
    t.same(
      [plain.statusCode, await plain.body.text()],
      [200, 'ok'],
      'a client without a certificate is another consumer',
    )

    const socket = new WebSocket(`${gateway.address.replace('https', 'wss')}/chat`, { ca })
    await once(socket, 'open')
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), 'hello!')
    socket.terminate()

    const metrics = await (await fetch(`${gateway.adminAddress}/metrics`)).text()
    t.match(metrics, /^tidegate_http2_connections 1$/m)
    t.match(metrics, /^tidegate_http2_aborted_total\{reason="resets"\} 0$/m)
  },
)

t.test('gRPC works over TLS, and a drain lets an open call finish', async (t) => {
  const origin = await grpcUpstream(t, {
    unary: () => {},
    serverStream: () => {},
    clientStream: () => {},
    bidi(call: ServerDuplexStream<string, string>) {
      call.on('data', (text: string) => call.write(`${text}?`))
      call.on('end', () => call.end())
    },
  })
  const gateway = await start(
    `echo: { upstreams: ["${origin}"], protocol: http2 }`,
    '{ path: /test.Echo/*, service: echo }',
  )
  const client = grpcClient(t, Number(new URL(gateway.address).port), authority.ca)
  const call = client.bidi()
  call.write('one')
  t.same(await once(call, 'data'), ['one?'])
  let closed = false
  const closing = gateway.close(0).then(() => {
    closed = true
  })
  call.write('two')
  t.same(await once(call, 'data'), ['two?'], 'goes on')
  t.equal(closed, false)
  call.end()
  const [{ code }] = await once(call, 'status')
  t.equal(code, 0)
  await closing
  await eventually('it has left', () => closed)
})

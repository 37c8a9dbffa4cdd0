import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import { startGateway } from '../support/gateway.js'
import { openRaw, rawExchange } from '../support/raw.js'

/** Every hook of a test waits for what happens, not for time; this is for what must not happen. */
const A_WHILE = 150

function config(upstreams: readonly string[], { websocket = 'true', more = '' } = {}): string {
  return `
tiers: [free, pro]
consumers:
  - api_key: { keys: [{ key: secret-of-alice, consumer: alice, tier: free }] }
  - header: { name: x-user-id }
services:
  chat:
    upstreams: [${upstreams.join(', ')}]
    limits: { free: 10/min, pro: unlimited }
  plain: { upstreams: [${upstreams.join(', ')}] }
routes:
  - { path: /chat/*, service: chat, strip_prefix: /chat, websocket: ${websocket} }
  - { path: /plain/*, service: plain }
${more}`
}

const ALICE = { 'x-api-key': 'secret-of-alice' }
const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

interface Chat {
  readonly origin: string
  readonly server: WebSocketServer
  readonly handshakes: IncomingMessage[]
}

/** A real WebSocket server that echoes, unless told otherwise. */
async function startChat(
  t: Test,
  serve: (socket: WebSocket) => void = (socket) =>
    void socket.on('message', (data, binary) => socket.send(data, { binary })),
  options: ServerOptions = {},
): Promise<Chat> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options })
  await once(server, 'listening')
  const handshakes: IncomingMessage[] = []
  server.on('connection', (socket, request) => {
    handshakes.push(request)
    socket.on('error', () => {})
    serve(socket)
  })
  t.teardown(() => {
    for (const client of server.clients) client.terminate()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, handshakes }
}

function dial(port: number, path = '/chat/room', headers: Record<string, string> = ALICE, protocols: string[] = []) {
  return new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, { headers, perMessageDeflate: false })
}

async function opened(port: number, ...rest: [path?: string, headers?: Record<string, string>, protocols?: string[]]) {
  const socket = dial(port, ...rest)
  await once(socket, 'open')
  return socket
}

t.test('what a client sends comes back through the tunnel', async (t) => {
  const chat = await startChat(t)
  const gateway = await startGateway(t, config([chat.origin]))
  const socket = await opened(gateway.port)
  socket.send('hello')
  const [text] = await once(socket, 'message')
  t.equal(String(text), 'hello')
  socket.close(1000)
  const [code] = await once(socket, 'close')
  t.equal(code, 1000)
  await gateway.recorded(1)
  t.match(gateway.records[0], { status: 101, error: undefined })
})

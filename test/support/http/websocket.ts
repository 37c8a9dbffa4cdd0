import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import { eventually } from '../eventually.js'
import type { TestGateway } from '../gateway/gateway.js'
import type { RawConnection } from './raw.js'

export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
export const ACCEPT = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
export const SWITCHING = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n\r\n`

/** Returns the bytes of a handshake; a field given as undefined is left out. */
export function handshake(
  path: string,
  changes: Readonly<Record<string, string | undefined>> = {},
  line = `GET ${path} HTTP/1.1`,
): string {
  const fields = {
    Host: 'gateway',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': KEY,
    ...changes,
  }
  const lines = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}`],
  )
  return `${[line, ...lines].join('\r\n')}\r\n\r\n`
}

export interface Chat {
  readonly origin: string
  readonly server: WebSocketServer
  /** Requests of the handshakes that it accepted. */
  readonly handshakes: IncomingMessage[]
  /** Its ends of the tunnels. */
  readonly sockets: WebSocket[]
}

/** Starts a real WebSocket server on a free port. It echoes, unless told otherwise. */
export async function startChat(
  t: Test,
  serve: (socket: WebSocket) => void = (socket) =>
    void socket.on('message', (data, binary) => socket.send(data, { binary })),
  options: ServerOptions = {},
): Promise<Chat> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options })
  await once(server, 'listening')
  const handshakes: IncomingMessage[] = []
  const sockets: WebSocket[] = []
  server.on('connection', (socket, request) => {
    handshakes.push(request)
    sockets.push(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  t.teardown(() => {
    for (const client of server.clients) client.terminate()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, handshakes, sockets }
}

/** An upstream below HTTP: it remembers every byte, and a test writes the answer. */
export interface BareUpstream {
  readonly origin: string
  /** Returns all bytes that came, over all connections, one character a byte. */
  received(): string
  readonly sockets: Socket[]
  /** Returns the number of open connections. */
  open(): number
}

/** @param answer called once a connection, with the header that came */
export async function startBare(
  t: Test,
  answer: (socket: Socket, head: string) => void = () => {},
): Promise<BareUpstream> {
  const sockets: Socket[] = []
  let text = ''
  let open = 0
  const server = createServer((socket) => {
    sockets.push(socket)
    open++
    let head = ''
    let answered = false
    socket.on('error', () => {})
    socket.on('close', () => open--)
    socket.on('data', (data) => {
      text += data.toString('latin1')
      head += data.toString('latin1')
      if (answered || !head.includes('\r\n\r\n')) return
      answered = true
      answer(socket, head)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, received: () => text, sockets, open: () => open }
}

export const ALICE = { 'X-Api-Key': 'secret-of-alice' }

/** `/chat` has a quota of 10 a minute, `/free` has none; `/plain` takes no WebSocket. */
export function chatConfig(origins: readonly string[], websocket = 'true', more = ''): string {
  const upstreams = `[${origins.join(', ')}]`
  return `
tiers: [free, pro]
consumers:
  - api_key: { keys: [{ key: secret-of-alice, consumer: alice, tier: free }] }
  - header: { name: x-user-id, from: anyone }
services:
  chat:
    upstreams: ${upstreams}
    limits: { free: 10/min, pro: unlimited }
  free: { upstreams: ${upstreams} }
routes:
  - { path: /chat/*, service: chat, strip_prefix: /chat, websocket: ${websocket} }
  - { path: /free/*, service: free, websocket: ${websocket} }
  - { path: /plain/*, service: chat }
${more}`
}

export function dial(port: number, path = '/free/room', protocols: readonly string[] = []): WebSocket {
  const options = { headers: ALICE, perMessageDeflate: false }
  return new WebSocket(`ws://127.0.0.1:${port}${path}`, [...protocols], options)
}

export async function opened(...args: Parameters<typeof dial>): Promise<WebSocket> {
  const socket = dial(...args)
  await once(socket, 'open')
  return socket
}

/** @throws if the socket is closed already: its event would never come */
export async function closeOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  if (socket.readyState === WebSocket.CLOSED) throw new Error('the socket was closed before the test looked')
  const [code, reason] = await once(socket, 'close')
  return { code, reason: String(reason) }
}

/** A client's answer to a Close 1001: masked, with a mask of zeros. */
export const CLIENT_CLOSE = '\x88\x82\0\0\0\0\x03\xe9'

/** Waits for a Close frame, answers it and waits for the end, as a client does. A client that does not answer is cut only after 2 s. */
export async function answerClose(raw: RawConnection, close: string): Promise<void> {
  await raw.until('Close', () => raw.received().endsWith(close))
  raw.socket.end(CLIENT_CLOSE, 'latin1')
  await raw.closed()
}

/** Begins a drain. Resolves once every tunnel knows of it; `closed` resolves when the last tunnel has ended. */
export async function beginDrain(gateway: TestGateway): Promise<{ closed: Promise<void> }> {
  const closed = gateway.app.close()
  // Fastify stops listening right after the hook that tells the tunnels.
  await eventually('the drain has begun', () => !gateway.app.server.listening)
  return { closed }
}

/** Resolves when the gateway holds nothing of finished requests. */
export function quiet(gateway: TestGateway): Promise<void> {
  return eventually('nothing is watched', () => gateway.watchdog.size() === 0)
}

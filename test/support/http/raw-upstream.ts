import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** A request as bytes. Grows until it is complete. */
export interface RawRequest {
  readonly method: string
  readonly target: string
  /** Request line and header as text, without the empty line. */
  readonly head: string
  /** Names and values as on the wire, in order. */
  readonly fields: readonly (readonly [string, string])[]
  /** Body without chunk framing, one character a byte. */
  body: string
  complete: boolean
  /** True once the connection has ended, from either side. */
  closed: boolean
  readonly socket: Socket
  /** Number of its connection, from 0. */
  readonly connection: number
  /** Returns all values of a field by its lower-case name. */
  values(name: string): string[]
}

export interface RawUpstream {
  readonly origin: string
  readonly authority: string
  readonly port: number
  readonly requests: RawRequest[]
  connections(): number
  /** Stops listening and resets open connections. */
  stop(): void
}

type Handler = (request: RawRequest, number: number) => void

/**
 * Starts an upstream that sends exactly the bytes that a test wants. It calls the handler for every complete request, or with `early` as
 * soon as the header is there; the handler writes to `request.socket`. Without a handler it answers 200 and `ok`.
 */
export async function rawUpstream(
  t: Test,
  handler: Handler = (request) => respond(request, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  { early = false, port = 0, host = '127.0.0.1' } = {},
): Promise<RawUpstream> {
  const requests: RawRequest[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    const connection = connections++
    sockets.add(socket)
    let pending = ''
    let current: RawRequest | undefined
    socket.on('data', (data) => {
      pending += data.toString('latin1')
      for (;;) {
        if (current === undefined) {
          const end = pending.indexOf('\r\n\r\n')
          if (end < 0) return
          current = parseHead(pending.slice(0, end), socket, connection)
          pending = pending.slice(end + 4)
          requests.push(current)
          if (early) handler(current, requests.length - 1)
        }
        pending = takeBody(current, pending)
        if (!current.complete) return
        const whole = current
        current = undefined
        if (!early) handler(whole, requests.indexOf(whole))
        if (pending === '') return
      }
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      for (const request of requests) if (request.socket === socket) request.closed = true
    })
  })
  server.listen(port, host)
  await once(server, 'listening')
  const stop = () => {
    server.close()
    for (const socket of sockets) reset(socket)
  }
  t.teardown(stop)
  const bound = (server.address() as AddressInfo).port
  const authority = `127.0.0.1:${bound}`
  return {
    origin: `http://${authority}`,
    authority,
    port: bound,
    requests,
    connections: () => connections,
    stop,
  }
}

/**
 * Resets a connection at once. `resetAndDestroy` sends pending bytes and a FIN first. If one is on its way already, the socket is lost and
 * the process does not end (Node 20).
 */
export function reset(socket: Socket): void {
  if (!socket.writableEnded) (socket as { resetAndClosing?: boolean }).resetAndClosing = true
  socket.destroy()
}

/** Writes a text, one byte a character. */
export function respond(request: RawRequest, bytes: string): void {
  request.socket.write(bytes, 'latin1')
}

function parseHead(head: string, socket: Socket, connection: number): RawRequest {
  const [line, ...rest] = head.split('\r\n')
  const [method, target] = line!.split(' ')
  const fields = rest.map((field) => {
    const colon = field.indexOf(':')
    return [field.slice(0, colon), field.slice(colon + 1).trim()] as const
  })
  return {
    method: method!,
    target: target!,
    head,
    fields,
    body: '',
    complete: false,
    closed: false,
    socket,
    connection,
    values: (name) => fields.filter(([field]) => field.toLowerCase() === name).map(([, value]) => value),
  }
}

/** Removes the bytes of the request's body from the text and returns the rest. */
function takeBody(request: RawRequest, text: string): string {
  if (request.values('transfer-encoding').length === 0) {
    const length = Number(request.values('content-length')[0] ?? 0)
    const missing = length - request.body.length
    request.body += text.slice(0, missing)
    request.complete = request.body.length === length
    return text.slice(missing)
  }
  for (;;) {
    // The end of a chunk may come only with the next packet.
    if (text.startsWith('\r\n')) text = text.slice(2)
    const line = text.indexOf('\r\n')
    if (line < 0) return text
    const size = Number.parseInt(text.slice(0, line), 16)
    const next = line + 2 + (size === 0 ? 2 : size)
    if (text.length < next) return text
    request.body += text.slice(line + 2, line + 2 + size)
    text = text.slice(next)
    if (size === 0) {
      request.complete = true
      return text
    }
  }
}

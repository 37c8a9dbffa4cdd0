import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'

interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export interface EvilPostgres {
  readonly url: string
  readonly port: number
  /** Number of open connections. */
  open(): number
  /** Bytes that it sends after a client has introduced itself. */
  greeting: Buffer
  /** Bytes that it sends to each query; it then ends the connection if `ends`. */
  answer: Buffer
  ends: boolean
  /** Number of pieces that it cuts its bytes into. */
  pieces: number
  /** Sends bytes that nobody asked for, on each connection. */
  inject(bytes: Buffer): void
  cut(): void
}

const text = (value: string) => Buffer.from(`${value}\0`)

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

/** Encodes a message of the server: type, length, contents. */
export function pgMessage(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

export const READY = pgMessage('Z', Buffer.from('I'))
export const WELCOME = Buffer.concat([pgMessage('R', int32(0)), READY])

export function rowDescription(...names: readonly string[]): Buffer {
  const columns = names.map((name) =>
    Buffer.concat([text(name), int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0)]),
  )
  return pgMessage('T', int16(columns.length), ...columns)
}

export function dataRow(...values: readonly string[]): Buffer {
  const cells = values.flatMap((value) => [int32(value.length), Buffer.from(value)])
  return pgMessage('D', int16(values.length), ...cells)
}

/** Encodes PostgreSQL's answer of one row to a query with parameters. */
export function rowAnswer(tier: string): Buffer {
  return Buffer.concat([
    ...[pgMessage('1'), pgMessage('2'), rowDescription('tier'), dataRow(tier)],
    ...[pgMessage('C', text('SELECT 1')), READY],
  ])
}

/** Starts a server that speaks enough of PostgreSQL to be believed, and says whatever it is told to. */
export async function evilPostgres(t: Cleanup): Promise<EvilPostgres> {
  const sockets = new Set<Socket>()
  const evil: EvilPostgres = {
    url: '',
    port: 0,
    open: () => sockets.size,
    greeting: WELCOME,
    answer: rowAnswer('pro'),
    ends: false,
    pieces: 1,
    inject(bytes) {
      for (const socket of sockets) socket.write(bytes)
    },
    cut() {
      for (const socket of sockets) socket.destroy()
    },
  }

  function say(socket: Socket, bytes: Buffer): void {
    const size = Math.max(1, Math.ceil(bytes.length / evil.pieces))
    const step = (from: number): void => {
      if (socket.writable) socket.write(bytes.subarray(from, from + size))
      if (from + size < bytes.length) setImmediate(() => step(from + size))
      else if (evil.ends) socket.end()
    }
    step(0)
  }

  const server = createServer((socket) => {
    let known = false
    let held = Buffer.alloc(0)
    sockets.add(socket)
    socket.setNoDelay()
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (data) => {
      held = Buffer.concat([held, data])
      for (;;) {
        // The first message has no type.
        const head = known ? 5 : 4
        const length = held.length < head ? Number.POSITIVE_INFINITY : held.readInt32BE(head - 4) + head - 4
        if (held.length < length) return
        const type = known ? String.fromCharCode(held[0]!) : 'startup'
        held = held.subarray(length)
        known = true
        if (type === 'startup') say(socket, evil.greeting)
        // Sync ends a query with parameters; Query is one without.
        else if (type === 'S' || type === 'Q') say(socket, evil.answer)
        else if (type === 'X') socket.end()
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  Object.assign(evil, { port, url: `postgres://tidegate:secret@127.0.0.1:${port}/billing` })
  t.teardown(() => {
    evil.cut()
    server.close()
  })
  return evil
}

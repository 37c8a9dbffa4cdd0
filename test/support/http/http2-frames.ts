import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** HTTP/2 below any library: frames as bytes (RFC 9113 §4), header blocks without compression. */

export const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

export const TYPE = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const

export const FLAG = { ack: 1, endStream: 1, endHeaders: 4, padded: 8 } as const

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

export function frame(type: number, flags: number, stream: number, payload: string | Buffer = ''): Buffer {
  const body = Buffer.from(payload as string, 'latin1')
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function integer(value: number, bits: number, first: number): number[] {
  const most = 2 ** bits - 1
  if (value < most) return [first | value]
  const bytes = [first | most]
  let rest = value - most
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return [...bytes, rest]
}

/** Encodes each field as a literal without indexing (RFC 7541 §6.2.2), without checks. Takes pairs, so that names may repeat. */
export function headerBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value, 'latin1')
    return [...integer(bytes.length, 7, 0), ...bytes]
  }
  return Buffer.from(fields.flatMap(([name, value]) => [0, ...text(name), ...text(value)]))
}

/** Cuts the bytes of a socket into frames. */
export function readFrames(socket: Socket, onFrame: (frame: Frame) => void, skip = 0): void {
  let rest = Buffer.alloc(0)
  let preface = skip
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    if (preface > 0) {
      if (rest.length < preface) return
      rest = rest.subarray(preface)
      preface = 0
    }
    while (rest.length >= 9) {
      const length = rest.readUIntBE(0, 3)
      if (rest.length < 9 + length) return
      onFrame({
        type: rest[3]!,
        flags: rest[4]!,
        stream: rest.readUInt32BE(5) & 0x7fffffff,
        payload: rest.subarray(9, 9 + length),
      })
      rest = rest.subarray(9 + length)
    }
  })
}

/** A client that has finished the handshake and sends any frames a test wants. */
export interface RawHttp2 {
  readonly socket: Socket
  readonly frames: Frame[]
  send(...frames: readonly Buffer[]): void
  /** Calls back for each frame from now on, after it is added to `frames`. */
  onFrame(listener: (frame: Frame) => void): void
  isClosed(): boolean
  /** Returns the code of the GOAWAY, or undefined. */
  goaway(): number | undefined
  /** Returns the code of a stream's RST_STREAM, or undefined. */
  resetOf(stream: number): number | undefined
}

export async function rawHttp2(t: Test, port: number): Promise<RawHttp2> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const frames: Frame[] = []
  let closed = false
  let heard: (frame: Frame) => void = () => {}
  socket.on('error', () => {})
  socket.on('close', () => {
    closed = true
  })
  t.teardown(() => socket.destroy())
  readFrames(socket, (one) => {
    frames.push(one)
    if (one.type === TYPE.settings && one.flags === 0 && socket.writable) {
      socket.write(frame(TYPE.settings, FLAG.ack, 0))
    }
    heard(one)
  })
  socket.write(PREFACE, 'latin1')
  socket.write(frame(TYPE.settings, 0, 0))
  const codeOf = (type: number, stream: number, at: number) =>
    frames.find((one) => one.type === type && one.stream === stream)?.payload.readUInt32BE(at)
  return {
    socket,
    frames,
    send: (...bytes) => void (socket.writable && socket.write(Buffer.concat(bytes))),
    onFrame(listener) {
      heard = listener
    },
    isClosed: () => closed,
    goaway: () => codeOf(TYPE.goaway, 0, 4),
    resetOf: (stream) => codeOf(TYPE.reset, stream, 0),
  }
}

/** Starts an upstream of frames: a test says what comes back for each that arrives. */
export async function rawHttp2Upstream(
  t: Test,
  answer: (frame: Frame, send: (...frames: readonly Buffer[]) => void, socket: Socket) => void,
): Promise<{ readonly origin: string; readonly frames: Frame[]; readonly connections: () => number }> {
  const frames: Frame[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    const send = (...bytes: readonly Buffer[]) => void (socket.writable && socket.write(Buffer.concat(bytes)))
    send(frame(TYPE.settings, 0, 0))
    readFrames(
      socket,
      (one) => {
        frames.push(one)
        if (one.type === TYPE.settings && one.flags === 0) send(frame(TYPE.settings, FLAG.ack, 0))
        answer(one, send, socket)
      },
      PREFACE.length,
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, frames, connections: () => sockets.length }
}

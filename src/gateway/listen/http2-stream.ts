import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { SINGLE_VALUE_FIELDS } from '../../upstream/http2/fields.js'
import { broken } from '../exchange/faults.js'
import { securedOf, setSecured } from '../exchange/tls-info.js'
import { peerOf } from '../respond/client-error.js'
import type { Http2Head } from './http2-headers.js'

/**
 * Wraps an HTTP/2 stream in the parts of Node's HTTP/1.1 request and response that forwarding and responding use. So a
 * request takes one path through the gateway, whatever the client speaks. Node's own compatibility layer would share a
 * connection's state among its streams.
 * Every member means what it means in Node, except `httpVersionMajor`, which tells the two apart.
 */
export function http2Exchange(
  stream: ServerHttp2Stream,
  socket: Socket,
  head: Http2Head,
  bodiless: boolean,
): { readonly req: IncomingMessage; readonly res: ServerResponse } {
  const end = new StreamEnd(stream, socket)
  const req = requestOf(stream, head, end, bodiless)
  const res = new Http2Response(stream, req, end)
  return { req: req as unknown as IncomingMessage, res: res as unknown as ServerResponse }
}

/** Stands in for the socket. Its calls affect this stream alone. */
class StreamEnd extends EventEmitter {
  readonly remoteAddress: string
  /** `endGently` sets this hook on a socket, for the end of its connection. A stream does not need it. */
  destroySoon: (() => void) | undefined
  readonly #stream: ServerHttp2Stream
  readonly #socket: Socket

  constructor(stream: ServerHttp2Stream, socket: Socket) {
    super()
    this.#stream = stream
    this.#socket = socket
    this.remoteAddress = peerOf(socket)
    const secured = securedOf(socket)
    if (secured !== undefined) setSecured(this, secured)
    stream.once('close', () => this.emit('close'))
  }

  /** The socket that all streams of the connection share. */
  get connection(): Socket {
    return this.#socket
  }

  /** Bytes that the client has not taken. */
  get writableLength(): number {
    return this.#stream.writableLength
  }

  get writable(): boolean {
    return !this.#stream.closed && !this.#stream.destroyed
  }

  get destroyed(): boolean {
    return this.#stream.destroyed
  }

  destroy(): void {
    cut(this.#stream, this.#socket)
  }

  pause(): void {}
  resume(): void {}
  cork(): void {}
  uncork(): void {}
}

/** Returns the connection behind a stream's stand-in socket. */
export function connectionOf(socket: object | null): Socket | null {
  return socket instanceof StreamEnd ? socket.connection : null
}

interface Http2Request extends ServerHttp2Stream {
  method: string
  url: string
  httpVersionMajor: number
  httpVersionMinor: number
  rawHeaders: readonly string[]
  complete: boolean
  socket: StreamEnd
}

/** Makes the stream itself readable as a request: adds the members of a request to it. */
function requestOf(
  stream: ServerHttp2Stream,
  { method, target, fields }: Http2Head,
  socket: StreamEnd,
  bodiless: boolean,
): Http2Request {
  const req = Object.assign(stream, {
    method,
    url: target,
    httpVersionMajor: 2,
    // As in HTTP/1.1: the client understands 1xx responses, and bodies have an end.
    httpVersionMinor: 1,
    rawHeaders: fields,
    complete: bodiless,
    socket,
  })
  if (bodiless) stream.resume()
  else
    stream.once('end', () => {
      // Node also emits `end`, without an error, for a stream that the client reset. No reader may take that for the end of
      // the body.
      req.complete = !stream.closed
    })
  return req as unknown as Http2Request
}

class Http2Response extends EventEmitter {
  statusCode = 200
  headersSent = false
  shouldKeepAlive = true
  /** Keeps whole bodies out of `write-batch.ts`: `end` sends them at once, and sharing a write gains nothing here. */
  readonly chunkedEncoding = true
  readonly req: Http2Request
  readonly socket: StreamEnd
  readonly #stream: ServerHttp2Stream
  readonly #session: { readonly destroyed: boolean }
  #head: OutgoingHttpHeaders | undefined
  #trailers: OutgoingHttpHeaders | undefined
  #ended = false

  constructor(stream: ServerHttp2Stream, req: Http2Request, socket: StreamEnd) {
    super()
    this.#stream = stream
    // A destroyed stream has no session.
    this.#session = stream.session ?? { destroyed: true }
    this.req = req
    this.socket = socket
    // The response reports a failure of the stream by how it closes.
    stream.on('error', () => {})
    stream.on('drain', () => this.emit('drain'))
    stream.once('finish', this.#onFinish)
    stream.once('close', () => this.emit('close'))
  }

  get destroyed(): boolean {
    return this.#stream.destroyed
  }

  get closed(): boolean {
    return this.#stream.closed
  }

  /**
   * Returns whether the response went out whole. Node destroys a stream when its last frame has gone out and the request
   * has ended, before it emits `finish` or even confirms the last write. Then neither side broke the stream off, and its
   * connection goes on.
   */
  get writableFinished(): boolean {
    const stream = this.#stream
    if (!this.#ended || stream.writableFinished) return this.#ended
    if (!stream.closed || stream.aborted || stream.rstCode !== NO_ERROR) return false
    return stream.writableLength === 0 || !this.#session.destroyed
  }

  get writableEnded(): boolean {
    return this.#ended
  }

  get writableLength(): number {
    return this.#stream.writableLength
  }

  writeContinue(): void {
    this.#inform({ ':status': 100 })
  }

  writeEarlyHints(hints: { readonly link: string | readonly string[] }): void {
    if (hints.link.length > 0) this.#inform({ ':status': 103, link: hints.link as string[] })
  }

  #inform(headers: OutgoingHttpHeaders): void {
    if (!this.headersSent && !this.#stream.destroyed && !this.#stream.closed)
      this.#stream.additionalHeaders(headers)
  }

  /** Sets the header. HTTP/2 has no reason phrases. */
  writeHead(status: number, reasonOrFields: string | readonly string[], fields?: readonly string[]): this {
    const list = typeof reasonOrFields === 'string' ? fields! : reasonOrFields
    this.statusCode = status
    this.headersSent = true
    this.#head = responseFields(list)
    this.#head[':status'] = status
    return this
  }

  flushHeaders(): void {
    this.#sendHead(false)
  }

  write(chunk: string | Buffer, encoding: BufferEncoding = 'utf8'): boolean {
    this.#sendHead(false)
    if (chunk.length === 0 || !this.#isOpen()) return true
    return this.#stream.write(chunk, encoding)
  }

  addTrailers(pairs: readonly (readonly [name: string, value: string])[]): void {
    this.#trailers = responseFields(pairs.flat())
  }

  end(chunk?: string | Buffer, encoding: BufferEncoding = 'utf8'): this {
    if (this.#ended) return this
    this.#ended = true
    const empty = chunk === undefined || chunk.length === 0
    if (this.#head !== undefined && empty && this.#trailers === undefined) {
      // The header alone, with no body frame: gRPC tells this apart from a header and an empty body.
      this.#sendHead(true)
      return this
    }
    this.#sendHead(false)
    if (!this.#isOpen()) return this
    if (empty) this.#stream.end()
    else this.#stream.end(chunk, encoding)
    return this
  }

  destroy(): this {
    this.socket.destroy()
    return this
  }

  #isOpen(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed && !this.#stream.writableEnded
  }

  #sendHead(last: boolean): void {
    const head = this.#head
    if (head === undefined) return
    this.#head = undefined
    if (this.#stream.destroyed || this.#stream.closed) return
    // A body of known length that is not a gRPC message ends with its last piece: that saves a frame.
    const mayTrail =
      this.#trailers !== undefined || (!last && !this.#ended && head['content-length'] === undefined)
    if (mayTrail && !last) this.#stream.once('wantTrailers', this.#onWantTrailers)
    try {
      this.#stream.respond(head, { endStream: last, waitForTrailers: mayTrail && !last })
    } catch (error) {
      this.#unsendable(error)
    }
  }

  #onWantTrailers = (): void => {
    if (this.#stream.destroyed || this.#stream.closed) return
    try {
      this.#stream.sendTrailers(this.#trailers ?? {})
    } catch (error) {
      this.#unsendable(error)
    }
  }

  /** Resets the stream when Node refuses a header or a trailer. Nothing more of the response goes out. */
  #unsendable(error: unknown): void {
    broken(this, error)
    this.socket.destroy()
  }

  /** Resets the stream when the request's body is still coming in after the response (RFC 9113 §8.1). */
  #onFinish = (): void => {
    if (!this.#ended || this.req.complete) return
    setImmediate(() => {
      reset(this.#stream, constants.NGHTTP2_NO_ERROR)
      // The bytes that have arrived must be read before Node reports the stream closed.
      this.#stream.resume()
    })
  }
}

const NO_ERROR = constants.NGHTTP2_NO_ERROR
/** How long the reset of a stream may take to go out, in ms. */
const CUT_MS = 1_000
const CUT = Symbol('the gateway has broken it off')

/** Returns whether the gateway broke off the stream. */
export function wasCut(stream: object): boolean {
  return CUT in stream
}

function cut(stream: ServerHttp2Stream, socket: Socket): void {
  if (stream.closed || stream.destroyed || wasCut(stream)) return
  ;(stream as { [CUT]?: true })[CUT] = true
  stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // A reset waits behind the connection's queued bytes. If the client takes none, it would wait for ever, and everything
  // that the stream references would stay in memory.
  const timer = setTimeout(() => socket.destroy(), CUT_MS)
  timer.unref()
  stream.once('close', () => clearTimeout(timer))
}

function reset(stream: ServerHttp2Stream, code: number): void {
  if (!stream.closed && !stream.destroyed) stream.close(code)
}

/** Converts name, value, … and leaves out the connection-specific fields of HTTP/1.1. */
function responseFields(list: readonly string[]): OutgoingHttpHeaders {
  const fields: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i]!.toLowerCase()
    const value = list[i + 1]!
    if (HOP.has(name)) continue
    const before = fields[name]
    if (before === undefined) fields[name] = value
    // Node sends these fields once. Two that differ have no meaning in HTTP/1.1 either.
    else if (SINGLE_VALUE_FIELDS.has(name)) continue
    else if (Array.isArray(before)) before.push(value)
    else fields[name] = [before, value]
  }
  return fields as OutgoingHttpHeaders
}

const HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'te',
  'upgrade',
  'http2-settings',
])

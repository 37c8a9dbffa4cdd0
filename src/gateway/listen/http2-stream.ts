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
 * A stream in the shape of Node's request and response of HTTP/1.1, as far as those who forward and answer use them. So
 * there is one way of a request, whatever the client speaks; Node's own compatibility layer would share a connection's
 * state among its streams.
 *
 * What is there has the meaning that it has there, but `httpVersionMajor`, by which the two are told apart.
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

/** In place of the socket: what is said to it concerns the stream alone. */
class StreamEnd extends EventEmitter {
  readonly remoteAddress: string
  /** Where others put what is to happen when a connection ends: a stream needs none of it. */
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

  /** What all streams of the connection share. */
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

/** The connection of a stream, by what it has in place of a socket. */
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

/** The stream itself, which is what is read, with what is asked of a request. */
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
    // As 1.1: 1xx responses are understood, and bodies have an end.
    httpVersionMinor: 1,
    rawHeaders: fields,
    complete: bodiless,
    socket,
  })
  if (bodiless) stream.resume()
  else
    stream.once('end', () => {
      // Node ends what the client has reset without an error, too: to nobody may that be the end of the body.
      req.complete = !stream.closed
    })
  return req as unknown as Http2Request
}

class Http2Response extends EventEmitter {
  statusCode = 200
  headersSent = false
  shouldKeepAlive = true
  /** Whole bodies go out by `end` at once: what waits for others to share a write (outbox.ts) has no gain here. */
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
    // A stream that is destroyed knows of none.
    this.#session = stream.session ?? { destroyed: true }
    this.req = req
    this.socket = socket
    // Its troubles are told by how it closes.
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
   * Node destroys a stream as soon as its last frame has gone out and the request has come to its end, before it says
   * `finish` of it, or even of its last write. Then nobody has broken it off, and its connection goes on.
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

  /** There are no reason phrases in HTTP/2. */
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
      // The header alone, and nothing behind it: for gRPC something else than a header and an empty body.
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
    // Of a body whose length is known, and that is no message of gRPC, the last piece is the end: no frame more.
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

  /** Node does not send a header or a trailer. Nothing more of the response goes out: the client sees a reset. */
  #unsendable(error: unknown): void {
    broken(this, error)
    this.socket.destroy()
  }

  /** Nobody wants what is still coming in (RFC 9113 §8.1). */
  #onFinish = (): void => {
    if (!this.#ended || this.req.complete) return
    setImmediate(() => {
      reset(this.#stream, constants.NGHTTP2_NO_ERROR)
      // What is here of it has to be read before Node says that the stream is closed.
      this.#stream.resume()
    })
  }
}

const NO_ERROR = constants.NGHTTP2_NO_ERROR
/** How long the reset of a stream may take to go out. */
const CUT_MS = 1_000
const CUT = Symbol('the gateway has broken it off')

/** Whether it was the gateway that has broken off the stream. */
export function wasCut(stream: object): boolean {
  return CUT in stream
}

function cut(stream: ServerHttp2Stream, socket: Socket): void {
  if (stream.closed || stream.destroyed || wasCut(stream)) return
  ;(stream as { [CUT]?: true })[CUT] = true
  stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  // A reset waits behind what the connection has to send: on one that takes nothing, for ever, and so would all that
  // hangs on the stream.
  const timer = setTimeout(() => socket.destroy(), CUT_MS)
  timer.unref()
  stream.once('close', () => clearTimeout(timer))
}

function reset(stream: ServerHttp2Stream, code: number): void {
  if (!stream.closed && !stream.destroyed) stream.close(code)
}

/** Name, value, … without what belongs to a connection of HTTP/1.1. */
function responseFields(list: readonly string[]): OutgoingHttpHeaders {
  const fields: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i]!.toLowerCase()
    const value = list[i + 1]!
    if (HOP.has(name)) continue
    const before = fields[name]
    if (before === undefined) fields[name] = value
    // Node sends these once; of two that differ, HTTP/1.1 has no meaning either.
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

import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { broken } from '../../exchange/faults.js'
import { type Secured, setSecured } from '../../exchange/tls-info.js'
import { httpDate } from '../../respond/plain-response.js'
import { Flag, FrameType, MAX_FRAME } from './frames.js'
import { encodeFields, encodeStatus, NO_TABLE } from './hpack.js'
import type { Output } from './output.js'
import type { Http2Head } from './request-head.js'

/** The connection that carries a stream. */
export interface Carrier {
  readonly socket: Socket
  readonly peer: string
  readonly secured: Secured | undefined
  readonly output: Output
  /** Bytes of bodies that the client takes now, on all streams together. */
  sendWindow: number
  /** The client has made its header table smaller. The next header has to say that the gateway knows (RFC 7541 §4.2). */
  hasSmallTable: boolean
  /** Streams that wait for the connection to take more, in turn. */
  readonly ready: Set<Http2Response>
  /** The reader of a request has taken that many bytes, in so many pieces. */
  consumed(request: Http2Request, bytes: number, pieces: number): void
  /** The last frame of the response is on its way. */
  responded(stream: Http2Response): void
  /** Breaks off a stream that the gateway cannot complete. */
  cut(stream: Http2Response): void
}

/** Bytes that may wait in a connection before its streams wait. */
export const BACKLOG_BYTES = 131_072

/**
 * Has the parts of Node's request that forwarding and responding use, and the readable stream of its body.
 * Every member means what it means in Node, except `httpVersionMajor`, which tells the two apart.
 */
export class Http2Request extends EventEmitter {
  readonly method: string
  readonly url: string
  readonly rawHeaders: readonly string[]
  readonly httpVersionMajor = 2
  // As in HTTP/1.1: the client understands 1xx responses, and bodies have an end.
  readonly httpVersionMinor = 1
  /** All of it has arrived. */
  complete: boolean
  /** As of a `PlainRequest`. A body over HTTP/2 is always read as a stream. */
  readonly body = undefined
  readableEnded: boolean
  readableLength = 0
  socket!: Http2Response
  readonly id: number
  /** Bytes that the client may still send, and bytes taken for which it has got no window back. */
  window: number
  owed = 0
  readonly #carrier: Carrier
  /** Bytes still to come by Content-Length; -1: not known. */
  #left: number
  #pieces: Buffer[] = []
  /** As in Node's streams; undefined: nobody has asked for the body. */
  #flowing: boolean | undefined
  #released = false

  constructor(carrier: Carrier, id: number, head: Http2Head, bodiless: boolean, window: number) {
    super()
    this.#carrier = carrier
    this.id = id
    this.method = head.method
    this.url = head.target
    this.rawHeaders = head.fields
    this.complete = bodiless
    this.readableEnded = bodiless
    this.window = window
    this.#left = head.length
  }

  /** Returns itself, which is a stream; as `PlainRequest` does. */
  asStream(): IncomingMessage {
    return this as unknown as IncomingMessage
  }

  /**
   * Takes a piece of the body.
   *
   * @returns false if it is longer than Content-Length
   */
  push(piece: Buffer): boolean {
    if (this.#left >= 0) {
      if (piece.length > this.#left) return false
      this.#left -= piece.length
    }
    if (this.#flowing === true && this.#pieces.length === 0) {
      this.#consumed(piece.length, 1)
      this.emit('data', piece)
    } else {
      this.#pieces.push(piece)
      this.readableLength += piece.length
    }
    return true
  }

  /**
   * Takes the end of the body.
   *
   * @returns false if it is shorter than Content-Length
   */
  end(): boolean {
    if (this.#left > 0) return false
    this.complete = true
    if (this.#flowing === true && this.#pieces.length === 0) process.nextTick(this.#flow)
    return true
  }

  /** Stops the accounting: the stream is over. What has arrived can still be read. */
  release(): void {
    if (this.#released) return
    if (this.#pieces.length > 0) this.#consumed(this.readableLength, this.#pieces.length)
    this.#released = true
  }

  /** Discards what has not been read. The body never comes to its end. */
  drop(): void {
    this.release()
    this.#flowing = false
    this.readableEnded = true
    this.#pieces = []
    this.readableLength = 0
  }

  #consumed(bytes: number, pieces: number): void {
    if (!this.#released) this.#carrier.consumed(this, bytes, pieces)
  }

  override on(event: string, listener: (...args: never[]) => void): this {
    super.on(event, listener as () => void)
    if (event === 'data' && this.#flowing === undefined) this.resume()
    return this
  }

  read(): Buffer | null {
    const [first] = this.#pieces
    if (first === undefined) return null
    const all = this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces)
    this.#consumed(all.length, this.#pieces.length)
    this.#pieces = []
    this.readableLength = 0
    this.emit('data', all)
    if (this.complete) process.nextTick(this.#flow)
    return all
  }

  /** Puts a piece back that was read. The client gets no window for it a second time. */
  unshift(piece: Buffer): void {
    this.#pieces.unshift(piece)
    this.readableLength += piece.length
    this.#consumed(-piece.length, -1)
  }

  pause(): this {
    this.#flowing = false
    return this
  }

  resume(): this {
    if (this.#flowing === true || this.readableEnded) return this
    this.#flowing = true
    process.nextTick(this.#flow)
    return this
  }

  destroy(): this {
    return this
  }

  #flow = (): void => {
    while (this.#flowing === true && this.#pieces.length > 0) {
      const piece = this.#pieces.shift()!
      this.readableLength -= piece.length
      this.#consumed(piece.length, 1)
      this.emit('data', piece)
    }
    if (this.#flowing === false || !this.complete || this.readableEnded || this.#pieces.length > 0) return
    this.readableEnded = true
    this.emit('end')
  }
}

function hasDate(list: readonly string[]): boolean {
  for (let i = 0; i < list.length; i += 2)
    if (list[i]!.length === 4 && list[i]!.toLowerCase() === 'date') return true
  return false
}

/** Returns the connection that carries a stream; undefined for any other socket. */
export function connectionOf(socket: object | null): Socket | undefined {
  return socket instanceof Http2Response ? socket.connection : undefined
}

/**
 * Has the parts of Node's response that forwarding and responding use, so that a request takes one path through the gateway,
 * whatever the client speaks. It also stands in for the socket: its calls affect this stream alone.
 */
export class Http2Response extends EventEmitter {
  statusCode = 200
  headersSent = false
  shouldKeepAlive = true
  /** Keeps whole bodies out of `write-batch.ts`: `Output` does the same for all frames of a turn. */
  readonly chunkedEncoding = true
  writableEnded = false
  /** All of it is out. */
  writableFinished = false
  closed = false
  /** `endGently` sets this hook on a socket, for the end of its connection. A stream does not need it. */
  destroySoon: (() => void) | undefined
  readonly req: Http2Request
  /** Bytes of the body that the client takes now. */
  window: number
  /** The last frame of the response is on its way. */
  responded = false
  /** The gateway has broken it off. */
  isCut = false
  /** Value of `Output.written` behind the last frame of this stream. */
  mark = 0
  readonly #carrier: Carrier
  /** The header, set and not sent yet. */
  #head: string | undefined
  #trailers: string | undefined
  #hasBody = true
  #queue: (string | Buffer)[] = []
  #queued = 0
  #wantsDrain = false

  constructor(carrier: Carrier, req: Http2Request, window: number) {
    super()
    this.#carrier = carrier
    this.req = req
    this.window = window
    req.socket = this
    if (carrier.secured !== undefined) setSecured(this, carrier.secured)
  }

  // As a socket

  get remoteAddress(): string {
    return this.#carrier.peer
  }

  /** The socket that all streams of the connection share. */
  get connection(): Socket {
    return this.#carrier.socket
  }

  get writable(): boolean {
    return !this.closed
  }

  pause(): void {}
  resume(): void {}
  cork(): void {}
  uncork(): void {}

  // As a response

  get socket(): this {
    return this
  }

  get destroyed(): boolean {
    return this.closed && !this.writableFinished
  }

  /** Bytes that the client has not taken. Those that wait in the connection include some of other streams. */
  get writableLength(): number {
    return this.closed ? 0 : this.#queued + Math.max(0, this.mark - this.#carrier.output.taken)
  }

  writeContinue(): void {
    this.#inform(100, '')
  }

  /** @throws TypeError when a link cannot be sent */
  writeEarlyHints({ link }: { readonly link: readonly string[] }): void {
    const fields = encodeFields(link.flatMap((one) => ['link', one]))
    if (fields !== '') this.#inform(103, fields)
  }

  #inform(status: number, fields: string): void {
    if (!this.headersSent && !this.closed && !this.isCut)
      this.#sendHeaders(encodeStatus(status) + fields, false)
  }

  /**
   * Sets the header. HTTP/2 has no reason phrases.
   *
   * @throws TypeError when a field cannot be sent; nothing is set then
   */
  writeHead(status: number, reasonOrFields: string | readonly string[], fields?: readonly string[]): this {
    const list = typeof reasonOrFields === 'string' ? fields! : reasonOrFields
    const encoded = encodeFields(list)
    this.#head = encodeStatus(status) + encoded
    if (!hasDate(list)) this.#head += encodeFields(['date', httpDate()])
    this.#hasBody = status !== 204 && status !== 205 && status !== 304 && this.req.method !== 'HEAD'
    this.statusCode = status
    this.headersSent = true
    return this
  }

  flushHeaders(): void {
    this.#sendHead()
  }

  /**
   * Writes a piece of the body.
   *
   * @param chunk a string is Latin-1
   * @returns false when more should wait for `drain`
   */
  write(chunk: string | Buffer): boolean {
    this.#sendHead()
    if (chunk.length === 0 || !this.#takesBody()) return true
    this.#enqueue(chunk)
    this.send()
    if (this.#queued === 0 && this.#carrier.output.backlog < BACKLOG_BYTES) return true
    this.#wantsDrain = true
    if (this.#queued === 0) this.#carrier.ready.add(this)
    return false
  }

  /** Sets the trailers, which `end` sends. */
  addTrailers(pairs: readonly (readonly [name: string, value: string])[]): void {
    try {
      this.#trailers = encodeFields(pairs.flat())
    } catch (error) {
      broken(this, error)
      this.destroy()
    }
  }

  end(last?: string | Buffer): this {
    if (this.writableEnded) return this
    this.writableEnded = true
    if (last !== undefined && last.length > 0 && this.#hasBody && !this.responded) this.#enqueue(last)
    // The header alone, with no body frame: gRPC tells this apart from a header and an empty body.
    const alone = this.#queue.length === 0 && this.#trailers === undefined
    this.#sendHead(alone)
    this.send()
    return this
  }

  /** Breaks off the stream: the client may not take the part that was sent for the whole. */
  destroy(): this {
    if (!this.closed && !this.isCut) this.#carrier.cut(this)
    return this
  }

  /** Sends as much of what waits as the windows and the connection take. */
  send(): void {
    if (this.isCut) return
    const carrier = this.#carrier
    const queue = this.#queue
    while (queue.length > 0 && !this.closed) {
      const room = Math.min(this.window, carrier.sendWindow, MAX_FRAME)
      if (room <= 0 || carrier.output.backlog >= BACKLOG_BYTES) {
        // Whoever waits for its own window is told when that opens.
        if (this.window > 0) carrier.ready.add(this)
        return
      }
      const piece = queue[0]!
      const whole = piece.length <= room
      const part = whole ? piece : typeof piece === 'string' ? piece.slice(0, room) : piece.subarray(0, room)
      if (whole) queue.shift()
      else queue[0] = typeof piece === 'string' ? piece.slice(room) : piece.subarray(room)
      this.#queued -= part.length
      this.window -= part.length
      carrier.sendWindow -= part.length
      const last = this.writableEnded && queue.length === 0 && this.#trailers === undefined
      carrier.output.data(this.req.id, last, part)
      this.mark = carrier.output.written
      if (last) this.#responded()
    }
    if (this.closed) return
    if (this.writableEnded) this.#sendEnd()
    else if (this.#wantsDrain) {
      if (carrier.output.backlog >= BACKLOG_BYTES) carrier.ready.add(this)
      else {
        this.#wantsDrain = false
        this.emit('drain')
      }
    }
  }

  /** The stream is over: `finished` tells whether the client has got the whole response. */
  close(finished: boolean): void {
    if (this.closed) return
    this.closed = true
    this.writableFinished = finished
    this.#queue = []
    this.#carrier.ready.delete(this)
    this.emit('close')
    this.req.emit('close')
  }

  #takesBody(): boolean {
    return !this.closed && !this.isCut && !this.responded && !this.writableEnded && this.#hasBody
  }

  #enqueue(piece: string | Buffer): void {
    this.#queue.push(piece)
    this.#queued += piece.length
  }

  #sendHead(last = false): void {
    const head = this.#head
    if (head === undefined || this.closed || this.isCut) return
    this.#head = undefined
    const ends = last || !this.#hasBody
    this.#sendHeaders(head, ends)
    if (ends) this.#responded()
  }

  /** Sends what follows the body: trailers, or an empty frame. */
  #sendEnd(): void {
    if (this.responded || this.isCut) return
    if (this.#trailers !== undefined) this.#sendHeaders(this.#trailers, true)
    else {
      this.#carrier.output.data(this.req.id, true, '')
      this.mark = this.#carrier.output.written
    }
    this.#responded()
  }

  /** Sends a header or trailer, in several frames if it is long. */
  #sendHeaders(fields: string, last: boolean): void {
    const { output, hasSmallTable } = this.#carrier
    // The gateway uses no table, so an empty one fits any size.
    const block = hasSmallTable ? NO_TABLE + fields : fields
    this.#carrier.hasSmallTable = false
    const { id } = this.req
    const ends = last ? Flag.EndStream : 0
    if (block.length <= MAX_FRAME) output.frame(FrameType.Headers, ends | Flag.EndHeaders, id, block)
    else {
      output.frame(FrameType.Headers, ends, id, block.slice(0, MAX_FRAME))
      for (let at = MAX_FRAME; at < block.length; at += MAX_FRAME) {
        const flags = at + MAX_FRAME >= block.length ? Flag.EndHeaders : 0
        output.frame(FrameType.Continuation, flags, id, block.slice(at, at + MAX_FRAME))
      }
    }
    this.mark = output.written
  }

  #responded(): void {
    this.responded = true
    this.#carrier.responded(this)
  }
}

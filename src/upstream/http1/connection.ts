import type { Socket } from 'node:net'
import type { SocketReader } from '../connector.js'
import { coded, type WholeResponse } from '../sender.js'
import { ReadBuffers } from './buffers.js'
import type { Head } from './head.js'
import { type ReaderEvents, ResponseReader } from './reader.js'
import { type Http1Request, headOf, isLast } from './request.js'
import { sendWhole, Upload } from './upload.js'

/** Keeps the connections. */
export interface ConnectionOwner {
  /** The connection can take another request. */
  free(connection: Http1Connection): void
  /** The connection is gone. */
  lost(connection: Http1Connection): void
  /** The connection was lost before any byte of the request was sent. */
  again(request: Http1Request): void
}

/** A read of fewer bytes means that there is no more for now: a TLS record has this many. */
const LONG_READ = 16_384
/**
 * Bytes of long reads in a row after which the other sockets have a turn. libuv would read 2 MiB from each socket that
 * has them.
 */
const BYTES_IN_A_ROW = 131_072

/** Connections that read on after the other sockets have had their turn. */
let resting: Http1Connection[] = []

function readOn(): void {
  const all = resting
  resting = []
  for (const connection of all) connection.readOn()
}

/**
 * One connection to an upstream, with one request at a time. Bytes outside a response, and a malformed response, end
 * it. Stray bytes that arrive after the next request was sent cannot be told from its response.
 */
export class Http1Connection implements ReaderEvents, SocketReader {
  /** `now()` of its owner until which the connection is kept idle. */
  keptUntil = 0
  dead = false
  readonly #reader = new ResponseReader(this)
  readonly #buffers = new ReadBuffers()
  #socket: Socket | undefined
  #current: Http1Request | undefined
  #upload: Upload | undefined
  #last = false
  #paused = false
  /** Bytes of long reads in a row. */
  #inARow = 0

  constructor(private readonly owner: ConnectionOwner) {}

  /** Seconds after which the upstream closes an idle connection; -1: it has not said. */
  get idleSeconds(): number {
    return this.#reader.idleSeconds
  }

  /** Takes a connected socket. The bytes that it reads arrive by `read`. */
  open(socket: Socket): void {
    this.#socket = socket
    socket.on('drain', () => this.#upload?.drained())
    socket.on('end', () => this.#closed())
    socket.on('error', (error) => this.#lost(error))
    socket.on('close', () => this.#lost(undefined))
  }

  /**
   * Sends a request. Only on a free connection.
   *
   * @returns false when the client no longer wants the response: the connection is then still free
   */
  send(sending: Http1Request): boolean {
    const { request, handler } = sending
    const socket = this.#socket!
    const { body } = request
    let head: string
    try {
      head = headOf(request)
      handler.onConnect(sending)
    } catch (error) {
      handler.onError(error as Error)
      return false
    }
    this.#current = sending
    sending.connection = this
    this.#last = isLast(request)
    this.#reader.expect(request.method === 'HEAD')
    try {
      if (body === null) socket.write(`${head}\r\n`, 'latin1')
      else if (Buffer.isBuffer(body)) sendWhole(socket, head, body)
      else {
        this.#upload = new Upload(socket, head, body, request.length, (error) => this.gone(error))
        this.#upload.start()
      }
    } catch (error) {
      this.gone(error as Error)
    }
    return true
  }

  buffer(): Buffer | undefined {
    // While it connects, several addresses may be tried in turn.
    return this.#buffers.next(this.#socket === undefined)
  }

  read(size: number, bytes: Buffer): boolean {
    // Nor can it be the response to a request that still waits for the first bytes of its body before it is sent.
    if (this.#current === undefined || this.#upload?.begun === false) {
      this.#lost(undefined)
      return false
    }
    try {
      const whole = this.#reader.fresh ? this.#current.handler.readWhole?.(bytes, size) : undefined
      if (whole !== undefined) {
        this.#reader.skip(whole.idleSeconds)
        this.#complete(true, whole)
        return true
      }
      const end = this.#reader.read(bytes, size)
      if (this.#reader.ended) this.#complete(end === size)
    } catch (error) {
      this.gone(error as Error)
    }
    if (size < LONG_READ) this.#inARow = 0
    else if (this.#rests(size)) return false
    return !this.#paused
  }

  /**
   * Counts a long read.
   *
   * @returns true if other sockets must have a turn first
   */
  #rests(size: number): boolean {
    this.#inARow += size
    if (this.#inARow < BYTES_IN_A_ROW) return false
    this.#inARow = 0
    if (resting.push(this) === 1) setImmediate(readOn)
    return true
  }

  readOn(): void {
    if (!this.dead && !this.#paused) this.#socket!.resume()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#socket!.resume()
  }

  /**
   * Ends the connection, and fails its request, if any.
   *
   * @param error undefined: there is none to report
   */
  gone(error: Error | undefined): void {
    if (this.dead) return
    this.dead = true
    const current = this.#let()
    this.#socket?.destroy()
    this.owner.lost(this)
    current?.handler.onError(error ?? coded('UPSTREAM_CLOSED', 'the connection was closed'))
  }

  // Events of the reader

  started(): void {
    this.#current?.handler.onResponseStarted?.()
  }

  head({ status, fields, reason }: Head): void {
    this.#current?.handler.onHeaders(status, fields, reason)
  }

  data(_: Buffer, from: number, to: number): void {
    const current = this.#current
    if (current === undefined) return
    const { handler } = current
    if (!handler.onData(this.#buffers.piece(from, to, handler.takesText === true))) this.#paused = true
  }

  /** Handles a close by the other side. */
  #closed(): void {
    if (!this.dead && this.#current !== undefined && this.#reader.close()) this.#complete(false)
    else this.#lost(coded('UPSTREAM_CLOSED', 'the other side closed the connection'))
  }

  /**
   * Handles the end of the connection by the other side. A request whose client is slow to begin its body has not been
   * sent: it goes to another connection, once.
   */
  #lost(error: Error | undefined): void {
    const current = this.#current
    if (this.dead || current === undefined || current.again || this.#upload?.begun !== false) {
      this.gone(error)
      return
    }
    current.again = true
    this.#upload.recall()
    this.#let()
    this.gone(undefined)
    this.owner.again(current)
  }

  /**
   * Handles a complete response.
   *
   * @param clean true if no bytes came after the response
   * @param whole the response, if the handler has not had its parts
   */
  #complete(clean: boolean, whole?: WholeResponse): void {
    // A client that aborts during this read has already been informed.
    if (this.#current === undefined) return
    const sent = this.#upload === undefined || this.#upload.ended
    // TLS decrypts several records at once, and delivers them although reading was stopped: the next response must arrive,
    // too.
    this.resume()
    const { handler } = this.#let()!
    if (clean && sent && !this.#last && this.#reader.keepAlive) this.owner.free(this)
    else {
      this.dead = true
      this.#socket!.destroy()
      this.owner.lost(this)
    }
    try {
      if (whole === undefined) handler.onComplete(this.#reader.trailers)
      else handler.onWhole!(whole)
    } catch (error) {
      handler.onError(error as Error)
    }
  }

  /** Detaches the request and returns it. */
  #let(): Http1Request | undefined {
    const current = this.#current
    if (current === undefined) return undefined
    this.#current = undefined
    current.connection = undefined
    this.#upload?.stop()
    this.#upload = undefined
    this.#paused = false
    return current
  }
}

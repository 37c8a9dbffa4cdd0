import type { Socket } from 'node:net'
import type { SocketReader } from '../connector.js'
import { coded } from '../sender.js'
import { ReadBuffers } from './buffers.js'
import type { Head } from './head.js'
import { type ReaderEvents, ResponseReader } from './reader.js'
import { type Http1Request, headOf, isLast } from './request.js'
import { sendWhole, Upload } from './upload.js'

/** Who keeps the connections. */
export interface ConnectionOwner {
  /** It can take another request. */
  free(connection: Http1Connection): void
  /** It is no more. */
  lost(connection: Http1Connection): void
  /** Nothing of a request had left when its connection was lost. */
  again(request: Http1Request): void
}

/** A read of fewer bytes says that there is no more for now: a record of TLS has as many. */
const LONG_READ = 16_384
/** Bytes of long reads in a row after which the other sockets have a turn. libuv would read 2 MiB from each that has them. */
const BYTES_IN_A_ROW = 131_072

/** Those that read on when the other sockets have had their turn. */
let resting: Http1Connection[] = []

function readOn(): void {
  const all = resting
  resting = []
  for (const connection of all) connection.readOn()
}

/**
 * One connection to an upstream, with one request on it at a time. Bytes that nobody asked for, and a response that is
 * not understood, end it. What comes only once the next request is on its way nobody can tell from the answer to that.
 */
export class Http1Connection implements ReaderEvents, SocketReader {
  /** `now()` of its owner until which it is kept without a request. */
  keptUntil = 0
  dead = false
  readonly #owner: ConnectionOwner
  readonly #reader = new ResponseReader(this)
  readonly #buffers = new ReadBuffers()
  #socket: Socket | undefined
  #current: Http1Request | undefined
  #upload: Upload | undefined
  #last = false
  #paused = false
  /** Bytes of long reads in a row. */
  #inARow = 0

  constructor(owner: ConnectionOwner) {
    this.#owner = owner
  }

  /** Seconds after which the other side closes it when it is idle; -1: it has not said. */
  get idleSeconds(): number {
    return this.#reader.idleSeconds
  }

  /** The socket is connected. What it reads comes by `read`. */
  open(socket: Socket): void {
    this.#socket = socket
    socket.on('drain', () => this.#upload?.drained())
    socket.on('end', () => this.#closed())
    socket.on('error', (error) => this.#lost(error))
    socket.on('close', () => this.#lost(undefined))
  }

  /**
   * Only on a connection that is free.
   *
   * @returns false when nobody wants the response any more: then it is still free
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
    // While it connects, one address after the other may be tried.
    return this.#buffers.next(this.#socket === undefined)
  }

  read(size: number, bytes: Buffer): boolean {
    // Nor can it be the answer to a request that has not left, for it waits for the first bytes of its body.
    if (this.#current === undefined || this.#upload?.begun === false) {
      this.#lost(undefined)
      return false
    }
    try {
      const end = this.#reader.read(bytes, size)
      if (this.#reader.ended) this.#complete(end === size)
    } catch (error) {
      this.gone(error as Error)
    }
    if (size < LONG_READ) this.#inARow = 0
    else if (this.#rests(size)) return false
    return !this.#paused
  }

  /** Takes note of a long read. @returns whether others are to have a turn first */
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
   * Ends it, and the request that it may have with an error.
   *
   * @param error undefined: there is none to tell of
   */
  gone(error: Error | undefined): void {
    if (this.dead) return
    this.dead = true
    const current = this.#let()
    this.#socket?.destroy()
    this.#owner.lost(this)
    current?.handler.onError(error ?? coded('UPSTREAM_CLOSED', 'the connection was closed'))
  }

  // What the reader says

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

  /** The other side has closed it. */
  #closed(): void {
    if (!this.dead && this.#current !== undefined && this.#reader.close()) this.#complete(false)
    else this.#lost(coded('UPSTREAM_CLOSED', 'the other side closed the connection'))
  }

  /**
   * The other side has ended it. A request whose body the client is slow to begin with has not left: it goes on another
   * connection, once.
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
    this.#owner.again(current)
  }

  /** @param clean nothing came behind the response */
  #complete(clean: boolean): void {
    // Who aborts in the middle of what has come has been told.
    if (this.#current === undefined) return
    const sent = this.#upload === undefined || this.#upload.ended
    // Of what TLS has decrypted in one go, the rest comes although reading was stopped: the next response has to come, too.
    this.resume()
    const { handler } = this.#let()!
    if (clean && sent && !this.#last && this.#reader.keepAlive) this.#owner.free(this)
    else {
      this.dead = true
      this.#socket!.destroy()
      this.#owner.lost(this)
    }
    try {
      handler.onComplete(this.#reader.trailers)
    } catch (error) {
      handler.onError(error as Error)
    }
  }

  /** It has no request any more. */
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

import type { Socket } from 'node:net'
import { type BodySink, type BodySource, coded } from '../sender.js'

/**
 * Longest body that is sent with the head as one text: combining two writes costs more than converting bytes to
 * characters.
 */
const SHORT = 16_384

/** Sends a head and a complete body in one write. */
export function sendWhole(socket: Socket, head: string, body: Buffer): void {
  if (head.length + body.length < SHORT) {
    socket.write(`${head}\r\n${body.toString('latin1')}`, 'latin1')
    return
  }
  socket.cork()
  socket.write(`${head}\r\n`, 'latin1')
  socket.write(body)
  socket.uncork()
}

/** Sends a streamed body to a socket. The head leaves with the first piece. */
export class Upload implements BodySink {
  ended = false
  #sent = 0
  #stopped = false
  #full = false

  /**
   * Creates an upload.
   *
   * @param head until it has been sent with its framing; then ''
   * @param length bytes of the whole body; -1: unknown, and it is sent in chunks
   * @param broken called when the source gives more or less than that
   */
  constructor(
    private readonly socket: Socket,
    private head: string,
    private readonly source: BodySource,
    private readonly length: number,
    private readonly broken: (error: Error) => void,
  ) {}

  /** True if a part of the request has been sent. */
  get begun(): boolean {
    return this.head === ''
  }

  start(): void {
    this.source.start(this)
  }

  /** Takes the request back: nothing was sent, and it will use another connection. */
  recall(): void {
    this.#stopped = true
    this.source.wait()
  }

  /** Stops sending. */
  stop(): void {
    this.#stopped = true
  }

  drained(): void {
    if (!this.#full || this.#stopped) return
    this.#full = false
    this.source.resume()
  }

  write(piece: Buffer): boolean {
    if (this.#stopped || piece.length === 0) return true
    this.#sent += piece.length
    if (this.length >= 0 && this.#sent > this.length) {
      this.#break()
      return true
    }
    const chunked = this.length < 0
    let before = ''
    if (this.head !== '') {
      before = `${this.head}${chunked ? 'transfer-encoding: chunked' : `content-length: ${this.length}`}\r\n\r\n`
      this.head = ''
    }
    if (chunked) before += `${piece.length.toString(16)}\r\n`
    if (!this.#send(before, piece, chunked ? '\r\n' : '')) this.#full = true
    return !this.#full
  }

  end(): void {
    if (this.#stopped) return
    if (this.length >= 0 && this.#sent !== this.length) {
      this.#break()
      return
    }
    this.ended = true
    if (this.head !== '') {
      this.socket.write(`${this.head}content-length: 0\r\n\r\n`, 'latin1')
      this.head = ''
    } else if (this.length < 0) this.socket.write('0\r\n\r\n', 'latin1')
  }

  /**
   * Sends a piece.
   *
   * @returns false when the socket has enough for now
   */
  #send(before: string, piece: Buffer, after: string): boolean {
    const socket = this.socket
    if (before === '' && after === '') return socket.write(piece)
    if (before.length + piece.length < SHORT)
      return socket.write(`${before}${piece.toString('latin1')}${after}`, 'latin1')
    socket.cork()
    if (before !== '') socket.write(before, 'latin1')
    let more = socket.write(piece)
    if (after !== '') more = socket.write(after, 'latin1')
    socket.uncork()
    return more
  }

  #break(): void {
    this.#stopped = true
    this.broken(coded('UPSTREAM_UNSENDABLE', 'the body does not have the announced length'))
  }
}

import { EventEmitter } from 'node:events'
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'

/** The connection that carries the response. */
export interface Carrier {
  readonly socket: Socket
  /** The header lines for `Connection: keep-alive` and its timeout. */
  readonly keepAlive: string
  /**
   * Has the response closed once its last write is done. Set where no write is done before it returns, as with TLS: the
   * response then needs no empty write behind its own to learn of that.
   */
  readonly written: ((error?: Error | null) => void) | undefined
  /** Called when the response is out. From now on `shouldKeepAlive` decides about the connection. */
  over(): void
}

/** Longest piece that is copied into one string with the head before it, in bytes. */
const JOINED_BYTES = 16_384

const NAME = /^[\w!#$%&'*+.^`|~-]+$/
/** Bytes that a field value may not hold: the control characters, as in Node. */
const NOT_VALUE = /[^\t\x20-\x7e\x80-\xff]/
const NOTHING = ''
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n'

/**
 * Implements, on a bare socket, the parts of Node's response that forwarding and responding use. Every member means what it
 * means in Node, and the same bytes go out, but head and body are one string in one write.
 */
export class PlainResponse extends EventEmitter {
  statusCode = 200
  headersSent = false
  shouldKeepAlive = true
  chunkedEncoding = false
  writableEnded = false
  /** All of it is out. */
  writableFinished = false
  closed = false
  readonly req: IncomingMessage
  readonly #socket: Socket
  /** The head, set and not sent yet. */
  #head = NOTHING
  #hasBody = true
  /** Waits for the client to take what was written. */
  #waits = false

  constructor(
    private readonly carrier: Carrier,
    req: IncomingMessage,
  ) {
    super()
    this.#socket = carrier.socket
    this.req = req
  }

  /** Returns the socket; null once the response is over, as another response has the socket then. */
  get socket(): Socket | null {
    return this.closed ? null : this.#socket
  }

  get destroyed(): boolean {
    return this.closed ? !this.writableFinished : this.#socket.destroyed
  }

  get writableLength(): number {
    return this.closed ? 0 : this.#socket.writableLength
  }

  writeContinue(): void {
    this.#inform('HTTP/1.1 100 Continue\r\n\r\n')
  }

  /**
   * Sends a 103.
   *
   * @throws TypeError when a link cannot be sent. The caller checks that each is well-formed
   */
  writeEarlyHints({ link }: { readonly link: readonly string[] }): void {
    for (const one of link) if (NOT_VALUE.test(one)) throw new TypeError('a link that cannot be sent')
    if (link.length > 0) this.#inform(`HTTP/1.1 103 Early Hints\r\nLink: ${link.join(', ')}\r\n\r\n`)
  }

  #inform(text: string): void {
    if (!this.headersSent && this.#isOpen()) this.#socket.write(text, 'latin1')
  }

  /**
   * Sets the head.
   *
   * @throws TypeError when a field cannot be sent; nothing is set then
   */
  writeHead(status: number, reasonOrFields: string | readonly string[], fields?: readonly string[]): this {
    if (this.headersSent) throw new Error('the header was already set')
    const given = typeof reasonOrFields === 'string'
    const list = given ? fields! : reasonOrFields
    let head = `HTTP/1.1 ${status} ${given ? reasonOrFields : (STATUS_CODES[status] ?? 'unknown')}\r\n`
    if (given && NOT_VALUE.test(reasonOrFields)) throw new TypeError('a reason that cannot be sent')
    const hasBody = status !== 204 && status !== 304 && this.req.method !== 'HEAD'
    let chunked = hasBody
    let dated = false
    let closing = !this.shouldKeepAlive
    let said = false
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i]!
      const value = list[i + 1]!
      if (!NAME.test(name) || NOT_VALUE.test(value))
        throw new TypeError(`the field ${JSON.stringify(name)} cannot be sent`)
      switch (name.length) {
        case 4:
          if (name.toLowerCase() === 'date') dated = true
          break
        case 10:
          if (name.toLowerCase() === 'connection') {
            said = true
            if (value.toLowerCase() === 'close') closing = true
          }
          break
        case 14:
          if (name.toLowerCase() === 'content-length') chunked = false
          break
        case 17:
          // It says how the body ends, which the gateway decides.
          if (name.toLowerCase() === 'transfer-encoding') continue
          break
      }
      head += `${name}: ${value}\r\n`
    }
    if (!dated) head += `Date: ${httpDate()}\r\n`
    if (closing) this.shouldKeepAlive = false
    if (!said) head += closing ? 'Connection: close\r\n' : this.carrier.keepAlive
    this.#head = `${head}${chunked ? CHUNKED : '\r\n'}`
    this.statusCode = status
    this.headersSent = true
    this.chunkedEncoding = chunked
    this.#hasBody = hasBody
    return this
  }

  /**
   * Sets the head from lines that are not checked, each with its CR LF. They say nothing about the connection.
   *
   * @param start the status line, perhaps with fields behind it
   * @param dated the lines include a Date
   * @param chunked the lines include no length, and there is a body
   */
  sayHead(status: number, start: string, lines: string, dated = false, chunked = false): void {
    const date = dated ? NOTHING : `Date: ${httpDate()}\r\n`
    const connection = this.shouldKeepAlive ? this.carrier.keepAlive : 'Connection: close\r\n'
    this.#head = `${start}${lines}${date}${connection}${chunked ? CHUNKED : '\r\n'}`
    this.statusCode = status
    this.headersSent = true
    this.chunkedEncoding = chunked
    this.#hasBody = this.req.method !== 'HEAD'
  }

  flushHeaders(): void {
    this.#send(NOTHING)
  }

  /**
   * Writes a piece of the body.
   *
   * @param chunk a string is Latin-1
   * @returns false when more should wait for `drain`
   */
  write(chunk: string | Buffer): boolean {
    if (this.writableEnded || !this.#hasBody) return true
    if (this.#send(chunk)) return true
    if (!this.#waits) {
      this.#waits = true
      this.#socket.once('drain', () => {
        this.#waits = false
        if (!this.closed) this.emit('drain')
      })
    }
    return false
  }

  end(last?: string | Buffer): this {
    if (this.#sendLast(last)) process.nextTick(isOut, this)
    return this
  }

  /** Ends the response like `end`, but may emit `close` before it returns. */
  endNow(last: string | Buffer): void {
    if (this.#sendLast(last)) this.out()
  }

  /** Breaks off the connection: nobody may take the part that was sent for the whole. */
  destroy(): this {
    if (!this.closed) this.#socket.destroy()
    return this
  }

  /** Called when the connection is closed. */
  gone(): void {
    if (!this.closed) this.#close()
  }

  #isOpen(): boolean {
    return !this.closed && this.#socket.writable
  }

  /**
   * Sends a piece, together with the head if it is still to be sent.
   *
   * @returns false when the client does not take it at once
   */
  #send(piece: string | Buffer): boolean {
    const head = this.#head
    this.#head = NOTHING
    // A client that has ended its side and reads slowly gets no more. That is no reason to read everything from the
    // upstream.
    if (!this.#isOpen()) return this.closed || this.#socket.destroyed
    if (piece.length === 0) return head === NOTHING || this.#socket.write(head, 'latin1')
    if (!this.chunkedEncoding) return this.#join(head, piece, NOTHING)
    return this.#join(`${head}${piece.length.toString(16)}\r\n`, piece, '\r\n')
  }

  /** @returns whether everything is out */
  #sendLast(last: string | Buffer = NOTHING): boolean {
    if (this.writableEnded) return false
    this.writableEnded = true
    const head = this.#head
    this.#head = NOTHING
    if (!this.#isOpen()) return false
    const piece = this.#hasBody ? last : NOTHING
    const { written } = this.carrier
    if (!this.chunkedEncoding) this.#join(head, piece, NOTHING, written)
    else if (piece.length === 0) write(this.#socket, `${head}0\r\n\r\n`, written)
    else this.#join(`${head}${piece.length.toString(16)}\r\n`, piece, '\r\n0\r\n\r\n', written)
    if (written !== undefined) return false
    if (this.#socket.writableLength === 0) return true
    // An empty write, behind everything that waits.
    this.#socket.write(NOTHING, (error) => {
      if (!error) this.out()
    })
    return false
  }

  #join(before: string, piece: string | Buffer, behind: string, written?: Carrier['written']): boolean {
    const socket = this.#socket
    if (typeof piece === 'string') return write(socket, before + piece + behind, written)
    if (piece.length <= JOINED_BYTES)
      return write(socket, before + piece.toString('latin1') + behind, written)
    socket.cork()
    write(socket, before)
    const taken = socket.write(piece)
    const all = behind === NOTHING && written === undefined ? taken : write(socket, behind, written)
    socket.uncork()
    return all
  }

  /** Called when the system has taken the whole response. */
  out(): void {
    if (this.closed) return
    this.writableFinished = true
    this.#close()
  }

  #close(): void {
    this.closed = true
    this.carrier.over()
    this.emit('close')
  }
}

function isOut(response: PlainResponse): void {
  response.out()
}

function write(socket: Socket, text: string, written?: Carrier['written']): boolean {
  return (text === NOTHING && written === undefined) || socket.write(text, 'latin1', written)
}

let second = 0
let date = ''

/** Returns the current time as a Date field. */
export function httpDate(): string {
  const now = Math.floor(Date.now() / 1000)
  if (now !== second) {
    second = now
    date = new Date(now * 1000).toUTCString()
  }
  return date
}

import { EventEmitter } from 'node:events'
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'

/** Who has given it its connection. */
export interface Carrier {
  readonly socket: Socket
  /** `Connection: keep-alive`, and for how long. */
  readonly keepAlive: string
  /** The response is out; what it said of the connection holds from now on. */
  over(): void
}

/** Of a piece that is longer no copy is made to join it with what goes in front of it. */
const JOINED_BYTES = 16_384

const NAME = /^[\w!#$%&'*+.^`|~-]+$/
/** What a field's value may not hold: as Node has it, every byte but control characters. */
const NOT_VALUE = /[^\t\x20-\x7e\x80-\xff]/
const NOTHING = ''

/**
 * A response on a bare socket, in the shape of Node's, as far as those who forward and answer use that. What is there has
 * the meaning that it has there, and the same bytes go out; only that head and body are one string in one write.
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
  readonly #carrier: Carrier
  readonly #socket: Socket
  /** Said, and not sent yet. */
  #head = NOTHING
  #hasBody = true
  /** For the client to take what has been written. */
  #waits = false

  constructor(carrier: Carrier, req: IncomingMessage) {
    super()
    this.#carrier = carrier
    this.#socket = carrier.socket
    this.req = req
  }

  /** Null once it is over: the socket is then another's. */
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

  /** Throws when a link cannot be sent. Whether each is well-formed is for the caller to know. */
  writeEarlyHints({ link }: { readonly link: readonly string[] }): void {
    for (const one of link) if (NOT_VALUE.test(one)) throw new TypeError('a link that cannot be sent')
    if (link.length > 0) this.#inform(`HTTP/1.1 103 Early Hints\r\nLink: ${link.join(', ')}\r\n\r\n`)
  }

  #inform(text: string): void {
    if (!this.headersSent && this.#isOpen()) this.#socket.write(text, 'latin1')
  }

  /** Throws when a field cannot be sent, with nothing said so far. */
  writeHead(status: number, reasonOrFields: string | readonly string[], fields?: readonly string[]): this {
    if (this.headersSent) throw new Error('the header has been said')
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
          // It says how the body ends, which is for us to say.
          if (name.toLowerCase() === 'transfer-encoding') continue
          break
      }
      head += `${name}: ${value}\r\n`
    }
    if (!dated) head += `Date: ${httpDate()}\r\n`
    if (closing) this.shouldKeepAlive = false
    if (!said) head += closing ? 'Connection: close\r\n' : this.#carrier.keepAlive
    this.#head = `${head}${chunked ? 'Transfer-Encoding: chunked\r\n\r\n' : '\r\n'}`
    this.statusCode = status
    this.headersSent = true
    this.chunkedEncoding = chunked
    this.#hasBody = hasBody
    return this
  }

  /**
   * As `writeHead`, with the fields as lines, which are not looked at: for those of the gateway's own that say the body's
   * length and nothing of the connection.
   */
  sayHead(status: number, lines: string): void {
    this.#head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines}Date: ${httpDate()}\r\n${
      this.shouldKeepAlive ? this.#carrier.keepAlive : 'Connection: close\r\n'
    }\r\n`
    this.statusCode = status
    this.headersSent = true
    this.#hasBody = this.req.method !== 'HEAD'
  }

  flushHeaders(): void {
    this.#send(NOTHING)
  }

  /** @param chunk a string is Latin-1. @returns false when more should wait for `drain` */
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

  /** As `end`, for one who is prepared for that it is closed before this returns. */
  endNow(last: string | Buffer): void {
    if (this.#sendLast(last)) this.out()
  }

  /** Breaks off the connection: nobody may take what has been sent for the whole. */
  destroy(): this {
    if (!this.closed) this.#socket.destroy()
    return this
  }

  /** The connection is closed. */
  gone(): void {
    if (!this.closed) this.#close()
  }

  #isOpen(): boolean {
    return !this.closed && this.#socket.writable
  }

  /** Sends what goes in front of the piece along with it. @returns false when the client does not take it at once */
  #send(piece: string | Buffer): boolean {
    const head = this.#head
    this.#head = NOTHING
    // Who has ended its side and is slow to read gets no more, which is no reason to read all of it from the upstream.
    if (!this.#isOpen()) return this.closed || this.#socket.destroyed
    if (piece.length === 0) return head === NOTHING || this.#socket.write(head, 'latin1')
    if (!this.chunkedEncoding) return this.#join(head, piece, NOTHING)
    return this.#join(`${head}${piece.length.toString(16)}\r\n`, piece, '\r\n')
  }

  /** @returns whether all is out */
  #sendLast(last: string | Buffer = NOTHING): boolean {
    if (this.writableEnded) return false
    this.writableEnded = true
    const head = this.#head
    this.#head = NOTHING
    if (!this.#isOpen()) return false
    const piece = this.#hasBody ? last : NOTHING
    if (!this.chunkedEncoding) this.#join(head, piece, NOTHING)
    else if (piece.length === 0) this.#socket.write(`${head}0\r\n\r\n`, 'latin1')
    else this.#join(`${head}${piece.length.toString(16)}\r\n`, piece, '\r\n0\r\n\r\n')
    if (this.#socket.writableLength === 0) return true
    // Behind all that waits.
    this.#socket.write(NOTHING, (error) => {
      if (!error) this.out()
    })
    return false
  }

  #join(before: string, piece: string | Buffer, behind: string): boolean {
    const socket = this.#socket
    if (typeof piece === 'string') return write(socket, before + piece + behind)
    if (piece.length <= JOINED_BYTES) return write(socket, before + piece.toString('latin1') + behind)
    socket.cork()
    write(socket, before)
    const taken = socket.write(piece)
    const all = behind === NOTHING ? taken : socket.write(behind, 'latin1')
    socket.uncork()
    return all
  }

  /** The system has taken all of it. */
  out(): void {
    if (this.closed) return
    this.writableFinished = true
    this.#close()
  }

  #close(): void {
    this.closed = true
    this.#carrier.over()
    this.emit('close')
  }
}

function isOut(response: PlainResponse): void {
  response.out()
}

function write(socket: Socket, text: string): boolean {
  return text === NOTHING || socket.write(text, 'latin1')
}

let second = 0
let date = ''

/** Now, as a Date field says it. */
function httpDate(): string {
  const now = Math.floor(Date.now() / 1000)
  if (now !== second) {
    second = now
    date = new Date(now * 1000).toUTCString()
  }
  return date
}

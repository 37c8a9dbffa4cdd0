import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ERRORS, type ErrorCode, PROBLEM_JSON, problemBody, type Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { pushHsts } from '../exchange/tls-info.js'
import { pushAuthCookies } from '../transform/auth-fields.js'
import { shapeOwn } from '../transform/response-headers.js'

/** How long a refused connection may take to read its response, in ms. */
const FLUSH_MS = 1_000
/** How many bytes the client may send meanwhile. */
const LINGER_BYTES = 65_536

const NOTHING = Buffer.alloc(0)

interface ParserError extends Error {
  readonly code?: string | undefined
  /** The parser's explanation. */
  readonly reason?: string | undefined
  readonly rawPacket?: unknown
}

/** Maps an error of Node's parser or of its timeouts to a code of the error table. */
export function parserErrorCode(error: ParserError): ErrorCode {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return hasEndlessTarget(error.rawPacket) ? 'uri_too_long' : 'headers_too_large'
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return 'request_timeout'
    case 'HPE_INVALID_VERSION':
      // With any other reason there is no version at all: `HTTP/1`, or a line that ends with a bare LF.
      return error.reason === 'Invalid HTTP version' ? 'http_version' : 'bad_request'
    // The preface of HTTP/2.
    case 'HPE_PAUSED_H2_UPGRADE':
      return 'http_version'
    default:
      return 'bad_request'
  }
}

/**
 * Returns whether the target, not the fields, is too long. Node counts the target as part of the header: a request line
 * without an end tells the two apart.
 */
function hasEndlessTarget(packet: unknown): boolean {
  if (!Buffer.isBuffer(packet) || packet.length === 0) return false
  const end = packet.indexOf(0x0a)
  return /^[A-Z-]{1,20} \S/.test(packet.subarray(0, 24).toString('latin1')) && (end < 0 || end > 8_192)
}

/**
 * Sends a refusal on a bare socket: before there is a request to respond to, or after Node has handed the socket over.
 * Writes the outcome into the exchange.
 *
 * @param linger read on and discard for a moment: closing with unread bytes would reset the connection, and the client
 *   would lose the response. Takes the socket from Node's parser if that still has it
 */
export function refuseSocket(socket: Duplex, x: Exchange, refusal: Refusal, linger = false): void {
  noteRefusal(x, refusal)
  const body = problemBody(refusal, x.requestId)
  const fields = refusal.silent === true ? undefined : problemHeaders(x, refusal, body)
  endBare(socket, x, ERRORS[refusal.code].title, fields, Buffer.from(body), linger)
}

/**
 * Sends a whole response, with the exchange's status, on a bare socket, and ends the connection.
 *
 * @param fields name, value, …; undefined: sends nothing
 * @param linger as for `refuseSocket`
 */
export function endBare(
  socket: Duplex,
  x: Exchange,
  reason: string,
  fields: readonly string[] | undefined,
  body: Buffer,
  linger: boolean,
): void {
  // Without a listener, a reset from the other side would end the process.
  socket.on('error', () => {})
  if (socket.destroyed || !socket.writable || fields === undefined) {
    socket.destroy()
    return
  }
  const sent = x.method === 'HEAD' ? NOTHING : body
  const bytes = Buffer.concat([Buffer.from(bareHead(x.status, reason, fields), 'latin1'), sent])
  x.bytesOut = sent.length
  if (linger) {
    readOn(socket)
    socket.end(bytes)
  } else socket.end(bytes, () => socket.destroy())
  closeSoon(socket)
}

/** Writes a refusal into the exchange, as its outcome. */
export function noteRefusal(x: Exchange, { code, cause }: Refusal): void {
  x.status = ERRORS[code].status
  x.error = code
  x.cause = cause
}

/** Returns the refusal; with a Retry-After of a second if there was no room, as there may be some by then. */
export function retrySoon(refusal: Refusal): Refusal {
  const noRoom = refusal.code === 'overloaded' || refusal.code === 'share_exceeded'
  return noRoom ? { ...refusal, headers: ['Retry-After', '1'] } : refusal
}

/** Returns the header of a refusal with this body: name, value, … */
export function problemHeaders(x: Exchange, { headers }: Refusal, body: string): string[] {
  const fields = [
    'Content-Type',
    PROBLEM_JSON,
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Cache-Control',
    'no-store',
    'X-Request-Id',
    x.requestId,
  ]
  if (headers !== undefined) fields.push(...headers)
  pushHsts(fields, x.secured)
  if (x.route?.shape !== undefined) shapeOwn(fields, x.route.shape, x)
  pushAuthCookies(fields, x)
  return fields
}

/** Reads and discards what comes now, up to `LINGER_BYTES`: the parser would make requests of it. */
function readOn(socket: Duplex): void {
  const parsers = socket.listeners('data')
  let left = LINGER_BYTES
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) socket.destroy()
  })
  for (const parser of parsers) socket.off('data', parser as () => void)
  socket.resume()
}

/**
 * Lets the connection end as RFC 9112 §9.6 asks, after its last response has been sent: bytes that the client sent behind
 * that request are read and discarded for a moment.
 * Node closes at once. If bytes are still coming, or lie there unread, the client's system then throws away what it has
 * received: this response, and those before it.
 */
export function endGently(socket: Socket): void {
  // Node calls this method at the end.
  socket.destroySoon = endThenLinger
}

/** Marks a response, whose header is given, as the last one on its connection (RFC 9112 §9.6). */
export function endConnection(req: IncomingMessage, res: ServerResponse, headers: string[]): void {
  headers.push('Connection', 'close')
  res.shouldKeepAlive = false
  endGently(req.socket)
}

function endThenLinger(this: Socket): void {
  this.end()
  if (this.readableEnded) {
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
    return
  }
  this.once('end', () => this.destroy())
  readOn(this)
  closeSoon(this)
}

/**
 * Breaks off a response and its connection: nobody may take the part that was sent for the whole. A response that waits
 * behind another one is broken off in its turn. Node has not done that since version 24: the client would wait for the rest
 * for ever.
 */
export function breakOff(res: ServerResponse): void {
  if (res.socket === null) res.once('socket', (socket) => socket.destroy())
  res.destroy()
}

/** Closes the socket after a moment, which the other side has to read what was sent and to end the connection. */
export function closeSoon(socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), FLUSH_MS).unref()
  socket.once('close', () => clearTimeout(timer))
}

/** Returns the status line and the header, to be written as latin1. The connection ends with this response. */
export function bareHead(status: number, reason: string, fields: readonly string[]): string {
  let head = `HTTP/1.1 ${status} ${reason}\r\n`
  for (let i = 0; i < fields.length; i += 2) head += `${fields[i]}: ${fields[i + 1]}\r\n`
  return `${head}Date: ${new Date().toUTCString()}\r\nConnection: close\r\n\r\n`
}

/** Returns the peer's address, or an empty text when the connection is gone. */
export function peerOf(socket: Duplex | IncomingMessage['socket']): string {
  return 'remoteAddress' in socket && typeof socket.remoteAddress === 'string' ? socket.remoteAddress : ''
}

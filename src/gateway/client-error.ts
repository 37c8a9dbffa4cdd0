import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { ERRORS, type ErrorCode, PROBLEM_JSON, problemBody } from '../errors.js'

/** How long a refused connection may take to read its answer. */
const FLUSH_MS = 1_000

interface ParserError extends Error {
  readonly code?: string | undefined
  readonly rawPacket?: unknown
}

/** What Node's parser or its timers said of a connection, as a code of the error table. */
export function parserErrorCode(error: ParserError): ErrorCode {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return hasEndlessTarget(error.rawPacket) ? 'uri_too_long' : 'headers_too_large'
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return 'request_timeout'
    case 'HPE_INVALID_VERSION':
      return 'http_version'
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return 'payload_too_large'
    default:
      return 'bad_request'
  }
}

/** Node counts the target as part of the header: the request line without an end tells the two apart. */
function hasEndlessTarget(packet: unknown): boolean {
  if (!Buffer.isBuffer(packet) || packet.length === 0) return false
  const end = packet.indexOf(0x0a)
  return /^[A-Z-]{1,20} \S/.test(packet.subarray(0, 24).toString('latin1')) && (end < 0 || end > 8_192)
}

/**
 * Answers on a bare socket: for everything that is refused before there is a request to answer, or where Node has
 * handed the socket over. Nothing more is read from it.
 */
export function refuseSocket(
  socket: Duplex,
  code: ErrorCode,
  requestId: string,
  extra: readonly string[] = [],
): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const { status, title } = ERRORS[code]
  const body = problemBody({ code }, requestId)
  let head = `HTTP/1.1 ${status} ${title}\r\nContent-Type: ${PROBLEM_JSON}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`
  head += `Cache-Control: no-store\r\nX-Request-Id: ${requestId}\r\nDate: ${new Date().toUTCString()}\r\nConnection: close\r\n`
  for (let i = 0; i < extra.length; i += 2) head += `${extra[i]}: ${extra[i + 1]}\r\n`
  socket.end(`${head}\r\n${body}`, () => socket.destroy())
  const timer = setTimeout(() => socket.destroy(), FLUSH_MS)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}

/** The address of whoever is at the other end, or empty when the connection is gone. */
export function peerOf(socket: Duplex | IncomingMessage['socket']): string {
  return 'remoteAddress' in socket && typeof socket.remoteAddress === 'string' ? socket.remoteAddress : ''
}

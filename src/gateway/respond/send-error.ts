import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import { PROBLEM_JSON, type PreparedRefusal, problemBody, type Refusal } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { broken } from '../exchange/faults.js'
import { grpcRefusal, isGrpc } from '../exchange/grpc.js'
import { NO_HEADERS } from '../exchange/headers.js'
import { breakOff, endConnection, noteRefusal, problemHeaders } from './client-error.js'
import { PlainResponse } from './plain-response.js'
import { sendThisTurn } from './write-batch.js'

/**
 * How many bytes of an unwanted body are read, and for how many ms, so that the client can read the response before the
 * connection closes.
 */
const LINGER_BYTES = 65_536
const LINGER_MS = 1_000

/**
 * Statuses that close the connection: the two sides may disagree about where the next request starts, or the caller is not
 * in good faith.
 */
const CLOSING: ReadonlySet<number> = new Set([400, 408, 413, 414, 417, 431, 501, 505])

/**
 * Returns whether a body was announced that has not come to its end. (`complete` alone is false for any new request.) If
 * the header could not be read, there may be a body.
 */
export function hasUnreadBody({ headers }: Exchange, req: IncomingMessage): boolean {
  return !req.complete && (headers.contentLength > 0 || headers.chunked || headers === NO_HEADERS)
}

/** Sends a refusal from the error table. The request goes no further; its body is not parsed and barely read. */
export function sendRefusal(
  x: Exchange,
  req: IncomingMessage,
  res: ServerResponse,
  refusal: Refusal,
  draining: boolean,
): void {
  noteRefusal(x, refusal)
  const { status } = x
  if (refusal.silent === true) {
    breakOff(res)
    return
  }
  if (req.httpVersionMajor === 2 && isGrpc(x)) {
    // gRPC clients read only the status in the trailers, and take any HTTP status but 200 for a broken proxy.
    res.writeHead(200, grpcRefusal(refusal, x.requestId))
    res.end()
    return
  }
  const { prepared } = refusal
  const other: object = res
  const { route, secured, authPass } = x
  const isUsual = (route?.shape ?? secured?.hsts ?? authPass) === undefined && !draining
  if (prepared !== undefined && other instanceof PlainResponse && isUsual) {
    sendPrepared(x, other, status, prepared)
    return
  }
  const body = problemBody(refusal, x.requestId)
  const headers = problemHeaders(x, refusal, body)
  const unread = hasUnreadBody(x, req)
  // The gateway ignores requests that came along behind this one.
  if (draining || unread || CLOSING.has(status)) endConnection(req, res, headers)
  res.writeHead(status, headers)
  x.bytesOut = x.method === 'HEAD' ? 0 : body.length
  if (unread) endLingering(req, res, body)
  else endWhole(res, body)
}

/** Sends the same bytes from a prepared refusal: denials come in floods, and building each anew would cost too much. */
function sendPrepared(x: Exchange, res: PlainResponse, status: number, prepared: PreparedRefusal): void {
  const { requestId } = x
  // The id is the gateway's own, or a caller's that needs no escaping.
  const bytes = prepared.bytes + requestId.length + 3
  res.sayHead(
    status,
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${PROBLEM_FIELD}Content-Length: ${bytes}\r\nCache-Control: no-store\r\nX-Request-Id: ${requestId}\r\n`,
    prepared.lines,
  )
  x.bytesOut = x.method === 'HEAD' ? 0 : bytes
  sendThisTurn(res as unknown as ServerResponse, `${prepared.body}"${requestId}"}`)
}

const PROBLEM_FIELD = `Content-Type: ${PROBLEM_JSON}\r\n`

/** Largest body that is worth turning into text, in bytes. */
const WHOLE_BYTES = 16_384

/**
 * Sends header and body and ends the response, in one write of one string where possible.
 *
 * @param body a string is ASCII
 */
export function endWhole(res: ServerResponse, body: string | Buffer): void {
  if (res.socket === null || res.chunkedEncoding || body.length > WHOLE_BYTES || res.req.method === 'HEAD') {
    res.end(body)
  } else sendThisTurn(res, body)
}

const EMPTY = Buffer.alloc(0)

/**
 * Sends the header now. `flushHeaders` would send its Latin-1 bytes as UTF-8, so it is used only for responses that cannot
 * have a body.
 */
export function flushHead(res: ServerResponse): void {
  if (res.req.method === 'HEAD' || res.statusCode === 204 || res.statusCode === 304) res.flushHeaders()
  else res.write(EMPTY)
}

/**
 * Writes the last chunk at once, and ends the response when the client has stopped sending, or after 64 KiB or a second.
 * Closing with unread bytes would reset the connection, and the client would lose the response.
 */
export function endLingering(req: IncomingMessage, res: ServerResponse, last?: string | Buffer): void {
  if (req.httpVersionMajor === 2) {
    // An HTTP/2 stream itself tells the client that the rest is not wanted.
    res.end(last)
    return
  }
  if (last !== undefined && last.length > 0) res.write(last)
  else flushHead(res)
  let left = LINGER_BYTES
  const end = (): void => {
    clearTimeout(timer)
    req.off('data', count)
    req.off('end', end)
    try {
      res.end()
    } catch (error) {
      broken(res, error)
    }
  }
  const count = (chunk: Buffer): void => {
    left -= chunk.length
    if (left < 0) end()
  }
  const timer = setTimeout(end, LINGER_MS).unref()
  req.on('error', end)
  req.on('end', end)
  req.on('data', count)
  req.resume()
}

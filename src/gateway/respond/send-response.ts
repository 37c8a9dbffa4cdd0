import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ErrorCode } from '../../errors.js'
import type { Exchange } from '../exchange/exchange.js'
import { pushHsts } from '../exchange/tls-info.js'
import { pushAuthCookies } from '../transform/auth-fields.js'
import { endBare, endConnection } from './client-error.js'
import { endLingering, endWhole, hasUnreadBody } from './send-error.js'

/** A response from a stage, when the request ends there and nothing is wrong. */
export interface Answer {
  readonly status: number
  /** Name, value, … */
  readonly fields: readonly string[]
  readonly body: string | Uint8Array
  /** For the log: who decided that the request ends here. */
  readonly cause?: string
  /** The refusal that it amounts to, for bans. */
  readonly countsAs?: ErrorCode
}

/** Sends a response of the gateway's own. The request goes no further, and no more of its body is read than for a refusal. */
export function sendAnswer(
  x: Exchange,
  req: IncomingMessage,
  res: ServerResponse,
  answer: Answer,
  draining: boolean,
): void {
  const { bytes, headers } = noteAnswer(x, answer)
  const unread = hasUnreadBody(x, req)
  if (draining || unread) endConnection(req, res, headers)
  res.writeHead(x.status, headers)
  x.bytesOut = x.method === 'HEAD' ? 0 : bytes.length
  if (unread) endLingering(req, res, bytes)
  else if (isBodiless(x.status)) res.end()
  else endWhole(res, bytes)
}

/** Sends it on a bare socket, instead of an upgrade. */
export function answerSocket(socket: Duplex, x: Exchange, answer: Answer): void {
  const { bytes, headers } = noteAnswer(x, answer)
  endBare(socket, x, STATUS_CODES[x.status] ?? '', headers, bytes, true)
}

/** Writes the outcome into the exchange. Returns the body, and the header of the response. */
function noteAnswer(x: Exchange, { status, fields, body, cause }: Answer) {
  x.status = status
  x.cause = cause
  const bytes = isBodiless(status) ? NOTHING : Buffer.from(body as string)
  const headers = [...fields]
  if (!isBodiless(status)) headers.push('Content-Length', String(bytes.length))
  headers.push('X-Request-Id', x.requestId)
  pushHsts(headers, x.secured)
  pushAuthCookies(headers, x)
  return { bytes, headers }
}

const NOTHING = Buffer.alloc(0)

function isBodiless(status: number): boolean {
  return status === 204 || status === 304
}

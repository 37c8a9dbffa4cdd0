import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Exchange } from '../exchange/exchange.js'
import { endConnection } from './client-error.js'
import { endLingering, endWhole, hasUnreadBody } from './send-error.js'

/** A response from a stage, when the request ends there and nothing is wrong. */
export interface Answer {
  readonly status: number
  /** Name, value, … */
  readonly fields: readonly string[]
  readonly body: string
}

/** Sends a response of the gateway's own. The request goes no further, and no more of its body is read than for a refusal. */
export function sendAnswer(
  x: Exchange,
  req: IncomingMessage,
  res: ServerResponse,
  { status, fields, body }: Answer,
  draining: boolean,
): void {
  x.status = status
  const bytes = Buffer.from(body, 'utf8')
  const headers = [...fields]
  const bodiless = status === 204 || status === 304
  if (!bodiless) headers.push('Content-Length', String(bytes.length))
  headers.push('X-Request-Id', x.requestId)
  const unread = hasUnreadBody(x, req)
  if (draining || unread) endConnection(req, res, headers)
  res.writeHead(status, headers)
  x.bytesOut = bodiless || x.method === 'HEAD' ? 0 : bytes.length
  if (unread) endLingering(req, res, bytes)
  else if (bodiless) res.end()
  else endWhole(res, bytes)
}

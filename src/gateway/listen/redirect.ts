import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Config } from '../../config/schema/schema.js'
import { ERRORS, PROBLEM_JSON, problemBody } from '../../errors.js'
import { endGently } from '../respond/client-error.js'

/**
 * Returns a function that redirects the requests of a connection to https: 308, with the same host and target. Each
 * connection ends with its first response, and after `server.header_timeout` at the latest.
 *
 * @param port port of the https address
 */
export function redirectTo(port: number, settings: Config['server']): (socket: Socket) => void {
  const server = createServer({ maxHeaderSize: settings.max_header_size, requireHostHeader: false })
  const accept = (req: IncomingMessage, res: ServerResponse) =>
    redirect(req, res, port === 443 ? '' : `:${port}`)
  server.on('request', accept)
  // Node would send 100 Continue, and the client its body in plain text.
  server.on('checkContinue', accept)
  return (socket) => {
    // A server that listens nowhere does not watch its timeouts.
    const patience = setTimeout(() => socket.destroy(), settings.header_timeout)
    socket.once('close', () => clearTimeout(patience))
    server.emit('connection', socket)
  }
}

const HOST = /^(\[[0-9a-f:.]{2,45}\]|[\w.-]{1,255})(?::\d{1,5})?$/i
/** A target in the form for proxies, which names the host, too (RFC 9112 §3.2.2). */
const ABSOLUTE = /^http:\/\/([^/?#]*)(.*)$/i

function redirect(req: IncomingMessage, res: ServerResponse, port: string): void {
  const [, authority, rest] = ABSOLUTE.exec(req.url!) ?? []
  const { host: hosts = [] } = req.headersDistinct
  // Several are malformed (RFC 9112 §3.2), even if the target names the host.
  const host = hosts.length > 1 ? undefined : HOST.exec(authority ?? hosts[0] ?? '')?.[1]
  const target = authority === undefined ? req.url! : rest!.startsWith('/') ? rest! : `/${rest}`
  endGently(req.socket)
  res.setHeader('Connection', 'close')
  if (host === undefined || !target.startsWith('/')) {
    const body = problemBody({ code: 'bad_request' }, '-')
    res.writeHead(ERRORS.bad_request.status, { 'Content-Type': PROBLEM_JSON, 'Content-Length': body.length })
    res.end(body)
    return
  }
  res.writeHead(308, { Location: `https://${host}${port}${target}`, 'Content-Length': 0 })
  res.end()
}

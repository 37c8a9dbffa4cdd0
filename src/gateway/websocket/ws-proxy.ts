import { type ClientRequest, Agent as HttpAgent, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { LookupFunction, Socket } from 'node:net'
import httpProxy from 'http-proxy'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { hostnameOf, serverNameOf, tlsOptions } from '../../upstream/connector.js'
import { handshakeHeaders, switchingHeaders } from './handshake.js'

/** Events of a handshake with an upstream. One of the last three is called, once. */
export interface HandshakeEvents {
  /** A connection was made. */
  connected(): void
  failed(error: Error): void
  /** The upstream sent a response other than 101. */
  answered(answer: IncomingMessage): void
  /**
   * The upstream sent a 101.
   *
   * @param join sends the client its 101 with the given fields and pipes the two sockets into each other
   */
  switched(answer: IncomingMessage, upstream: Socket, join: (fields: readonly string[]) => void): void
}

export type WsProxy = (
  upstream: Upstream,
  path: string,
  fields: readonly string[],
  client: Socket,
  events: HandshakeEvents,
) => ClientRequest

/**
 * The parts of a request that http-proxy reads. It gets this instead of the client's request, so it can pass on nothing
 * else.
 */
interface HandshakeRequest {
  readonly method: 'GET'
  readonly url: '/'
  readonly headers: Record<string, string | string[]>
  started(request: ClientRequest): void
}

type Join = (answer: IncomingMessage, upstream: Socket, head: Buffer) => void

const NOTHING = Buffer.alloc(0)

/**
 * Does handshakes over http-proxy, which makes the request and joins the sockets once the upstream has switched. The
 * gateway removes http-proxy's handling of errors (it ends the client's socket) and of refusals (it sends a header that
 * does not fit the body), and gives it a ready-made request instead of the client's.
 */
export function createWsProxy(lookup: LookupFunction): WsProxy {
  // Keeps no connection and no TLS session: other rules may apply to the next handshake.
  const agents = { http: new HttpAgent({ lookup }), https: new HttpsAgent({ lookup, maxCachedSessions: 0 }) }
  const proxy = httpProxy.createProxyServer({})
  proxy.on('proxyReqWs', (sent, request) => (request as unknown as HandshakeRequest).started(sent))

  return function ask(upstream, path, fields, client, events) {
    let request: ClientRequest | undefined
    const handshake: HandshakeRequest = {
      method: 'GET',
      url: '/',
      headers: handshakeHeaders(fields),
      started(sent) {
        // http-proxy would normalize the path in its own way.
        sent.path = path
        request = sent
      },
    }
    proxy.ws(
      handshake as unknown as IncomingMessage,
      client,
      // Early bytes stay with the caller: http-proxy would put them back into the socket, once more on every attempt.
      NOTHING,
      { ...serverOptions(upstream), agent: upstream.tls === undefined ? agents.http : agents.https },
      () => {},
    )
    listen(request!, client, upstream.tls === undefined ? 'connect' : 'secureConnect', events)
    return request!
  }
}

/** Returns the target in the terms of http-proxy. */
function serverOptions({ origin, tls }: Upstream): httpProxy.ServerOptions {
  const { port } = new URL(origin)
  const host = hostnameOf(origin)
  if (tls === undefined) return { target: { protocol: 'http:', host, port: port || '80' } }
  // http-proxy reads some of the settings in one place and the others elsewhere.
  const { ca, cert, key, rejectUnauthorized, ...ssl } = tlsOptions(tls)
  const files = { ca, cert, key } as { ca?: string; cert?: string; key?: string }
  return {
    target: { protocol: 'https:', host, port: port || '443', ...files },
    ssl: { ...ssl, servername: serverNameOf(tls, host), ALPNProtocols: ['http/1.1'] },
    secure: rejectUnauthorized !== false,
  }
}

/** @param connected the event of a socket that can be written to */
function listen(
  request: ClientRequest,
  client: Socket,
  connected: 'connect' | 'secureConnect',
  events: HandshakeEvents,
): void {
  let told = false
  const tell = (event: () => void, otherwise?: () => void): void => {
    if (told) otherwise?.()
    else {
      told = true
      event()
    }
  }
  const join = request.listeners('upgrade')[0] as Join
  for (const event of ['upgrade', 'response', 'error']) request.removeAllListeners(event)
  request.once('socket', (socket) => socket.once(connected, () => events.connected()))
  request.on('error', (error) => tell(() => events.failed(error)))
  request.on('response', (answer) =>
    tell(
      () => events.answered(answer),
      () => answer.destroy(),
    ),
  )
  request.on('upgrade', (answer, upstream: Socket, head) => {
    upstream.on('error', () => {})
    const joined = (fields: readonly string[]): void => {
      answer.headers = switchingHeaders(fields) as typeof answer.headers
      // http-proxy writes the header as text. Its bytes have to stay as they are.
      client.setDefaultEncoding('latin1')
      join(answer, upstream, head)
    }
    tell(
      () => events.switched(answer, upstream, joined),
      () => upstream.destroy(),
    )
  })
}

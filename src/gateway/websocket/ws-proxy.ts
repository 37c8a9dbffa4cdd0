import { type ClientRequest, Agent as HttpAgent, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { LookupFunction, Socket } from 'node:net'
import httpProxy from 'http-proxy'
import type { Upstream } from '../../config/snapshot/upstream-settings.js'
import { addressOptions, tlsOptions } from '../../upstream/connector.js'

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

type Fields = Record<string, string | string[]>
type Join = (answer: IncomingMessage, upstream: Socket, head: Buffer) => void

/** The parts of a request that http-proxy reads. It gets this instead of the client's, so it can pass on nothing else. */
interface HandshakeRequest {
  readonly method: 'GET'
  readonly url: '/'
  readonly headers: Fields
  started(request: ClientRequest): void
}

const NOTHING = Buffer.alloc(0)

/**
 * Does handshakes over http-proxy, which makes the request and joins the sockets once the upstream has switched. This file
 * holds everything that the gateway borrows from http-proxy's insides, with the reason at each place. The words in brackets
 * are the names under which `ws-proxy.test.ts` checks that a version of http-proxy still lends it.
 */
export function createWsProxy(lookup: LookupFunction): WsProxy {
  // Keeps no connection and no TLS session: other rules may apply to the next handshake.
  const agents = { http: new HttpAgent({ lookup }), https: new HttpsAgent({ lookup, maxCachedSessions: 0 }) }
  const proxy = httpProxy.createProxyServer({})
  // [request event] The event brings the request before `proxy.ws` returns, and before its header is sent.
  proxy.on('proxyReqWs', (sent, request) => (request as unknown as HandshakeRequest).started(sent))

  return function ask(upstream, path, fields, client, events) {
    let request: ClientRequest | undefined
    // [what it reads] http-proxy reads only these members of a request, so it takes this object for one.
    const handshake: HandshakeRequest = {
      method: 'GET',
      url: '/',
      // It looks for these two names in lower case.
      headers: { ...byName(fields), connection: 'Upgrade', upgrade: 'websocket' },
      started(sent) {
        // [path] http-proxy would normalize the path in its own way.
        sent.path = path
        request = sent
      },
    }
    proxy.ws(
      handshake as unknown as IncomingMessage,
      client,
      // Early bytes stay with the caller: http-proxy would put them back into the socket, once more on every attempt.
      NOTHING,
      { ...serverOptions(upstream, lookup), agent: upstream.tls === undefined ? agents.http : agents.https },
      // Without a callback, http-proxy throws errors of the upstream's socket.
      () => {},
    )
    listen(request!, client, upstream.tls === undefined ? 'connect' : 'secureConnect', events)
    return request!
  }
}

/** Returns the target in the terms of http-proxy. */
function serverOptions({ origin, tls }: Upstream, lookup: LookupFunction): httpProxy.ServerOptions {
  const { host, port } = addressOptions(origin, lookup)
  if (tls === undefined) return { target: { protocol: 'http:', host, port: String(port) } }
  // [TLS settings] http-proxy reads the files from `target`, `secure` by itself, and passes `ssl` on to Node.
  const { ca, cert, key, rejectUnauthorized, ...ssl } = tlsOptions(tls, origin, 'http/1.1')
  const files = { ca, cert, key } as { ca?: string; cert?: string; key?: string }
  return {
    target: { protocol: 'https:', host, port: String(port), ...files },
    ssl,
    secure: rejectUnauthorized !== false,
  }
}

/**
 * Puts the gateway's handling of the handshake in place of http-proxy's.
 *
 * @param connected the event of a socket that can be written to
 */
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
  // [upgrade listener] It sends the 101 and pipes the sockets. It is called only once the gateway accepts the 101.
  const join = request.listeners('upgrade')[0] as Join
  // [other listeners] On an error http-proxy ends the client's socket without a response. To any other response it sends a
  // header that does not fit the body.
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
      // [101 header] The listener writes the header from this member, so it writes the gateway's fields.
      const headers: Fields = { Upgrade: 'websocket', Connection: 'Upgrade', ...byName(fields) }
      answer.headers = headers as typeof answer.headers
      // [101 bytes] It writes the header as text, and the bytes have to stay as they are.
      client.setDefaultEncoding('latin1')
      join(answer, upstream, head)
    }
    tell(
      () => events.switched(answer, upstream, joined),
      () => upstream.destroy(),
    )
  })
}

/** Turns name, value, … into the object that http-proxy takes: repeated fields become lists under the name that came first. */
function byName(list: readonly string[]): Fields {
  const out = new Map<string, [name: string, values: string[]]>()
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i]!
    const known = out.get(name.toLowerCase())
    if (known === undefined) out.set(name.toLowerCase(), [name, [list[i + 1]!]])
    else known[1].push(list[i + 1]!)
  }
  return Object.fromEntries(
    [...out.values()].map(([name, values]) => [name, values.length === 1 ? values[0]! : values]),
  )
}

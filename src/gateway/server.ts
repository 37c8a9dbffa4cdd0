import { type IncomingMessage, METHODS, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Config } from '../config/schema.js'
import { GatewayRequest } from './incoming.js'

/** What the server hands over, and to whom. */
export interface Accepting {
  accept(req: IncomingMessage, res: ServerResponse): void
  /** @param head what came behind the request's header */
  acceptUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
  acceptConnect(req: IncomingMessage, socket: Duplex): void
  /** Node's parser, or one of its timers, has given up on a connection. */
  parserFailed(error: Error, socket: Duplex): void
  /** Ends the tunnels; resolves with the last of them. */
  leave(): Promise<void>
}

/** The server of the data plane, which is not listening yet. */
export function createServer(options: Config['server'], on: Accepting): FastifyInstance {
  const app = Fastify({
    logger: false,
    // Fastify's router sees every target as `/`: routing is the snapshot's business.
    rewriteUrl: () => '/',
    requestTimeout: 0,
    keepAliveTimeout: options.keep_alive,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    http: {
      maxHeaderSize: options.max_header_size,
      headersTimeout: options.header_timeout,
      connectionsCheckingInterval: 2_000,
      highWaterMark: 65_536,
      IncomingMessage: GatewayRequest,
      insecureHTTPParser: false,
      // Node would answer by itself, past our table and uncounted: `checkVersion` looks for it.
      requireHostHeader: false,
    },
    clientErrorHandler: (error, socket) => on.parserFailed(error, socket),
  })
  const { server } = app
  // More than this Node drops in silence; 101 are enough to see that there are too many.
  server.maxHeadersCount = options.max_headers * 2 + 2
  server.maxConnections = options.max_connections
  // Without a listener Node says 100 Continue before anybody has looked at the request.
  server.on('checkContinue', (req, res) => server.emit('request', req, res))
  server.on('checkExpectation', (req, res) => server.emit('request', req, res))
  server.on('upgrade', on.acceptUpgrade)
  server.on('connect', on.acceptConnect)
  // Before the server is closed: it waits for its sockets, and Node does not count tunnels among its connections.
  let left: Promise<void> | undefined
  app.addHook('preClose', (next) => {
    left = on.leave()
    next()
  })
  // After the server: when `close` resolves, the last tunnel has been recorded.
  app.addHook('onClose', () => left)
  for (const method of METHODS) if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
  app.addHook('onRequest', (request, reply, _done) => {
    reply.hijack()
    on.accept(request.raw, reply.raw)
  })
  app.route({ method: [...app.supportedMethods], url: '/', handler: () => undefined })
  return app
}

import { once } from 'node:events'
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { Duplex } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Config } from '../../config/schema/schema.js'
import { type Listening, takeConnections } from './listener.js'
import { GatewayRequest } from './upgrade-filter.js'

/** The handlers that the server calls. */
export interface Accepting {
  accept(req: IncomingMessage, res: ServerResponse): void
  /** @param head bytes that came behind the request's header */
  acceptUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
  acceptConnect(req: IncomingMessage, socket: Duplex): void
  /** Called when Node's parser or one of its timeouts fails on a connection. */
  parserFailed(error: Error, socket: Duplex): void
  /** Ends the tunnels; resolves when the last has ended. */
  leave(): Promise<void>
  /** Ends at once the connections that Node does not count as the server's. */
  closeAll(): void
}

/**
 * Creates the data-plane server, which is not listening yet. Fastify opens, drains and closes it. Requests go straight to
 * `on`: the snapshot does the routing, and a Fastify request and reply for each would be wasted.
 */
export function createServer(listening: Listening, on: Accepting): FastifyInstance {
  let main: Server | undefined
  const leaving: (() => void)[] = []
  const { further = [] } = listening.entrance
  let ended: Promise<unknown>[] = []
  const app = Fastify({
    logger: false,
    forceCloseConnections: 'idle',
    clientErrorHandler: (error, socket) => on.parserFailed(error, socket),
    serverFactory() {
      const server = openServer(listening.snapshot().config.server, on)
      const closeAllConnections = server.closeAllConnections.bind(server)
      server.closeAllConnections = () => {
        closeAllConnections()
        on.closeAll()
      }
      const entrance = main === undefined ? listening.entrance : { ...listening.entrance, further: [] }
      leaving.push(takeConnections(server, { ...listening, entrance }))
      if (main === undefined) {
        main = server
        server.on('upgrade', on.acceptUpgrade)
      } else {
        // For a name with several addresses, Fastify makes a server for each and joins only their upgrades.
        server.on('clientError', (error, socket) => on.parserFailed(error, socket))
      }
      return server
    },
  })
  // Before the server closes: it waits for its sockets, and Node does not count tunnels among its connections.
  let left: Promise<void> | undefined
  app.addHook('preClose', (next) => {
    left = on.leave()
    ended = further.map(({ server }) => once(server, 'close'))
    for (const leave of leaving) leave()
    next()
  })
  // After the server: when `close` resolves, the last tunnel has been recorded.
  app.addHook('onClose', async () => {
    await Promise.all([left, ...ended])
  })
  return app
}

function openServer(options: Config['server'], on: Accepting): Server {
  const server = createHttpServer(
    {
      keepAliveTimeout: options.keep_alive,
      requestTimeout: 0,
      maxHeaderSize: options.max_header_size,
      headersTimeout: options.header_timeout,
      connectionsCheckingInterval: 2_000,
      highWaterMark: 65_536,
      IncomingMessage: GatewayRequest,
      insecureHTTPParser: false,
      // Node would answer by itself, outside the error table and uncounted: `checkVersion` checks Host.
      requireHostHeader: false,
    },
    on.accept,
  )
  // Node drops further headers silently. One more than the limit is enough to detect that there are too many.
  server.maxHeadersCount = options.max_headers * 2 + 2
  // Without a listener, Node sends 100 Continue before the gateway has looked at the request.
  server.on('checkContinue', on.accept)
  server.on('checkExpectation', on.accept)
  server.on('connect', on.acceptConnect)
  return server
}

import { Server as HttpServer, type IncomingMessage, ServerResponse } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { parse } from 'yaml'
import { suggest } from '../config/values/nearest-name.js'
import type { DataPlane } from '../gateway/app.js'
import type { ApplicationCaller } from '../gateway/exchange/exchange.js'
import { readClientCertificate, securedOf, setSecured } from '../gateway/exchange/tls-info.js'
import { isId, MAX_CREDENTIAL } from '../gateway/identify/identify.js'
import { endGently } from '../gateway/respond/client-error.js'
import type { Log } from '../log-throttle.js'
import { type RunningGateway, startGateway } from '../main.js'
import type { EventLog } from '../telemetry/logs/log.js'

export type { ApplicationCaller, RunningGateway }

/** Mounts the gateway in a Fastify application: `import { tidegate } from 'tidegate/fastify'`. */

export interface TidegateOptions {
  /** Path of the configuration file. */
  readonly config: string
  /** Part of the application's paths that the gateway gets. It is not cut off: routes of the file have the whole path. */
  readonly prefix?: string
  /**
   * How the application says who is calling. True: by `request.consumer`, `request.tier`, `request.tenant` and
   * `request.scopes`. A client that it does not name is identified by the file. Default: the application says nothing.
   */
  readonly identify?: boolean | ((request: FastifyRequest) => ApplicationCaller | undefined) | undefined
  /** Environment for `${NAME}` in the file. Default: that of the process. */
  readonly env?: NodeJS.ProcessEnv | undefined
  /** Replaces the configured event log, which writes to stderr. */
  readonly events?: EventLog | undefined
  /** Called once, with the open gateway: its admin address, its configuration, and `exhausted`. */
  readonly opened?: ((gateway: RunningGateway) => void) | undefined
}

const OPTIONS = ['config', 'prefix', 'identify', 'env', 'events', 'opened']

/**
 * Registers the gateway. Hooks of the application run first, then the gateway takes what none of the application's routes
 * does. What no route of the file takes is the application's 404.
 *
 * @throws Error whose message is one line: a bad configuration, or an application that cannot hand requests over
 */
export async function tidegate(app: FastifyInstance, options: TidegateOptions): Promise<void> {
  check(app, options)
  const callerOf = callerBy(options.identify)
  const underWay = new Set<ServerResponse>()
  let idle: (() => void) | undefined
  let plane!: DataPlane
  let log!: Log
  const gateway = await startGateway({
    configFile: options.config,
    ...(options.env && { env: options.env }),
    ...(options.events && { events: options.events }),
    mount(open, events) {
      plane = open
      log = events
      return {
        ended: () =>
          new Promise((resolve) => {
            idle = resolve
            if (underWay.size === 0) resolve()
          }),
        breakOff() {
          log.warn({ requests: underWay.size }, 'broke off requests of the application that were under way')
          for (const res of underWay) res.destroy()
        },
      }
    },
  })
  app.addHook('preClose', () => gateway.close(0))
  const unused = unusedIn(parse(gateway.config.source().text))
  if (unused.length > 0)
    log.warn({ keys: unused }, 'these keys have no effect: the application opens the port and ends TLS')
  if (gateway.config.current().config.routes.every(({ path }) => !path.startsWith(app.prefix)))
    log.warn({ prefix: app.prefix }, 'no route can be reached: routes have the whole path, with the prefix')

  function left(this: ServerResponse): void {
    underWay.delete(this)
    if (underWay.size === 0) idle?.()
  }

  function handle(request: FastifyRequest, reply: FastifyReply): void {
    const { raw: req } = request
    const { raw: res } = reply
    if (DOUBLE_SLASH.test(req.url!) || !plane.takes(req)) {
      reply.callNotFound()
      return
    }
    const caller = callerOf(request)
    const { socket } = req
    if (req.readableDidRead || req.readableFlowing === true) {
      // Nobody may read the rest.
      reply.header('connection', 'close')
      endGently(socket)
      throw new Error(READ)
    }
    if ((socket as TLSSocket).encrypted === true && securedOf(socket) === undefined)
      setSecured(socket, { certificate: readClientCertificate(socket as TLSSocket) })
    reply.hijack()
    const head = upgrades.get(req)
    if (head !== undefined) {
      res.detachSocket(socket)
      plane.acceptUpgrade(req, socket, head, caller)
      return
    }
    keepHeaders(reply)
    // Node has sent it already.
    if (req.headers.expect !== undefined) res.writeContinue = () => {}
    // A request of `app.inject` has no parser that would say so.
    if (req.complete === undefined) req.once('end', () => Object.assign(req, { complete: true }))
    underWay.add(res)
    res.once('close', left)
    plane.accept(req, res, caller)
  }

  // The gateway streams bodies, of any type and size.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  const urls = app.prefix === '' ? ['/*'] : ['/', '/*']
  for (const url of urls) {
    const own = app.supportedMethods.filter((method) => !app.hasRoute({ method, url: app.prefix + url }))
    if (own.length > 0) app.route({ method: own, url, handler: handle, exposeHeadRoute: false })
  }
  app.addHook('onReady', async () => {
    if (!gateway.config.current().config.routes.some(({ websocket }) => websocket?.enabled === true)) return
    // Another gateway in the same application takes them for both.
    if (taking.has(app.server)) return
    if (app.server.listenerCount('upgrade') > 0) {
      log.warn({}, 'the application takes WebSocket upgrades itself: routes with websocket get none')
      return
    }
    taking.add(app.server)
    app.server.on('upgrade', (req, socket, head) => {
      socket.on('error', () => {})
      route(req, socket as Socket, head)
    })
  })

  /** Takes an upgrade through the application's hooks to the gateway. Other offers than WebSocket count as requests. */
  function route(req: IncomingMessage, socket: Socket, head: Buffer): void {
    // Responses to requests that came before it on this connection are sent first.
    const { _httpMessage: earlier } = socket as Socket & { _httpMessage?: ServerResponse | null }
    if (earlier) {
      earlier.once('close', () => route(req, socket, head))
      return
    }
    if (!socket.writable) return
    if (/websocket/i.test(req.headers.upgrade ?? '')) upgrades.set(req, head)
    else if (
      Number(req.headers['content-length'] ?? 0) > 0 ||
      req.headers['transfer-encoding'] !== undefined
    ) {
      // Node has not read the body.
      socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      return
    }
    const res = new ServerResponse(req)
    res.shouldKeepAlive = false
    res.assignSocket(socket)
    res.on('finish', () => {
      endGently(socket)
      socket.destroySoon()
    })
    app.routing(req, res)
  }

  options.opened?.(gateway)
}

export default tidegate

// Fastify refuses to register it in another major version.
Object.assign(tidegate, { [Symbol.for('plugin-meta')]: { name: 'tidegate', fastify: '5.x' } })

/**
 * Matches a target whose path has two slashes in a row. The gateway counts them as one. Fastify does not: it may have sent
 * `//admin/x` past the hooks of `/admin`.
 */
const DOUBLE_SLASH = /^(?:https?:\/\/[^/?#]*)?\/(?:[^?#]*\/)?\//i

/** Upgrades on their way through an application, with the bytes behind their headers. */
const upgrades = new WeakMap<IncomingMessage, Buffer>()
/** Servers whose upgrades a gateway takes. */
const taking = new WeakSet<object>()

const READ =
  'tidegate: a hook of the application has read the body of this request, so the gateway cannot forward it; leave the body to the gateway'

/** Keys of `server` that concern connections, which are the application's. */
const OF_CONNECTIONS =
  `tls http2 proxy_protocol plain_path max_connections max_connections_per_client keep_alive
  header_timeout max_header_size max_headers shutdown_delay`.split(/\s+/)

/** Returns the keys that the file sets and that have no effect in an application. */
function unusedIn({ listen, server }: { listen?: unknown; server?: object | null }): string[] {
  const ofServer = OF_CONNECTIONS.filter((key) => Object.hasOwn(server ?? {}, key))
  return [...(listen === undefined ? [] : ['listen']), ...ofServer.map((key) => `server.${key}`)]
}

/**
 * Checks what the application and the options can do.
 *
 * @throws Error that says what to change
 */
function check(app: FastifyInstance, options: TidegateOptions): void {
  const wrong = Object.keys(options).filter((name) => !OPTIONS.includes(name))
  if (wrong.length > 0)
    throw new Error(
      `tidegate: unknown option ${JSON.stringify(wrong[0])}; ${suggest(wrong[0]!, OPTIONS, 'options')}`,
    )
  if (typeof options.config !== 'string')
    throw new Error('tidegate: the option config is missing; give the path of a configuration file')
  const { server } = app as { server: unknown }
  if (!(server instanceof HttpServer || server instanceof HttpsServer))
    throw new Error(
      'tidegate: the application does not serve HTTP/1.1 by node:http or node:https; leave out http2 and serverFactory, or run the gateway as a process of its own',
    )
}

/** Returns the function that asks the application who is calling. It throws on an answer that cannot be counted. */
function callerBy(identify: TidegateOptions['identify']) {
  if (identify === undefined || identify === false) return () => undefined
  const named =
    identify === true ? (request: FastifyRequest) => request as Partial<ApplicationCaller> : identify
  return (request: FastifyRequest): ApplicationCaller | undefined => {
    const answer = named(request) ?? {}
    if ('then' in answer)
      throw new TypeError('tidegate: identify is async; ask in a hook, and return the result here')
    const { consumer, tier, tenant, scopes } = answer
    if (consumer === undefined || consumer === null) return undefined
    for (const [name, value] of Object.entries({
      consumer,
      tier: tier ?? undefined,
      tenant: tenant ?? undefined,
    }))
      if (value !== undefined && !(typeof value === 'string' && isId(value)))
        throw new TypeError(
          `tidegate: the application gave a ${name} that is no text of 1 to ${MAX_CREDENTIAL} characters`,
        )
    if (scopes !== undefined && !Array.isArray(scopes))
      throw new TypeError('tidegate: the application gave scopes that are no list')
    return { consumer, tier: tier ?? undefined, tenant: tenant ?? undefined, scopes }
  }
}

/** Headers of which each response has its own. */
const NOT_KEPT = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'transfer-encoding',
])
/** Headers that add up. Of the others, the gateway's replaces the application's. */
const ADDED = new Set(['set-cookie', 'vary'])

/** Adds to the response the headers that hooks of the application have set, as Fastify would. */
function keepHeaders(reply: FastifyReply): void {
  const { raw: res } = reply
  // Hooks may also have set them on Node's response, as helmet does.
  const kept = Object.entries({ ...res.getHeaders(), ...reply.getHeaders() }).filter(
    ([name, value]) => value !== undefined && !NOT_KEPT.has(name),
  ) as [name: string, value: number | string | string[]][]
  if (kept.length === 0) return
  const writeHead = res.writeHead as (status: number, ...more: unknown[]) => ServerResponse
  res.writeHead = (status: number, ...more: unknown[]) => {
    const head = (more.pop() ?? []) as readonly string[]
    const merged = new Map<string, string[]>()
    for (let i = 0; i < head.length; i += 2) {
      const name = head[i]!.toLowerCase()
      merged.set(name, [...(merged.get(name) ?? []), head[i + 1]!])
    }
    for (const [name, value] of kept)
      if (!merged.has(name) || ADDED.has(name))
        merged.set(name, [...(merged.get(name) ?? []), value].flat().map(String))
    // Node's own merge would keep only the last of a repeated header.
    for (const name of res.getHeaderNames()) res.removeHeader(name)
    for (const [name, values] of merged) res.setHeader(name, values.length === 1 ? values[0]! : values)
    return writeHead.call(res, status, ...more)
  }
}

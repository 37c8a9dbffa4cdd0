import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Policy } from '../config/snapshot/policy.js'
import type { Service } from '../config/snapshot/snapshot.js'
import { PROBLEM_JSON, problemBody, type Refusal } from '../errors.js'
import { makeDenial } from '../gateway/quota/denial.js'
import { pushQuotaHeaders } from '../gateway/quota/headers.js'
import { compileAddressSet } from '../net/addresses.js'
import { createBlock, readBlock } from '../net/parse-cidr.js'
import { type Asked, type Taken, unknownNames } from './limiter-settings.js'

/** The limiter in front of handlers: a middleware for Express 5 and node:http, and a Fastify plugin. */

type MaybePromise<T> = T | Promise<T>
/** A value, or a function that finds it for a request. */
type For<T, Q, S> = T | ((req: Q, res: S) => MaybePromise<T>)

/** Options of the middleware and the plugin. Functions get the request and the response, or reply, of the framework. */
export interface LimitOptions<Q, S> {
  /** Tier of the caller. Required if the limiter has several. */
  readonly tier?: For<string, Q, S> | undefined
  /** Id of the consumer; undefined or null counts the client by its address. Default: by its address. */
  readonly keyGenerator?: ((req: Q, res: S) => MaybePromise<string | number | null | undefined>) | undefined
  /** Address of the client. Default: `req.ip`, which follows the framework's trust in proxies, or the socket's. */
  readonly address?: ((req: Q) => MaybePromise<string>) | undefined
  readonly tenant?: For<string | undefined, Q, S> | undefined
  /** Name of the route, for limits by route. */
  readonly route?: For<string | undefined, Q, S> | undefined
  /** Integer from 1. Default: 1. */
  readonly cost?: For<number, Q, S> | undefined
  /** Lets a request pass uncounted. */
  readonly skip?: ((req: Q, res: S) => MaybePromise<boolean>) | undefined
  /** Consumers by their ids, and addresses or blocks of addresses, that pass uncounted. */
  readonly exempt?: Exempt | undefined
  /** Status of a denial. Default: 429. */
  readonly statusCode?: number | undefined
  /** Body of a denial: text, or an object as JSON. Default: problem+json, which says what is used up and until when. */
  readonly message?:
    | string
    | object
    | ((req: Q, res: S, taken: Taken) => MaybePromise<string | object>)
    | undefined
  /** `RateLimit` and `RateLimit-Policy`. Default: true. */
  readonly standardHeaders?: boolean | undefined
  /** `X-RateLimit-*`. Default: true. */
  readonly legacyHeaders?: boolean | undefined
  /** True: a response that was not successful is given back. */
  readonly skipFailedRequests?: boolean | undefined
  /** True: a response that was successful is given back. */
  readonly skipSuccessfulRequests?: boolean | undefined
  /** Default: a status below 400. If it throws, nothing is given back. */
  readonly requestWasSuccessful?: ((req: Q, res: S) => MaybePromise<boolean>) | undefined
}

export interface Exempt {
  readonly consumers?: readonly string[] | undefined
  readonly addresses?: readonly string[] | undefined
}

export interface MiddlewareOptions<Q, S> extends LimitOptions<Q, S> {
  /** Answers a denied request. Headers are set already. */
  readonly handler?: ((req: Q, res: S, next: Next, taken: Taken) => unknown) | undefined
}

export type Next = (error?: unknown) => void

type RouteLimit = LimitOptions<FastifyRequest, FastifyReply>

export interface PluginOptions extends RouteLimit {
  /** When to decide. `preHandler`: once hooks know who is calling. Default: onRequest. */
  readonly hook?: 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler' | undefined
  /** False: only routes with `config: { rateLimit: … }` are limited. Default: true. */
  readonly global?: boolean | undefined
}

/** Parts of the limiter that the middleware and the plugin need. */
export interface Deciding {
  readonly service: Service
  readonly tiers: readonly string[]
  /** As `take`, with the limits that applied. */
  take(
    tier: string,
    consumer: string,
    asked: Asked,
  ): Promise<readonly [taken: Taken, policy: Policy | undefined]>
}

const OPTIONS =
  `tier keyGenerator address tenant route cost skip exempt statusCode message standardHeaders legacyHeaders
  skipFailedRequests skipSuccessfulRequests requestWasSuccessful`.split(/\s+/)

interface AnyRequest {
  readonly ip?: string | undefined
  readonly socket: { readonly remoteAddress?: string | undefined }
}

interface Verdict {
  readonly taken: Taken
  /** Name, value, … */
  readonly headers: readonly string[]
  /** Set if the request is denied. */
  readonly denied: { readonly status: number; readonly type: string; readonly body: string } | undefined
  /** Shortest time that the request's slots are held, in ms; undefined if it has none. */
  readonly leaseMs: number | undefined
}

/** Creates the function that decides on a request. It returns undefined for one that is not counted. */
function createGate<Q extends AnyRequest, S>(deciding: Deciding, options: LimitOptions<Q, S>) {
  const { service, tiers } = deciding
  const { exempt = {}, message, statusCode, standardHeaders = true, legacyHeaders = true } = options
  const consumers = new Set(checked('exempt', exempt, ['consumers', 'addresses']).consumers)
  for (const text of exempt.addresses ?? [])
    if (readBlock(text, createBlock()) === 'malformed')
      throw new Error(`exempt: ${JSON.stringify(text)} is no address or block; write 192.0.2.0/24`)
  const isExempt = compileAddressSet(exempt.addresses ?? [])
  const { tier = tiers.length === 1 ? tiers[0]! : undefined } = options
  if (tier === undefined) throw new Error(`give a tier; the tiers are ${tiers.join(', ')}`)

  return async function decide(req: Q, res: S): Promise<Verdict | undefined> {
    const find = <T>(value: For<T, Q, S>) =>
      typeof value === 'function' ? (value as (req: Q, res: S) => MaybePromise<T>)(req, res) : value
    if ((await options.skip?.(req, res)) === true) return undefined
    const ip = (await options.address?.(req)) ?? req.ip ?? req.socket.remoteAddress ?? ''
    const key = (await options.keyGenerator?.(req, res)) ?? undefined
    const consumer = key === undefined ? undefined : String(key)
    if (isExempt(ip) || (consumer !== undefined && consumers.has(consumer))) return undefined
    const name = await find(tier)
    const [taken, policy] = await deciding.take(name, consumer ?? ip, {
      cost: await find(options.cost),
      ip,
      tenant: await find(options.tenant),
      route: await find(options.route),
      byAddress: consumer === undefined,
    })
    const refusal = taken.allowed ? undefined : refusalOf(service, name, policy, taken)
    const all: string[] = [...(refusal?.headers ?? [])]
    if (refusal === undefined && policy !== undefined) pushQuotaHeaders(all, policy, taken)
    const headers = all.filter((_, i) => {
      const field = all[i - (i % 2)]!
      if (field.startsWith('X-RateLimit')) return legacyHeaders
      return field.startsWith('RateLimit') ? standardHeaders : true
    })
    const leaseMs = policy?.slots === true ? leaseOf(policy) : undefined
    if (refusal === undefined) return { taken, headers, denied: undefined, leaseMs }
    const told = typeof message === 'function' ? await message(req, res, taken) : message
    const status = refusal.code === 'quota_exceeded' ? (statusCode ?? 429) : 503
    return { taken, headers, denied: { status, ...bodyOf(told, refusal) }, leaseMs }
  }
}

function leaseOf({ limits }: Policy): number {
  return Math.min(
    ...limits.filter(({ algorithm }) => algorithm === 'concurrency').map(({ windowMs }) => windowMs),
  )
}

function refusalOf(service: Service, tier: string, policy: Policy | undefined, taken: Taken): Refusal {
  if (taken.blockedUntil !== undefined || policy === undefined) {
    const seconds = Math.max(1, Math.ceil(taken.retryMs / 1000))
    const detail = `This caller is blocked on ${service.name}; try again in ${seconds} s.`
    return { code: 'quota_exceeded', detail, headers: ['Retry-After', String(seconds)] }
  }
  if (taken.decidedBy === 'closed') return { code: 'store_unavailable', headers: ['Retry-After', '1'] }
  return makeDenial(service, tier, policy, taken, taken.cost)
}

function bodyOf(told: string | object | undefined, refusal: Refusal): { type: string; body: string } {
  if (typeof told === 'string') return { type: 'text/plain; charset=utf-8', body: told }
  if (told !== undefined) return { type: 'application/json; charset=utf-8', body: JSON.stringify(told) }
  // The request has no id here.
  return { type: PROBLEM_JSON, body: problemBody(refusal, '').replace(',"request_id":""', '') }
}

/** Settles the charge when the response is closed, and holds its slots until then. */
function settleAtEnd<Q, S>(
  options: LimitOptions<Q, S>,
  { taken, leaseMs }: Verdict,
  raw: ServerResponse,
  req: Q,
  res: S,
): void {
  const { skipFailedRequests: failed = false, skipSuccessfulRequests: good = false } = options
  const { requestWasSuccessful = () => raw.statusCode < 400 } = options
  const renewing =
    leaseMs === undefined ? undefined : setInterval(() => void taken.renew(), leaseMs / 2).unref()
  const end = async (): Promise<void> => {
    clearInterval(renewing)
    let back = false
    try {
      if (failed || good)
        back = raw.writableFinished && (await requestWasSuccessful(req, res)) ? good : failed
    } catch (error) {
      process.emitWarning(error as Error)
    }
    await taken.done(back ? -taken.cost : 0)
  }
  // The client may have left while the store was asked.
  if (raw.closed) void end()
  else raw.once('close', () => void end())
}

/** Values under `req.rateLimit`, where users of express-rate-limit look for them. */
function readingOf({ limit, remaining, at, resetMs }: Taken) {
  if (limit === undefined) return undefined
  const resetTime = new Date(at + resetMs)
  return { limit: limit.burst, used: limit.burst - remaining, remaining, resetTime }
}

/**
 * Creates a middleware for Express and node:http. It calls `next` for a request that may go on, and answers a denied one.
 *
 * @throws Error on an unknown option
 */
export function createMiddleware<Q extends IncomingMessage, S extends ServerResponse>(
  deciding: Deciding,
  options: MiddlewareOptions<Q, S>,
) {
  const { handler, ...others } = checked('middleware', options, [...OPTIONS, 'handler'])
  const decide = createGate<Q, S>(deciding, others)

  /** Decides, and answers a denied request. Returns true for one that may go on. */
  async function passes(req: Q, res: S, next: Next): Promise<boolean> {
    const verdict = await decide(req, res)
    if (verdict === undefined) return true
    const { taken, headers, denied } = verdict
    // Before what may throw: the application may have answered meanwhile.
    if (denied === undefined) settleAtEnd(options, verdict, res, req, res)
    Object.assign(req, { rateLimit: readingOf(taken) })
    for (let i = 0; i < headers.length; i += 2) res.setHeader(headers[i]!, headers[i + 1]!)
    if (denied === undefined) return true
    if (handler !== undefined) await handler(req, res, next, taken)
    else {
      res.statusCode = denied.status
      res.setHeader('Content-Type', denied.type)
      res.end(denied.body)
    }
    return false
  }

  return function limit(req: Q, res: S, next: Next): void {
    passes(req, res, next).then((goOn) => {
      if (goOn) next()
    }, next)
  }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Options of the limiter for this route, over those of the plugin. False: the route is not limited. */
    rateLimit?: false | RouteLimit
  }
}

/** Creates a Fastify plugin that limits the routes of the instance where it is registered, and below. */
export function createPlugin(deciding: Deciding) {
  async function tidegateLimiter(app: FastifyInstance, options: PluginOptions): Promise<void> {
    const { hook = 'onRequest', global = true, ...others } = options
    checked('plugin', others, OPTIONS)
    const create = (config: RouteLimit | undefined) => {
      const own: RouteLimit = { route: (request) => request.routeOptions.url, ...others, ...config }
      return { own, decide: createGate(deciding, checked('rateLimit', own, OPTIONS)) }
    }
    const gates = new Map<RouteLimit | undefined, ReturnType<typeof create>>()
    const gateOf = (config: RouteLimit | undefined) => {
      const found = gates.get(config) ?? create(config)
      gates.set(config, found)
      return found
    }
    // Mistakes are known before the first request.
    if (global) gateOf(undefined)
    app.addHook('onRoute', ({ config }) => void (config?.rateLimit && gateOf(config.rateLimit)))
    app.addHook(hook as 'onRequest', async (request, reply) => {
      const config = request.routeOptions.config?.rateLimit
      if (config === false || (config === undefined && !global)) return undefined
      const { own, decide } = gateOf(config)
      const verdict = await decide(request, reply)
      if (verdict === undefined) return undefined
      const { headers, denied } = verdict
      for (let i = 0; i < headers.length; i += 2) reply.header(headers[i]!, headers[i + 1]!)
      if (denied !== undefined) return reply.code(denied.status).type(denied.type).send(denied.body)
      settleAtEnd(own, verdict, reply.raw, request, reply)
      return undefined
    })
  }
  return Object.assign(tidegateLimiter, {
    // The hook holds for the routes of the instance itself, too.
    [Symbol.for('skip-override')]: true,
    [Symbol.for('plugin-meta')]: { name: 'tidegate-limiter', fastify: '5.x' },
  })
}

function checked<T extends object>(what: string, options: T, known: readonly string[]): T {
  const wrong = unknownNames(options, known)
  if (wrong.length > 0) throw new Error(`${what}: ${wrong.join('\n')}`)
  return options
}

import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import { PROBLEM_JSON } from '../errors.js'
import { HOURS } from '../metering/all-gateways-hours.js'
import { createShares } from '../shares.js'
import { DECISION } from '../telemetry/decisions/all-gateways-decisions.js'
import { DENIALS } from '../telemetry/decisions/all-gateways-denials.js'
import { SEEN } from '../telemetry/decisions/all-gateways-seen.js'
import { TOP } from '../telemetry/top/all-gateways-top.js'
import {
  type Problem,
  type ProblemCode,
  ProblemError,
  problemText,
  sendProblem,
  statusOf,
} from './access/problem.js'
import { isWrite } from './access/roles.js'
import { enter } from './auth-hook.js'
import { keepRoom } from './connections.js'
import type { AdminDeps } from './deps.js'
import { GUARDS } from './guard-question.js'
import { pageRoutes } from './page.js'
import { auditRoutes } from './routes/audit-log.js'
import { banRoutes } from './routes/bans.js'
import { configRoutes } from './routes/config.js'
import { consumerRoutes } from './routes/consumer.js'
import { decisionRoutes } from './routes/decisions.js'
import { explainRoutes } from './routes/explain.js'
import { fleetRoutes, STATUS } from './routes/fleet.js'
import { historyRoutes } from './routes/history.js'
import { importRoutes } from './routes/import.js'
import { jwksRoutes } from './routes/jwks.js'
import { keyRoutes } from './routes/keys.js'
import { METER, meterRoutes, RESEND } from './routes/meter.js'
import { metricsRoutes } from './routes/metrics.js'
import { amountRoutes } from './routes/overrides.js'
import { overviewRoutes } from './routes/overview.js'
import { FAULTS, isProbeOrScrape, probeRoutes } from './routes/probes.js'
import { serviceRoutes } from './routes/services.js'
import { storeRoutes } from './routes/store.js'
import { tierRoutes } from './routes/tier.js'
import { topRoutes } from './routes/top.js'
import { upstreamRoutes } from './routes/upstreams.js'
import { usageRoutes } from './routes/usage.js'
import { whoamiRoutes } from './routes/whoami.js'
import { TRAFFIC } from './traffic-question.js'
import { SET_UPSTREAM, UPSTREAMS } from './upstream-questions.js'

/** Questions that the routes ask the processes that serve requests. */
export const QUESTIONS = [
  UPSTREAMS,
  SET_UPSTREAM,
  GUARDS,
  FAULTS,
  STATUS,
  TOP,
  TRAFFIC,
  DECISION,
  DENIALS,
  SEEN,
  METER,
  HOURS,
  RESEND,
] as const

/** Most bytes of a body: the largest that most endpoints need is `{"tier":"…"}`. */
const BODY_BYTES = 4096
const HEADERS_MS = 3000
const REQUEST_MS = 10_000

/** Creates the admin server of `docs/admin-api.md`, not listening yet: the caller chooses the address and closes it. */
export function createAdmin(deps: AdminDeps): FastifyInstance {
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_MS,
    // a consumer's id is in the path, percent-encoded
    routerOptions: { maxParamLength: 8192 },
    http: { headersTimeout: HEADERS_MS, connectionsCheckingInterval: 1000, maxHeaderSize: 16_384 },
    // the last probe of /readyz while a server drains gets a response, not a refusal
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (_error, _request, reply) => {
      sendProblem(reply, {
        code: 'bad_request',
        detail: 'The path holds a malformed escape; percent-encode it as UTF-8.',
      })
    },
  })
  const isReserved = keepRoom(app.server, deps.shares ?? createShares())

  app.decorateRequest('actor')
  app.decorateRequest('recorded')
  app.decorateRequest('auditId')
  app.addHook('onRequest', async (request, reply) => {
    // responses are true only for a moment, and must not be shown inside another page
    reply.headers({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    if (isReserved() && !isProbeOrScrape(request.routeOptions.url)) {
      return sendProblem(reply.headers({ connection: 'close', 'retry-after': 1 }), CROWDED)
    }
    return enter(request, reply, deps)
  })
  app.addHook('onClose', async () => deps.access.close())
  app.addHook('onSend', async (request, reply) => {
    if (request.recorded !== undefined) reply.header('x-audit', request.recorded)
    if (request.auditId !== undefined) reply.header('x-audit-id', request.auditId)
  })

  // The store may still have made the change, or a part of it.
  app.addHook('onResponse', async (request, reply) => {
    const isOpen = reply.statusCode === 503 && isWrite(request) && request.recorded === undefined
    if (!isOpen || request.actor === undefined) return
    const target = `${request.method} ${request.url}`
    await deps.audit.record(request, { action: 'write.failed', target })
  })

  // JSON only: the types that an HTML form can send get 415, like any other
  app.removeAllContentTypeParsers()
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    // curl -X POST with the type and an empty body is allowed
    if (body === '') done(null, undefined)
    else parseJson(request, body as string, done)
  })
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const problem = error instanceof ProblemError ? error.problem : problemOf(error)
    if (problem.code === 'internal') {
      deps.log.error(
        { err: error, method: request.method, route: request.routeOptions.url },
        'the admin API failed on a request',
      )
    }
    return sendProblem(reply, problem)
  })
  app.setNotFoundHandler((_request, reply) =>
    sendProblem(reply, {
      code: 'not_found',
      detail: 'No such endpoint or method; docs/admin-api.md lists them.',
    }),
  )

  auditRoutes(app, deps)
  probeRoutes(app, deps)
  metricsRoutes(app, deps)
  configRoutes(app, deps)
  jwksRoutes(app, deps)
  usageRoutes(app, deps)
  tierRoutes(app, deps)
  consumerRoutes(app, deps)
  amountRoutes(app, deps)
  keyRoutes(app, deps)
  importRoutes(app, deps)
  banRoutes(app, deps)
  storeRoutes(app, deps)
  upstreamRoutes(app, deps)
  serviceRoutes(app, deps)
  decisionRoutes(app, deps)
  explainRoutes(app, deps)
  topRoutes(app, deps)
  historyRoutes(app, deps)
  meterRoutes(app, deps)
  fleetRoutes(app, deps)
  overviewRoutes(app, deps)
  whoamiRoutes(app)
  pageRoutes(app)
  return app
}

const CROWDED: Problem = {
  code: 'crowded',
  detail:
    'Most connections of the admin port are in use; the rest are for probes and scrapes. Try again shortly.',
}

function problemOf(error: FastifyError): Problem {
  switch (error.statusCode) {
    case 413:
      return { code: 'payload_too_large', detail: `A body has at most ${BODY_BYTES} bytes.` }
    case 415:
      return {
        code: 'unsupported_media_type',
        detail: 'Send the body as JSON, with Content-Type: application/json.',
      }
    case 400:
      return {
        code: 'bad_request',
        detail: 'The body is not valid JSON, or its length differs from Content-Length.',
      }
    default:
      return { code: 'internal', detail: "The admin API failed on this request; the gateway's log says why." }
  }
}

const BROKEN: Readonly<Record<string, Problem>> = {
  HPE_HEADER_OVERFLOW: { code: 'headers_too_large', detail: 'Send at most 16 KiB of header fields.' },
  ERR_HTTP_REQUEST_TIMEOUT: {
    code: 'request_timeout',
    detail: 'The request did not arrive in time; send it again.',
  },
}

/** Responds when Node's parser fails: there is no request object, only a socket. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const problem = BROKEN[error.code ?? ''] ?? {
    code: 'bad_request' as ProblemCode,
    detail: 'The request is not valid HTTP/1.1.',
  }
  const status = statusOf(problem.code)
  const body = problemText(problem)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: ${PROBLEM_JSON}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Actor, actorOf, reasonProblem } from './access/actor.js'
import type { Recorded } from './access/audit.js'
import { guard } from './access/guard.js'
import { type Problem, sendProblem } from './access/problem.js'
import { roleFor, roleProblem } from './access/roles.js'
import type { AdminDeps } from './deps.js'
import { PAGE, PAGE_ROUTES } from './page.js'
import { PROBES } from './routes/probes.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The authenticated client; not set for probes and the page. */
    actor: Actor
    recorded: Recorded | undefined
    auditId: string | undefined
  }
}

/**
 * Checks a request before any work: what a browser may do for another page, then authentication, then the role. Sends
 * the refusal itself.
 */
export async function enter(
  request: FastifyRequest,
  reply: FastifyReply,
  { access, log }: Pick<AdminDeps, 'access' | 'log'>,
): Promise<FastifyReply | undefined> {
  const { method, headers, socket } = request
  const url = request.routeOptions.url ?? ''
  const isPage = url === PAGE
  const { remoteAddress, localPort } = socket
  const refuse = (problem: Problem) => sendProblem(reply.header('connection', 'close'), problem)
  const foreign = guard(
    { method, headers, hosts: hostsOf(request.raw.rawHeaders), remoteAddress, localPort, isPage },
    access.isOpen(),
  )
  if (foreign !== undefined) return refuse(foreign)
  if (PAGE_ROUTES.has(url) || PROBES.has(url)) return undefined
  const grant = await access.identify(headers.authorization, remoteAddress ?? '')
  if ('problem' in grant) {
    const { problem, retryAfter } = grant
    if (problem.code === 'unauthorized') reply.header('www-authenticate', 'Bearer realm="tidegate admin"')
    if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
    return refuse(problem)
  }
  request.actor = actorOf(grant, request.raw)
  const needed = roleFor(request)
  const mayNot = roleProblem(grant.who, grant.role, needed)
  if (mayNot !== undefined) {
    const { address } = request.actor
    log.warn(
      { ...grant, needed, method, route: url, address },
      'the admin API refused a request: it needs another role',
    )
    return sendProblem(reply, mayNot)
  }
  const unclear = reasonProblem(headers['x-reason'])
  return unclear && sendProblem(reply, unclear)
}

function hostsOf(rawHeaders: readonly string[]): number {
  return rawHeaders.filter((text, i) => i % 2 === 0 && text.toLowerCase() === 'host').length
}

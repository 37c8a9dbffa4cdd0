import type { FastifyInstance } from 'fastify'
import { sendProblem } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { GUARDS } from '../guard-question.js'
import { serviceState } from '../service-state.js'
import { SET_UPSTREAM, UPSTREAMS } from '../upstream-questions.js'
import { listed } from './tier-of.js'

interface UpstreamOf {
  readonly Params: { readonly service: string; readonly address: string }
  readonly Body: unknown
}

/** Adds the routes that show the upstreams, drain one, and restore it. */
export function upstreamRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'ask' | 'audit'>,
): void {
  const describe = async () => (await deps.ask(UPSTREAMS, null)) ?? []

  app.get('/upstreams', async () => {
    const [upstreams, guards = []] = await Promise.all([describe(), deps.ask(GUARDS, null)])
    return { upstreams, services: guards.map(serviceState) }
  })

  app.put<UpstreamOf>('/upstreams/:service/:address', async (request, reply) => {
    const { service, address } = request.params
    const state = stateIn(request.body)
    if (state === undefined) {
      const detail = 'Send {"state":"drained"} or {"state":"serving"} and nothing else, as JSON.'
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    const names = deps.config.current().services.map(({ name }) => name)
    if (!names.includes(service)) {
      const detail = `No service ${JSON.stringify(service)}; the services are ${listed(names)}.`
      return sendProblem(reply, { code: 'not_found', detail })
    }
    const all = (await describe()).filter((one) => one.service === service)
    const found = await deps.ask(SET_UPSTREAM, { service, address, state })
    if (!found) {
      const known = listed(all.map((one) => one.address))
      const detail = `The service ${service} has no upstream ${JSON.stringify(address)}; it has ${known}.`
      return sendProblem(reply, { code: 'not_found', detail })
    }
    await deps.audit.record(request, {
      action: state === 'drained' ? 'upstream.drain' : 'upstream.restore',
      target: `${service} ${found.address}`,
      before: all.find((one) => one.address === found.address)?.state,
      after: found.state,
    })
    return found
  })
}

function stateIn(body: unknown): 'drained' | 'serving' | undefined {
  if (typeof body !== 'object' || body === null || Object.keys(body).length !== 1 || !('state' in body))
    return undefined
  return body.state === 'drained' || body.state === 'serving' ? body.state : undefined
}

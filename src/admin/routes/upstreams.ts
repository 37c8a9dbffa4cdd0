import type { FastifyInstance } from 'fastify'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { GUARDS } from '../guard-question.js'
import { serviceState } from '../service-state.js'
import { SET_UPSTREAM, UPSTREAMS } from '../upstream-questions.js'
import { bodyWith, listed, serviceNamed } from './read-request.js'

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

  app.put<UpstreamOf>('/upstreams/:service/:address', async (request) => {
    const { service, address } = request.params
    const state = bodyWith(request.body, ['state'])?.state
    if (state !== 'drained' && state !== 'serving')
      return refuse('bad_request', 'Send {"state":"drained"} or {"state":"serving"} as JSON.')
    serviceNamed(deps.config.current(), service)
    const all = (await describe()).filter((one) => one.service === service)
    const found = await deps.ask(SET_UPSTREAM, { service, address, state })
    if (!found) {
      const known = listed(all.map((one) => one.address))
      return refuse(
        'not_found',
        `The service ${service} has no upstream ${JSON.stringify(address)}; it has ${known}.`,
      )
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

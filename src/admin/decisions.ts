import type { FastifyInstance } from 'fastify'
import { type DecisionAnswer, REQUEST_ID } from '../telemetry/decisions-of-all.js'
import type { AdminDeps } from './deps.js'
import { sendProblem } from './problem.js'

interface DecisionOf {
  readonly Params: { readonly request_id: string }
}

/** Why a request was limited, or was not: asked of this gateway, then of all others on its store. */
export function decisionRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'config' | 'decisions'>): void {
  app.get<DecisionOf>('/decisions/:request_id', async (request, reply) => {
    const { request_id: id } = request.params
    if (!REQUEST_ID.test(id)) {
      const detail = 'A request id has 1 to 64 letters, digits, ".", "_" and "-"; it is in X-Request-Id.'
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    const answer = await deps.decisions(id)
    if (answer.decision !== null) return answer.decision
    const { explain, log } = deps.config.current().config
    const kept = explain.keep === 0 ? KEEPS_NONE : keeps(answer, explain.sample)
    const detail = notFound(id, answer, log.access === 'off' ? kept : `${kept} ${LOGGED}`)
    return sendProblem(reply, {
      code: 'not_found',
      detail,
      more: { nodes: answer.nodes, kept: answer.reach },
    })
  })
}

const KEEPS_NONE = 'explain.keep is 0: none are kept.'

/** What was decided outlives the process there. */
const LOGGED = 'The access log may have it still: look for the id there.'

function keeps({ reach }: DecisionAnswer, sample: number): string {
  const { kept = 0, since = null } = reach?.denied ?? {}
  const what = `Kept are denials, failures, refusals and ${Math.round(sample * 1e6) / 1e4} % of what went well, until newer ones take their place or their gateway ends.`
  return since === null ? what : `${what} The denials of this gateway (${kept}) go back to ${since}.`
}

function notFound(id: string, { nodes }: DecisionAnswer, kept: string): string {
  const { answered, silent, problem } = nodes
  const asked = `No decision on ${id} is kept (${answered} ${answered === 1 ? 'gateway' : 'gateways'} asked).`
  const missing = silent.length === 0 ? '' : ` No answer came from ${silent.join(', ')}.`
  const alone = problem === null ? '' : ` Others could not be asked: ${problem}.`
  return `${asked}${missing}${alone} ${kept}`
}

import type { FastifyInstance, FastifyReply } from 'fastify'
import {
  createDecisionsOfAll,
  type DecisionAnswer,
  REQUEST_ID,
} from '../../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionQuestion } from '../../telemetry/decisions/decision-data.js'
import { sendProblem } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { listed } from './tier-of.js'

interface DecisionOf {
  readonly Params: { readonly request_id: string }
}

interface DecisionsOf {
  readonly Querystring: Readonly<Record<string, string | readonly string[] | undefined>>
}

/**
 * Adds the routes that say why a request was limited or not, and why a consumer is: this gateway asks all others on its
 * store, too.
 */
export function decisionRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'ask'>,
): void {
  const find = createDecisionsOfAll(() => deps.store().fleet, deps.ask)

  async function told(question: DecisionQuestion, reply: FastifyReply) {
    const answer = await find(question)
    if (answer.decision !== null)
      return typeof question === 'string'
        ? answer.decision
        : // A gateway that is missing may have a later one.
          { ...answer.decision, nodes: answer.nodes }
    const { decisions, log } = deps.config.current().config
    const kept = decisions.keep === 0 ? KEEPS_NONE : keeps(answer, decisions.sample)
    const byId = typeof question === 'string'
    const detail = notFound(question, answer, log.access === 'off' ? kept : `${kept} ${logged(byId)}`)
    return sendProblem(reply, {
      code: 'not_found',
      detail,
      more: { nodes: answer.nodes, kept: answer.reach },
    })
  }

  app.get<DecisionOf>('/decisions/:request_id', async (request, reply) => {
    const { request_id: id } = request.params
    if (!REQUEST_ID.test(id)) {
      const detail = 'A request id has 1 to 64 letters, digits, ".", "_" and "-"; it is in X-Request-Id.'
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    return told(id, reply)
  })

  app.get<DecisionsOf>('/decisions', async (request, reply) => {
    const { consumer, service, ...more } = request.query
    if (
      typeof consumer !== 'string' ||
      consumer === '' ||
      Array.isArray(service) ||
      Object.keys(more).length > 0
    ) {
      const detail = 'Ask for a consumer, and for a service of it if you like; each once.'
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    const names = deps.config.current().services.map(({ name }) => name)
    if (service !== undefined && !names.includes(service as string)) {
      const detail = `No service ${JSON.stringify(service)}; the services are ${listed(names)}.`
      return sendProblem(reply, { code: 'not_found', detail })
    }
    return told({ consumer, service: service as string | undefined }, reply)
  })
}

const KEEPS_NONE = 'decisions.keep is 0: none are kept.'

/** Points to the access log: there, decisions outlive the process. */
const logged = (byId: boolean) =>
  `The access log may have it still: look for the ${byId ? 'id' : 'consumer'} there.`

function keeps({ reach }: DecisionAnswer, sample: number): string {
  const { kept = 0, since = null } = reach?.denied ?? {}
  const what = `Kept are denials, failures, refusals and ${Math.round(sample * 1e6) / 1e4} % of what went well, until newer ones take their place or their gateway ends.`
  return since === null ? what : `${what} The denials of this gateway (${kept}) go back to ${since}.`
}

function notFound(question: DecisionQuestion, { nodes }: DecisionAnswer, kept: string): string {
  const { answered, silent, problem } = nodes
  // A command that asks through the store may be the only process there.
  if (answered === 0 && silent.length === 0 && problem === null)
    return 'No gateway runs on this store: nobody is there to be asked.'
  const what =
    typeof question === 'string'
      ? `on ${question}`
      : `about ${JSON.stringify(question.consumer)}${question.service === undefined ? '' : ` on ${question.service}`}`
  const asked = `No decision ${what} is kept (${answered} ${answered === 1 ? 'gateway' : 'gateways'} asked).`
  const missing = silent.length === 0 ? '' : ` No answer came from ${silent.join(', ')}.`
  const alone = problem === null ? '' : ` Others could not be asked: ${problem}.`
  return `${asked}${missing}${alone} ${kept}`
}

import type { FastifyInstance } from 'fastify'
import {
  createDecisionsOfAll,
  type DecisionAnswer,
  REQUEST_ID,
} from '../../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionQuestion } from '../../telemetry/decisions/decision-data.js'
import { refuse } from '../access/problem.js'
import type { AdminDeps } from '../deps.js'
import { type QueryOf, readQuery, serviceNamed } from './read-request.js'

interface DecisionOf {
  readonly Params: { readonly request_id: string }
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

  async function told(question: DecisionQuestion) {
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
    return refuse('not_found', detail, { nodes: answer.nodes, kept: answer.reach })
  }

  app.get<DecisionOf>('/decisions/:request_id', (request) => {
    const { request_id: id } = request.params
    if (REQUEST_ID.test(id)) return told(id)
    return refuse(
      'bad_request',
      'A request id has 1 to 64 letters, digits, ".", "_" and "-". Find it in the header X-Request-Id.',
    )
  })

  app.get<QueryOf>('/decisions', (request) => {
    const { consumer, service } = readQuery(request.query, ['consumer', 'service'])
    if (!consumer) refuse('bad_request', 'Give a consumer; service is optional.')
    if (service !== undefined) serviceNamed(deps.config.current(), service)
    return told({ consumer, service })
  })
}

const KEEPS_NONE = 'decisions.keep is 0, so no decisions are kept.'

/** Points to the access log: there, decisions outlive the process. */
const logged = (byId: boolean) =>
  `The access log may still have it: look for the ${byId ? 'id' : 'consumer'} there.`

function keeps({ reach }: DecisionAnswer, sample: number): string {
  const { kept = 0, since = null } = reach?.denied ?? {}
  const what = `A gateway keeps denials, failures, refusals and ${Math.round(sample * 1e6) / 1e4} % of successful requests, until newer ones replace them or it stops.`
  return since === null ? what : `${what} Denials that this gateway keeps: ${kept}, the oldest from ${since}.`
}

function notFound(question: DecisionQuestion, { nodes }: DecisionAnswer, kept: string): string {
  const { answered, silent, problem } = nodes
  // A command that asks through the store may be the only process there.
  if (answered === 0 && silent.length === 0 && problem === null)
    return 'No gateway runs on this store, so none can be asked.'
  const what =
    typeof question === 'string'
      ? `for ${question}`
      : `about ${JSON.stringify(question.consumer)}${question.service === undefined ? '' : ` on ${question.service}`}`
  const asked = `No gateway has a decision ${what} (${answered} asked).`
  const missing = silent.length === 0 ? '' : ` No answer came from ${silent.join(', ')}.`
  const alone = problem === null ? '' : ` The other gateways could not be asked: ${problem}.`
  return `${asked}${missing}${alone} ${kept}`
}

import { fieldsOf } from '../../common/json.js'
import { type AskedNodes, askAll } from '../../fleet/ask-all.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import type { Ask, Question } from '../../fleet/question.js'
import { type DecisionData, latestFirst } from './decision-data.js'
import type { KeptDecisions } from './decision-store.js'
import { whyOf } from './why.js'

/** A denial of a consumer, short: `GET /decisions/{request_id}` tells the rest. */
export interface Denial extends Pick<DecisionData, 'request_id' | 'time' | 'route' | 'status'> {
  /** Service whose limit denied the request. */
  readonly service: string | null
  /** Name of that limit; null: the store was away. */
  readonly limit: string | null
  readonly why: string
}

/** The latest denials of a consumer on all gateways, newest first. */
export interface DenialsOfAll {
  readonly denials: readonly (Denial & { readonly node: string })[]
  readonly nodes: AskedNodes
}

export const MOST_DENIALS = 20
/** Longest consumer in a question, in UTF-16 units: gateways keep less of it. */
const LONGEST_CONSUMER = 256
/** Longest text in an answer, in UTF-16 units, so that 20 denials always fit into one. */
const LONGEST_TEXT = 1000

/** Asks for the latest denials of a consumer. */
export const DENIALS: Question<
  { readonly decisions: Pick<KeptDecisions, 'denials'> },
  string,
  readonly Denial[]
> = {
  name: 'denials',
  answer: ({ decisions }, consumer) => decisions.denials(consumer, MOST_DENIALS).map(denialOf),
  merge: (answers) => newest(answers.flat()),
  forGateways: (body, own) =>
    typeof body === 'string' && body !== '' && body.length <= LONGEST_CONSUMER ? own(body) : null,
}

/**
 * Creates a search for the latest denials of a consumer on all gateways of a store.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createDenialsOfAll(
  fleet: () => Pick<Fleet, 'ask' | 'node'>,
  ask: Ask,
): (consumer: string) => Promise<DenialsOfAll> {
  return async (consumer) => {
    const question = consumer.slice(0, LONGEST_CONSUMER)
    const { own = [], others, nodes } = await askAll({ fleet: fleet(), ask }, DENIALS, question, readDenials)
    const told = [{ node: fleet().node, answer: own }, ...others]
    const all = told.flatMap(({ node, answer }) => answer.map((denial) => ({ ...denial, node })))
    return { denials: newest(all), nodes }
  }
}

function newest<D extends Denial>(all: readonly D[]): D[] {
  return [...all].sort(latestFirst).slice(0, MOST_DENIALS)
}

function denialOf(decision: DecisionData): Denial {
  const { request_id, time, route, service, quota_of, status } = decision
  return {
    request_id,
    time,
    service: quota_of ?? service,
    route: route?.slice(0, LONGEST_TEXT) ?? null,
    limit: decision.decision?.binding ?? null,
    status,
    why: whyOf(decision).slice(0, LONGEST_TEXT),
  }
}

/** Reads the answer of another gateway, which may be of another version. */
function readDenials(answer: unknown): Denial[] {
  return Array.isArray(answer) ? answer.slice(0, MOST_DENIALS).flatMap((one) => readDenial(one) ?? []) : []
}

function readDenial(one: unknown): Denial | undefined {
  const { request_id, time, service, route, limit, status, why } = fieldsOf(one) as unknown as Denial
  const isText = (text: unknown) => typeof text === 'string' && text.length <= LONGEST_TEXT
  const whole =
    [request_id, time, why].every(isText) &&
    [service, route, limit].every((text) => text === null || isText(text)) &&
    !Number.isNaN(Date.parse(time)) &&
    Number.isInteger(status)
  return whole ? { request_id, time, service, route, limit, status, why } : undefined
}

import { fieldsOf } from '../../common/json.js'
import type { AskedNodes } from '../../fleet/ask-all.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import type { Ask, Question } from '../../fleet/question.js'
import { type DecisionData, type DecisionQuestion, latestFirst, mostTellingFirst } from './decision-data.js'
import type { FoundDecision, KeptDecisions, KeptSince } from './decision-store.js'
import { whyOf } from './why.js'

/** Decisions kept in one gateway: in its process, or in all of its workers. */
export interface LocalDecision {
  readonly found: (FoundDecision & { readonly worker: number | null }) | null
  readonly reach: KeptSince
}

/** A decision, and the process that made it. */
export interface ReportedDecision extends DecisionData {
  readonly why: string
  readonly node: string
  /** Number of the worker; null without workers. */
  readonly worker: number | null
  /** Number of kept requests with this id: a client may send the same id again. This decision is the latest. */
  readonly times: number
}

/** The knowledge of all gateways on one store about a request. */
export interface DecisionAnswer {
  readonly decision: ReportedDecision | null
  /** How far back this gateway keeps decisions; null when the process that asks is not a gateway. */
  readonly reach: KeptSince | null
  readonly nodes: AskedNodes
}

/** Accepted form of `X-Request-Id`: the gateway replaces any other by an id of its own. */
export const REQUEST_ID = /^[\w.-]{1,64}$/

/** Parts of a process that keep its decisions. */
export interface DecisionParts {
  readonly decisions: Pick<KeptDecisions, 'find' | 'reach'>
  /** Number of the worker; undefined without workers. */
  readonly place: number | undefined
}

/** Asks for the decision that was kept for a request or a consumer. */
export const DECISION: Question<DecisionParts, DecisionQuestion, LocalDecision> = {
  name: 'decision',
  answer({ decisions, place = null }, question) {
    const found = decisions.find(question)
    return { found: found === undefined ? null : { ...found, worker: place }, reach: decisions.reach() }
  },
  merge: (answers, question) => latestOf(answers, typeof question === 'string'),
  async forGateways(body, own) {
    const question = readQuestion(body)
    return question === undefined ? null : (await own(question)).found
  },
}

/** Reads the question of another gateway, which may be of another version. */
function readQuestion(body: unknown): DecisionQuestion | undefined {
  if (typeof body === 'string') return REQUEST_ID.test(body) ? body : undefined
  const { consumer, service } = fieldsOf(body)
  if (typeof consumer !== 'string' || consumer === '') return undefined
  if (service !== undefined && typeof service !== 'string') return undefined
  return { consumer, service }
}

/**
 * Creates a search for decisions on all gateways of a store.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createDecisionsOfAll(
  fleet: () => Pick<Fleet, 'ask' | 'node'>,
  ask: Ask,
): (question: DecisionQuestion) => Promise<DecisionAnswer> {
  return async (question) => {
    const here = await ask(DECISION, question)
    const reach = here?.reach ?? null
    const byId = typeof question === 'string'
    if (byId && here?.found) {
      const decision = told(here.found, fleet().node)
      return { decision, reach, nodes: { answered: 1, silent: [], problem: null } }
    }
    // One gateway has a given request, but the last decision about a consumer takes all of their answers.
    const enough = byId ? (answer: unknown) => readFound(answer, question) !== undefined : undefined
    const asked = await fleet().ask<unknown>(DECISION.name, question, enough === undefined ? {} : { enough })
    const { answers, silent, problem = null } = asked
    const nodes = { answered: answers.length + (here === undefined ? 0 : 1), silent, problem }
    const all = answers.flatMap(({ node, answer }) => {
      const found = readFound(answer, question)
      return found === undefined ? [] : [told(found, node)]
    })
    if (here?.found) all.push(told(here.found, fleet().node))
    const [decision = null] = all.sort(mostTellingFirst)
    // Once a request is found, gateways that have not answered do not matter.
    return { decision, reach, nodes: byId && decision !== null ? { ...nodes, silent: [] } : nodes }
  }
}

type Found = NonNullable<LocalDecision['found']>

function told({ decision, times, worker }: Found, node: string): ReportedDecision {
  const { request_id, time, ...rest } = decision
  return { request_id, why: whyOf(decision), time, node, worker, times, ...rest }
}

/** Reads the answer of another gateway, which may be of another version. */
function readFound(answer: unknown, question: DecisionQuestion): Found | undefined {
  const { decision, times, worker } = fieldsOf(answer) as Partial<Found>
  const meant =
    typeof question === 'string'
      ? decision?.request_id === question
      : typeof decision?.time === 'string' && typeof decision.consumer === 'string'
  const whole = meant && Array.isArray(decision?.limits)
  return whole && decision && typeof times === 'number'
    ? { decision, times, worker: worker ?? null }
    : undefined
}

/** Returns the latest of the decisions that several workers have kept for one id, or for a consumer. */
export function latestOf(all: readonly LocalDecision[], byId = true): LocalDecision {
  const found = all.flatMap((one) => one.found ?? [])
  const [latest] = found.sort(({ decision: a }, { decision: b }) =>
    byId ? latestFirst(a, b) : mostTellingFirst(a, b),
  )
  const times = byId ? found.reduce((sum, one) => sum + one.times, 0) : 1
  const joined = (name: keyof KeptSince) => {
    const each = all.map(({ reach }) => reach[name])
    // A worker that keeps decisions for a shorter time may have lost more.
    const since = each.flatMap((one) => one.since ?? []).sort()
    return { kept: each.reduce((sum, { kept }) => sum + kept, 0), since: since.at(-1) ?? null }
  }
  return {
    found: latest === undefined ? null : { ...latest, times },
    reach: { denied: joined('denied'), failed: joined('failed'), others: joined('others') },
  }
}

import type { Fleet } from '../limiter/fleet.js'
import type { DecisionData } from './decision-data.js'
import type { FoundDecision, KeptReach } from './kept-decisions.js'
import { whyOf } from './why.js'

/** What is kept in one gateway: in its process, or in all of its workers. */
export interface DecisionHere {
  readonly found: (FoundDecision & { readonly worker: number | null }) | null
  readonly reach: KeptReach
}

export type OwnDecisions = (requestId: string) => DecisionHere | Promise<DecisionHere>

/** A decision, and who has made it. */
export interface DecisionTold extends DecisionData {
  readonly why: string
  readonly node: string
  /** Number of the worker; null without workers. */
  readonly worker: number | null
  /** How many requests of this id are kept there: a caller may send the same again. This is the latest. */
  readonly times: number
}

/** What all gateways on one store know of a request. */
export interface DecisionAnswer {
  readonly decision: DecisionTold | null
  /** Of this gateway; null when the process that asks is none. */
  readonly reach: KeptReach | null
  readonly nodes: {
    /** This one among them. */
    readonly answered: number
    readonly silent: readonly string[]
    readonly problem: string | null
  }
}

const KIND = 'decision'
/** What `X-Request-Id` may be: any other is replaced by one of the gateway's own. */
export const REQUEST_ID = /^[\w.-]{1,64}$/

/** Lets the others on the store know what is kept here, when they ask. */
export function answerDecisions(fleet: Pick<Fleet, 'answer'>, own: OwnDecisions): void {
  fleet.answer(KIND, async (id) =>
    typeof id === 'string' && REQUEST_ID.test(id) ? (await own(id)).found : null,
  )
}

/**
 * @param fleet the one in force: a restart may bring another store
 * @param own undefined: this process serves nothing
 */
export function createDecisionsOfAll(
  fleet: () => Pick<Fleet, 'ask' | 'node'>,
  own: OwnDecisions | undefined,
): (requestId: string) => Promise<DecisionAnswer> {
  return async (requestId) => {
    const here = await own?.(requestId)
    const reach = here?.reach ?? null
    if (here?.found) {
      const decision = told(here.found, fleet().node)
      return { decision, reach, nodes: { answered: 1, silent: [], problem: null } }
    }
    const enough = (answer: unknown) => readFound(answer, requestId) !== undefined
    const { answers, silent, problem = null } = await fleet().ask<unknown>(KIND, requestId, { enough })
    const nodes = { answered: answers.length + (here === undefined ? 0 : 1), silent, problem }
    for (const { node, answer } of answers) {
      const found = readFound(answer, requestId)
      // Who has not been heard of by then does not matter.
      if (found !== undefined) return { decision: told(found, node), reach, nodes: { ...nodes, silent: [] } }
    }
    return { decision: null, reach, nodes }
  }
}

type Found = NonNullable<DecisionHere['found']>

function told({ decision, times, worker }: Found, node: string): DecisionTold {
  const { request_id, time, ...rest } = decision
  return { request_id, why: whyOf(decision), time, node, worker, times, ...rest }
}

/** The answer of another gateway, which may be of another version. */
function readFound(answer: unknown, requestId: string): Found | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined
  const { decision, times, worker } = answer as Partial<Found>
  const whole = decision?.request_id === requestId && Array.isArray(decision.limits)
  return whole && typeof times === 'number' ? { decision, times, worker: worker ?? null } : undefined
}

/** The latest of those that several workers have kept of one id. */
export function latestOf(all: readonly DecisionHere[]): DecisionHere {
  const found = all.flatMap((one) => one.found ?? [])
  const [latest] = found.sort((a, b) => (a.decision.time < b.decision.time ? 1 : -1))
  const times = found.reduce((sum, one) => sum + one.times, 0)
  const joined = (name: keyof KeptReach) => {
    const each = all.map(({ reach }) => reach[name])
    // Of a worker that keeps less far back, more may have been lost.
    const since = each.flatMap((one) => one.since ?? []).sort()
    return { kept: each.reduce((sum, { kept }) => sum + kept, 0), since: since.at(-1) ?? null }
  }
  return {
    found: latest === undefined ? null : { ...latest, times },
    reach: { denied: joined('denied'), failed: joined('failed'), others: joined('others') },
  }
}

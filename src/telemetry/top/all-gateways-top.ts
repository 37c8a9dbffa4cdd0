import { ANSWER_BYTES, type Fleet } from '../../fleet/gateway-rpc.js'
import { cutTop, mergeTop, readTopQuestion, readTopReading } from './merge.js'
import type { TopQuestion, TopReading } from './top.js'

/** Returns the counts of one gateway; with workers, of all of them. */
export type OwnTop = (question: TopQuestion) => TopReading | Promise<TopReading>

/** Counts of all gateways on one store that have answered. */
export interface TopOfAll {
  readonly reading: TopReading
  readonly nodes: {
    /** Gateways that answered, including this one. */
    readonly answered: number
    readonly silent: readonly string[]
    /** Reason why no other gateway could be asked; null: they were asked, or there is no store to ask through. */
    readonly problem: string | null
  }
}

const KIND = 'top'
/** Ms for which an answer is reused for the same question: any number of people may look. */
const GOOD_FOR = 500
/** Leaves room for the envelope of the fleet. */
const BYTES = ANSWER_BYTES - 1024

/** Answers other gateways on the store that ask for the counts of this one. */
export function answerTop(fleet: Pick<Fleet, 'answer'>, own: OwnTop): void {
  fleet.answer(KIND, async (body) => {
    const question = readTopQuestion(body)
    return question === undefined ? null : cutTop(await own(question), BYTES)
  })
}

/**
 * Creates a search for the top consumers on all gateways of a store.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 * @param own undefined: this process serves no requests and has no counts of its own
 */
export function createTopOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  own: OwnTop | undefined,
): (question: TopQuestion) => Promise<TopOfAll> {
  const latest = new Map<string, { readonly until: number; readonly told: Promise<TopOfAll> }>()

  async function ask(question: TopQuestion): Promise<TopOfAll> {
    const [mine, others] = await Promise.all([own?.(question), fleet().ask<unknown>(KIND, question)])
    const readings = others.answers.flatMap(({ answer }) => readTopReading(answer) ?? [])
    if (mine !== undefined) readings.push(mine)
    const { silent, problem = null } = others
    return { reading: mergeTop(readings), nodes: { answered: readings.length, silent, problem } }
  }

  return (question) => {
    const now = performance.now()
    for (const [key, { until }] of latest) if (until <= now) latest.delete(key)
    const key = JSON.stringify([question.by, question.service, question.tier])
    const known = latest.get(key)
    if (known !== undefined) return known.told
    const told = ask(question)
    latest.set(key, { until: now + GOOD_FOR, told })
    return told
  }
}

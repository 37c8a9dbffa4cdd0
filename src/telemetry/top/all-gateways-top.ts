import { ANSWER_BYTES, type Fleet } from '../../fleet/gateway-rpc.js'
import { cutTop, mergeTop, readTopQuestion, readTopReading } from './merge.js'
import type { TopQuestion, TopReading } from './top.js'

/** What one gateway has counted; with workers, all of them. */
export type OwnTop = (question: TopQuestion) => TopReading | Promise<TopReading>

/** What all gateways on one store have counted, as far as they have answered. */
export interface TopOfAll {
  readonly reading: TopReading
  readonly nodes: {
    /** This one among them. */
    readonly answered: number
    readonly silent: readonly string[]
    /** Why nobody else could be asked; null: they could, or there is no store to ask them by. */
    readonly problem: string | null
  }
}

const KIND = 'top'
/** Ms for which an answer is given to others who ask the same: any number of people may look. */
const GOOD_FOR = 500
/** Room for the envelope that the fleet puts around. */
const BYTES = ANSWER_BYTES - 1024

/** Lets the others on the store know what is counted here, when they ask. */
export function answerTop(fleet: Pick<Fleet, 'answer'>, own: OwnTop): void {
  fleet.answer(KIND, async (body) => {
    const question = readTopQuestion(body)
    return question === undefined ? null : cutTop(await own(question), BYTES)
  })
}

/**
 * @param fleet the one in force: a restart may bring another store
 * @param own undefined: this process serves nothing, and there is nothing of its own to be told
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

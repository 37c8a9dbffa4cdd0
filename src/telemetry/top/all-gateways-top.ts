import { reuse } from '../../common/reuse.js'
import { ANSWER_BYTES, type Fleet } from '../../fleet/gateway-rpc.js'
import type { Ask, Question } from '../../fleet/question.js'
import type { AskedNodes } from '../decisions/all-gateways-decisions.js'
import { cutTop, mergeTop, readTopQuestion, readTopReading } from './merge.js'
import type { Top, TopQuestion, TopReading } from './top.js'

/** Counts of all gateways on one store that have answered. */
export interface TopOfAll {
  readonly reading: TopReading
  readonly nodes: AskedNodes
}

/** Ms for which an answer is reused for the same question: any number of people may look. */
const GOOD_FOR = 500
/** Leaves room for the envelope of the fleet. */
const BYTES = ANSWER_BYTES - 1024

/** Asks for the consumers that are limited now, near a limit, or cost most. */
export const TOP: Question<{ readonly top: Pick<Top, 'read'> }, TopQuestion, TopReading> = {
  name: 'top',
  answer: ({ top }, question) => top.read(question),
  merge: mergeTop,
  async forGateways(body, own) {
    const question = readTopQuestion(body)
    return question === undefined ? null : cutTop(await own(question), BYTES)
  },
}

/**
 * Creates a search for the top consumers on all gateways of a store.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createTopOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  ask: Ask,
): (question: TopQuestion) => Promise<TopOfAll> {
  return reuse(GOOD_FOR, async (question) => {
    const [mine, others] = await Promise.all([ask(TOP, question), fleet().ask<unknown>(TOP.name, question)])
    const readings = others.answers.flatMap(({ answer }) => readTopReading(answer) ?? [])
    if (mine !== undefined) readings.push(mine)
    const { silent, problem = null } = others
    return { reading: mergeTop(readings), nodes: { answered: readings.length, silent, problem } }
  })
}

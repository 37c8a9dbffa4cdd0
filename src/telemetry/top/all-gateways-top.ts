import { reuse } from '../../common/reuse.js'
import { type AskedNodes, askAll } from '../../fleet/ask-all.js'
import { ANSWER_BYTES, type Fleet } from '../../fleet/gateway-rpc.js'
import type { Ask, Question } from '../../fleet/question.js'
import { cutTop, mergeTop, readTopQuestion, readTopReading } from './merge.js'
import type { Top, TopQuestion, TopReading } from './top.js'

/** Counts of all gateways on one store that have answered. */
export interface TopOfAll {
  readonly reading: TopReading
  readonly nodes: AskedNodes
}

/** Ms for which an answer is reused for the same question: any number of people may look. */
const GOOD_FOR = 500
/** Least ms between two questions, whatever services and tiers they are about. */
const APART = 550
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
  const find = async (question: TopQuestion): Promise<TopOfAll> => {
    const { own, others, nodes } = await askAll({ fleet: fleet(), ask }, TOP, question, readTopReading)
    const readings = others.map(({ answer }) => answer)
    if (own !== undefined) readings.push(own)
    return { reading: mergeTop(readings), nodes }
  }
  return reuse(GOOD_FOR, find, APART)
}

import { omitUndefined } from '../common/maps.js'
import type { Fleet } from './gateway-rpc.js'
import type { Ask, Question } from './question.js'

/** Gateways that were asked. */
export interface AskedNodes {
  /** Gateways that answered, including this one. */
  readonly answered: number
  readonly silent: readonly string[]
  /** Reason why the others could not be asked; null: they were, or there is no store to ask through. */
  readonly problem: string | null
}

/** Answers of this gateway and of all others on its store. */
export interface AllAnswers<Answer> {
  /** Undefined in a command, which is not a gateway. */
  readonly own: Answer | undefined
  readonly others: readonly { readonly node: string; readonly answer: Answer }[]
  readonly nodes: AskedNodes
}

/**
 * Asks this gateway and all others on its store.
 *
 * @param read parses an answer, which may come from another version; undefined if it is invalid
 * @param timeoutMs longest wait for other gateways. Default: that of the question for workers
 */
export async function askAll<Body, Answer>(
  { fleet, ask }: { readonly fleet: Pick<Fleet, 'ask'>; readonly ask: Ask },
  question: Question<never, Body, Answer>,
  body: NoInfer<Body>,
  read: (answer: unknown) => NoInfer<Answer> | undefined,
  timeoutMs = question.timeoutMs,
): Promise<AllAnswers<Answer>> {
  const [own, { answers, silent, problem = null }] = await Promise.all([
    ask(question, body),
    fleet.ask<unknown>(question.name, body, omitUndefined({ timeoutMs })),
  ])
  const others = answers.flatMap(({ node, answer: told }) => {
    const answer = read(told)
    return answer === undefined ? [] : [{ node, answer }]
  })
  return { own, others, nodes: { answered: answers.length + (own === undefined ? 0 : 1), silent, problem } }
}

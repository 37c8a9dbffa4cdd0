import type { Fleet } from './gateway-rpc.js'

/**
 * Question that the admin API asks of the processes that serve requests: this one, or all workers. Bodies and answers
 * are JSON data.
 */
export interface Question<Parts, Body, Answer> {
  /** Name in messages. Processes of other versions may ask by it. */
  readonly name: string
  /** Answers in a process that serves requests, from the parts of it that the answer needs. */
  readonly answer: (parts: Parts, body: Body) => Answer | Promise<Answer>
  /** Merges the answers of all workers. There are none while no worker serves. */
  readonly merge: (answers: readonly Answer[], body: Body) => Answer
  /** Longest wait for a worker, in ms. A worker that answers later is left out. Default: 1000. */
  readonly timeoutMs?: number
  /**
   * Answers the other gateways on the store, which may be of another version. Returns null if it does not understand the
   * body. Left out: only this gateway asks.
   *
   * @param own asks the processes of this gateway
   */
  readonly forGateways?: (body: unknown, own: (body: Body) => Promise<Answer>) => unknown
}

/** Questions by which a process with these parts can be asked. */
// biome-ignore lint/suspicious/noExplicitAny: each question has a body and an answer of its own
export type Questions<Parts> = readonly Question<Parts, any, any>[]

/**
 * Asks the processes of this gateway that serve requests. Resolves with undefined if there are none, as in a command
 * that works on the store.
 */
export type Ask = <Body, Answer>(
  question: Question<never, Body, Answer>,
  body: NoInfer<Body>,
) => Promise<Answer | undefined>

/**
 * Creates the function with which a process that serves requests answers.
 *
 * @throws Error if the question is not one of `questions`
 */
export function createAnswers<Parts>(
  questions: Questions<Parts>,
  parts: Parts,
): (name: string, body: unknown) => unknown {
  const byName = new Map(questions.map((question) => [question.name, question]))
  return (name, body) => {
    const question = byName.get(name)
    if (question === undefined) throw new Error(`no process answers the question ${name}`)
    return question.answer(parts, body)
  }
}

/** Answers the other gateways on a store by what the processes of this one say. */
export function answerGateways(fleet: Pick<Fleet, 'answer'>, questions: Questions<never>, ask: Ask): void {
  for (const question of questions) {
    const { name, forGateways } = question
    if (forGateways !== undefined)
      fleet.answer(name, (body) => forGateways(body, (own) => ask(question, own)))
  }
}

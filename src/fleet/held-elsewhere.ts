import { ANSWER_BYTES, type Fleet, type FleetAnswers, TOO_MANY } from './gateway-rpc.js'

/**
 * Lets gateways read from each other what they hold of a map that the store has forgotten. A gateway first asks who
 * knows how much. It then reads everything page by page, so that neither side holds more than one page in addition to
 * its map.
 */

/** Content of a map in one process. */
export interface HeldTexts {
  /** Number of the latest change that the store had reported before it forgot. */
  readonly known: number
  /**
   * Number of the change up to which `texts` is complete, counting the changes the store has reported since it forgot.
   */
  readonly change: number
  readonly texts: Iterable<readonly [key: string, text: string]>
}

type Pair = readonly [key: string, text: string]

interface Page {
  readonly texts: readonly Pair[]
  /** Number of the next page; 0 if there is none. */
  readonly next: number
}

/** Maximum size of a page, in bytes, with room for the envelope around it. */
const PAGE_BYTES = ANSWER_BYTES - 50_000
/** Readers whose position is kept. Beyond this, the oldest reader loses its position and starts again. */
const MOST_READERS = 16
/** How long to wait for answers, in ms. */
const PATIENCE = 1000
const TRY_AGAIN = 120
const MOST_TRIES = 50

const kindOf = (map: string) => `held:${map}`

/**
 * Answers other gateways that want to read what this one holds.
 *
 * @param held returns undefined while the store has forgotten nothing that this process knows
 * @returns a function that ends that
 */
export function answerHeld(
  fleet: Pick<Fleet, 'answer'>,
  map: string,
  held: () => HeldTexts | undefined,
): () => void {
  /** Position of each reader. The iterator of a Map returns each entry once, even if the Map changes meanwhile. */
  const readers = new Map<number, Iterator<Pair>>()
  let count = 0

  function pageOf(iterator: Iterator<Pair>): Page {
    const texts: Pair[] = []
    let bytes = 0
    while (bytes < PAGE_BYTES) {
      const { done, value } = iterator.next()
      if (done) return { texts, next: 0 }
      texts.push(value)
      bytes += Buffer.byteLength(JSON.stringify(value)) + 1
    }
    readers.set(++count, iterator)
    if (readers.size > MOST_READERS) readers.delete(readers.keys().next().value!)
    return { texts, next: count }
  }

  fleet.answer(kindOf(map), (body) => {
    const here = held()
    if (here === undefined) return null
    if (body === null) return [here.known, here.change]
    const iterator = body === 0 ? here.texts[Symbol.iterator]() : readers.get(body as number)
    readers.delete(body as number)
    return iterator === undefined ? null : pageOf(iterator)
  })
  return () => fleet.answer(kindOf(map), undefined)
}

/**
 * Reads what the gateway with the latest change holds. Never rejects.
 *
 * @param moreThan number of a change. Gateways that know no later change are not asked for their values.
 * @param most maximum number of values. A longer answer is not believed.
 * @returns undefined if no gateway knows more, or if the one that does has not sent everything
 */
export async function askHeld(
  fleet: Pick<Fleet, 'ask'>,
  map: string,
  moreThan: number,
  most: number,
): Promise<(HeldTexts & { readonly texts: ReadonlyMap<string, string> }) | undefined> {
  async function ask(body: unknown, to?: string): Promise<FleetAnswers<unknown>['answers']> {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const asked = await fleet.ask<unknown>(kindOf(map), body, { timeoutMs: PATIENCE, to })
      if (asked.problem !== TOO_MANY) return asked.answers
      await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN))
    }
    return []
  }

  let best: { member: string; known: number; change: number } | undefined
  for (const { member, answer } of await ask(null)) {
    const [known, change] = Array.isArray(answer) ? (answer as unknown[]) : []
    if (!Number.isSafeInteger(known) || !Number.isSafeInteger(change)) continue
    if ((known as number) <= (best?.known ?? moreThan)) continue
    best = { member, known: known as number, change: change as number }
  }
  if (best === undefined) return undefined
  const texts = new Map<string, string>()
  let next = 0
  do {
    const [told] = await ask(next, best.member)
    const page = readPage(told?.answer)
    if (page === undefined || texts.size + page.texts.length > most) return undefined
    for (const [key, text] of page.texts) texts.set(key, text)
    next = page.next
  } while (next !== 0)
  return { known: best.known, change: best.change, texts }
}

/** Parses a page from another gateway, which may run another version. */
function readPage(answer: unknown): Page | undefined {
  const { texts, next } = (answer ?? {}) as Partial<Page>
  const isPair = (pair: unknown) =>
    Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string'
  return Array.isArray(texts) && texts.every(isPair) && Number.isSafeInteger(next)
    ? { texts, next: next! }
    : undefined
}

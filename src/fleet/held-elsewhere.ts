import { ANSWER_BYTES, type Fleet, type FleetAnswers, TOO_MANY } from './gateway-rpc.js'

/**
 * Gateways tell each other what they hold of a map that the store has forgotten: first who knows how much, then all of
 * it, page by page, so that neither side holds more than one page beside its map.
 */

/** What one process holds. */
export interface HeldTexts {
  /** Number of the latest change that the store had told before it forgot. */
  readonly known: number
  /** Number of the change up to which `texts` is complete, of those that the store has told since. */
  readonly change: number
  readonly texts: Iterable<readonly [key: string, text: string]>
}

type Pair = readonly [key: string, text: string]

interface Page {
  readonly texts: readonly Pair[]
  /** Which page follows; 0: none. */
  readonly next: number
}

/** Bytes of a page, with room for what stands around it. */
const PAGE_BYTES = ANSWER_BYTES - 50_000
/** Pages that are read at a time: whoever comes later starts anew. */
const MOST_READERS = 16
/** Ms. */
const PATIENCE = 1000
const TRY_AGAIN = 120
const MOST_TRIES = 50

const kindOf = (map: string) => `held:${map}`

/** Lets others read what is held here. @param held undefined: the store has forgotten nothing that this process knows */
export function answerHeld(
  fleet: Pick<Fleet, 'answer'>,
  map: string,
  held: () => HeldTexts | undefined,
): void {
  /** Where each reader goes on. A Map's iterator sees each entry once, whatever changes meanwhile. */
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
}

/**
 * Reads what the gateway holds that knows the latest change. Never rejects.
 *
 * @param moreThan number of a change: whoever knows no later one is not asked
 * @param most values: more are not believed
 * @returns undefined: nobody knows more, or whoever does has not told all of it
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

/** The answer of another gateway, which may be of another version. */
function readPage(answer: unknown): Page | undefined {
  const { texts, next } = (answer ?? {}) as Partial<Page>
  const isPair = (pair: unknown) =>
    Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'string'
  return Array.isArray(texts) && texts.every(isPair) && Number.isSafeInteger(next)
    ? { texts, next: next! }
    : undefined
}

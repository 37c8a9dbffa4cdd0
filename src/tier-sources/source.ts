import { A_MINUTE, type Log, throttledWarning } from '../log-throttle.js'
import { createShares, createTurns, give, type Shares, take } from '../shares.js'
import { createMemory } from './memory.js'
import { createSourceHealth } from './source-health.js'
import { type Directory, NoAnswerForOne, type TierAnswer } from './tier-answer.js'
import type { Answer, Found, SourceCounts, TierSource, TierSourceTimes } from './tier-source.js'

export interface TierSourceOptions extends TierSourceTimes {
  readonly name: string
  readonly tellsTenants: boolean
  readonly directory: Directory
  readonly max_consumers: number
  /** Questions that the source gets at the same time. Further ones wait. */
  readonly pool?: number
  /** Shares of the source among callers. Default: shares of its own. */
  readonly shares?: Pick<Shares, 'open' | 'callerOf'>
  /** Counts that continue when a source replaces another of the same name. */
  readonly counts: SourceCounts
  readonly log: Log
  /** Clock in ms, monotonic. */
  readonly now?: () => number
  readonly random?: () => number
}

interface Known {
  /** Undefined if the source does not know the consumer, or has not answered. */
  found: Found | undefined
  /** When the source was asked for `found`; -Infinity if it has not answered yet. */
  at: number
  /** When the last question that failed was asked. */
  failedAt: number
  changed: boolean
}

interface Question {
  readonly consumer: string
  readonly answer: Promise<Found | undefined>
  settle(found: Found | undefined): void
  /** True once the source has been asked. Until then the question waits for its turn. */
  asked: boolean
  /** Callers that wait for the question to be asked. */
  readonly callers: Set<string>
  /** Timer that runs while the question waits. */
  waits: NodeJS.Timeout | undefined
  giveUp(why: string): void
  at: number
  /** True if the consumer has changed since the question was asked: the answer may be outdated. */
  overtaken: boolean
}

/**
 * Maximum number of questions in progress and waiting. Beyond it, and beyond the share of one caller, requests go on
 * without an answer.
 */
const MOST_QUESTIONS = 512
/** Pause before a consumer is asked for again after a question without a usable answer, in ms. */
const AGAIN = 1000

/**
 * Creates a source that answers from memory while answers are fresh, and afterwards while a new one is fetched
 * (stale-while-revalidate, RFC 5861). Requests for the same consumer share one question. A consumer waits for the
 * source at most once in a ttl. While the source is down, no request waits: known answers last for `stale` longer, and
 * an unknown consumer has no answer.
 */
export function createTierSource(options: TierSourceOptions): TierSource {
  const { name, tellsTenants, directory, counts, log, now: clock = () => performance.now() } = options
  let times: TierSourceTimes = options
  const memory = createMemory<Known>(options.max_consumers)
  const questions = new Map<string, Question>()
  const { pool = MOST_QUESTIONS, shares = createShares() } = options
  const share = shares.open('tier_lookups', MOST_QUESTIONS)
  /** Questions that wait until the source has a connection to spare. */
  const turns = createTurns<Question>(({ asked }) => asked)
  let asking = 0
  const reach = createSourceHealth(name, log, options.random)
  const warn = throttledWarning(log, A_MINUTE)
  /** Time before which every answer counts as older than its ttl. Such answers last no longer than `stale`. */
  let epoch = Number.NEGATIVE_INFINITY
  let closed = false

  /** Returns the last known answer as stale, while nothing newer is known. */
  function lastOf({ found, at }: Known, now: number): Found | undefined {
    return found === undefined || now - at >= times.ttl + times.stale ? undefined : { ...found, stale: true }
  }

  function find(consumer: string, now: number, address: string | undefined): Answer {
    const known = memory.get(consumer)
    if (known === undefined) return ask(consumer, known, now, address)
    const { found, at } = known
    const age = now - at
    const holds = found === undefined ? times.negative_ttl : times.ttl
    if (age < holds && at >= epoch && !known.changed) {
      if (found === undefined) counts.lookups.negative++
      else counts.lookups.hit++
      return found
    }
    if (known.changed || age >= holds + times.stale) return ask(consumer, known, now, address)
    if (now - known.failedAt >= AGAIN) question(consumer, now, address)
    if (found === undefined) {
      counts.lookups.negative++
      return undefined
    }
    counts.lookups.stale++
    return lastOf(known, now)
  }

  /** Asks the source for a consumer with no fresh answer. */
  function ask(consumer: string, known: Known | undefined, now: number, address: string | undefined): Answer {
    if (!consumer.isWellFormed()) {
      // In UTF-8 this id would become the id of another consumer.
      counts.lookups.negative++
      return undefined
    }
    const failedAt = known?.failedAt ?? Number.NEGATIVE_INFINITY
    const asked = now - failedAt >= AGAIN ? question(consumer, now, address) : undefined
    // A request whose consumer has waited in vain does not wait again. No request waits for a probe.
    if (asked === undefined || !times.wait || !reach.up || now - failedAt < times.ttl) {
      const last = known && lastOf(known, now)
      if (last === undefined) counts.lookups.skipped++
      else counts.lookups.stale++
      return last
    }
    counts.lookups.miss++
    return asked.answer
  }

  /** Returns the question in progress, or a new one. Undefined if none may be asked now. */
  function question(consumer: string, now: number, address: string | undefined): Question | undefined {
    // Clients behind a trusted proxy share an address, so they are told apart by consumer.
    const caller = (address === undefined ? undefined : shares.callerOf(address)) ?? consumer
    const underWay = questions.get(consumer)
    if (underWay !== undefined) {
      // The question is asked as soon as the first of its callers has a turn.
      if (!underWay.asked && !underWay.callers.has(caller)) joinTurns(underWay, caller)
      return underWay
    }
    const { up } = reach
    if (closed || take(share, caller) !== undefined) return undefined
    // Asked last: a probe that it allows must be made.
    if (!reach.mayAsk(now, consumer)) {
      give(share, caller)
      return undefined
    }
    let settle: Question['settle'] = () => {}
    const answer = new Promise<Found | undefined>((resolve) => {
      settle = resolve
    }).finally(() => {
      give(share, caller)
      questions.delete(consumer)
    })
    const made: Question = {
      consumer,
      answer,
      settle,
      asked: false,
      callers: new Set(),
      waits: undefined,
      giveUp() {},
      at: 0,
      overtaken: false,
    }
    questions.set(consumer, made)
    // A probe is the only question, and decides for all.
    if (!up || asking < pool) put(made)
    else queue(made, caller)
    return made
  }

  /**
   * Queues a question. A wait here is no failure of the source: a question that waits too long is dropped, and asked
   * again later.
   */
  function queue(made: Question, caller: string): void {
    const drop = (): void => {
      clearTimeout(made.waits)
      made.asked = true
      counts.questions.dropped++
      const known = memory.get(made.consumer)
      made.settle(known && lastOf(known, clock()))
    }
    made.waits = setTimeout(drop, times.timeout)
    made.giveUp = drop
    joinTurns(made, caller)
  }

  function joinTurns(made: Question, caller: string): void {
    made.callers.add(caller)
    turns.push(caller, made)
  }

  function nextTurn(): void {
    while (asking < pool) {
      const next = turns.next()
      if (next === undefined) return
      // No question waits for a source that is down.
      if (!reach.up) next.giveUp('the source is down')
      else put(next)
    }
  }

  /** Sends the question to the source. */
  function put(asked: Question): void {
    const { consumer } = asked
    const controller = new AbortController()
    const { signal } = controller
    let late = false
    clearTimeout(asked.waits)
    asked.giveUp = (why) => controller.abort(new Error(why))
    const tooLate = () => {
      late = true
      asked.giveUp(`no answer within ${times.timeout} ms`)
    }
    // An answer that arrived while the event loop was blocked is read first: the delay was not the source's fault.
    const timer = setTimeout(() => setImmediate(tooLate), times.timeout)
    const given = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
    asked.asked = true
    asked.at = clock()
    asked.overtaken = false
    asking++
    Promise.race([lookUp(consumer, signal), given])
      .then((answer) => learn(consumer, answer))
      .catch((error: Error) => inVain(consumer, late, error))
      .then((found) => {
        clearTimeout(timer)
        asking--
        asked.settle(found)
        nextTurn()
      })
  }

  /** Looks the consumer up. The function is async, so that an error thrown by the source becomes a rejection. */
  async function lookUp(consumer: string, signal: AbortSignal): Promise<TierAnswer | undefined> {
    return directory.look(consumer, signal)
  }

  function learn(consumer: string, answer: TierAnswer | undefined): Found | undefined {
    const { at, overtaken } = questions.get(consumer)!
    reach.answered(clock())
    counts.questions[answer === undefined ? 'none' : 'found']++
    const found = answer && { tier: answer.tier, tenant: answer.tenant, stale: false }
    memory.set(consumer, { found, at, failedAt: Number.NEGATIVE_INFINITY, changed: overtaken })
    return found
  }

  function inVain(consumer: string, late: boolean, error: Error): Found | undefined {
    const now = clock()
    const known = memory.get(consumer)
    if (closed) return known && lastOf(known, now)
    if (error instanceof NoAnswerForOne) reach.unfit(now, consumer, error.message)
    else reach.failed(now, consumer, error.message)
    counts.questions[late ? 'timeout' : 'error']++
    if (known === undefined) {
      const nothing = { found: undefined, at: Number.NEGATIVE_INFINITY, failedAt: now, changed: false }
      memory.set(consumer, nothing)
      return undefined
    }
    known.failedAt = now
    if (known.changed) {
      known.changed = false
      // The answer is known to be outdated: it is only used while nothing newer is known.
      known.at = Math.min(known.at, now - (known.found === undefined ? times.negative_ttl : times.ttl))
    }
    return lastOf(known, now)
  }

  return {
    name,
    tellsTenants,
    find,
    changed(consumer) {
      const asked = questions.get(consumer)
      if (asked !== undefined) asked.overtaken = true
      const known = memory.get(consumer)
      if (known !== undefined) known.changed = true
    },
    allChanged() {
      epoch = clock()
    },
    unknownTier(tier) {
      counts.unknownTiers++
      warn(
        { source: name, tier },
        'a tier source names a tier that tiers does not have; it counts as none',
        clock(),
      )
    },
    adjust(next) {
      times = next
    },
    describe: () => ({ source: name, up: reach.up, counts, remembered: memory.size }),
    async close() {
      closed = true
      for (const asked of questions.values()) asked.giveUp('the source is closed')
      await directory.close()
    },
  }
}

import { createShares, createTurns, give, type Shares, take } from '../shares.js'
import { createMemory } from './memory.js'
import { createReach, onceAMinute, type ReachLog } from './source-health.js'
import { type Directory, NoAnswerForOne, type Plan } from './tier-answer.js'

/** A plan as a request is given it. */
export interface Found extends Plan {
  /** It is older than its ttl: the source was slow, down, or is being asked. */
  readonly stale: boolean
}

/** One source of tiers, with what it has said lately. */
export interface PlanSource {
  readonly name: string
  readonly tellsTenants: boolean
  /**
   * What is known of a consumer. At once where that is in memory; else a promise, which never rejects. It waits for its turn
   * at the source no longer than the timeout, and then for the answer no longer than that. Undefined: the source does not know the consumer, or is not asked.
   *
   * @param now ms, monotonic
   * @param address of whoever comes as that consumer: all questions from one are one caller's
   */
  find(consumer: string, now: number, address?: string): Found | undefined | Promise<Found | undefined>
  /** The consumer's plan has changed: who comes next waits for the new one. */
  changed(consumer: string): void
  /** Any may have changed: what is known holds as if its ttl had passed. */
  allChanged(): void
  /** A tier was found that the configuration does not have. */
  unknownTier(tier: string): void
  /** From now on. */
  adjust(times: PlanTimes): void
  describe(): SourceState
  close(): Promise<void>
}

/** Ms. */
export interface PlanTimes {
  readonly wait: boolean
  readonly ttl: number
  readonly stale: number
  readonly negative_ttl: number
  readonly timeout: number
}

/** What look-ups came to. One for each request that came to the source. */
export const LOOKUPS = ['hit', 'stale', 'negative', 'miss', 'skipped'] as const
/** What questions to the source came to. */
export const ANSWERS = ['found', 'none', 'timeout', 'error', 'dropped'] as const

export interface SourceCounts {
  readonly lookups: Record<(typeof LOOKUPS)[number], number>
  readonly questions: Record<(typeof ANSWERS)[number], number>
  unknownTiers: number
  /** Connections that were ended because the database broke the protocol. */
  protocolErrors: number
}

export interface SourceState {
  readonly source: string
  readonly up: boolean
  readonly counts: SourceCounts
  /** Consumers of whom an answer is remembered. */
  readonly remembered: number
}

export function createCounts(): SourceCounts {
  return {
    lookups: { hit: 0, stale: 0, negative: 0, miss: 0, skipped: 0 },
    questions: { found: 0, none: 0, timeout: 0, error: 0, dropped: 0 },
    unknownTiers: 0,
    protocolErrors: 0,
  }
}

export interface PlanSourceOptions extends PlanTimes {
  readonly name: string
  readonly tellsTenants: boolean
  readonly directory: Directory
  readonly max_consumers: number
  /** Questions that it is asked at the same time; further ones wait. */
  readonly pool?: number
  /** Left out: shares of its own. */
  readonly shares?: Pick<Shares, 'open' | 'callerOf'>
  /** Go on when a source takes the place of one of its name. */
  readonly counts: SourceCounts
  readonly log: ReachLog
  /** Ms, monotonic. */
  readonly now?: () => number
  readonly random?: () => number
}

interface Known {
  /** Undefined: the source does not know the consumer, or has said nothing. */
  found: Found | undefined
  /** When it was asked for that; -Infinity: it has not said anything yet. */
  at: number
  /** When it was asked in vain last. */
  failedAt: number
  changed: boolean
}

interface Question {
  readonly consumer: string
  readonly answer: Promise<Found | undefined>
  settle(found: Found | undefined): void
  /** The source has been asked; else it waits for its turn. */
  asked: boolean
  /** Who waits for it to be asked. */
  readonly callers: Set<string>
  /** While it waits. */
  waits: NodeJS.Timeout | undefined
  giveUp(why: string): void
  at: number
  /** The consumer has changed since it was asked: the answer may be of before. */
  overtaken: boolean
}

/** Questions under way and waiting. Of more, the requests go on without an answer; so they do past the share of one caller. */
const MOST_QUESTIONS = 512
/** Ms until a consumer of whom nothing could be found out is asked for again. */
const AGAIN = 1000

/**
 * Answers from memory while they hold, and beyond that while a new one is asked for (stale-while-revalidate, RFC 5861).
 * Many that ask for one consumer are one question. A consumer waits for the source at most once in a ttl, and nobody does
 * while the source is down: what is known lasts for `stale` longer then, and who is not known has no plan.
 */
export function createPlanSource(options: PlanSourceOptions): PlanSource {
  const { name, tellsTenants, directory, counts, log, now: clock = () => performance.now() } = options
  let times: PlanTimes = options
  const memory = createMemory<Known>(options.max_consumers)
  const questions = new Map<string, Question>()
  const { pool = MOST_QUESTIONS, shares = createShares() } = options
  const share = shares.open('tier_lookups', MOST_QUESTIONS)
  /** Those that wait until the source has one connection to spare. */
  const turns = createTurns<Question>()
  let asking = 0
  const reach = createReach(name, log, options.random)
  const warn = onceAMinute((fields, message) => log.warn(fields, message))
  /** What was learnt before does not hold any longer than `stale`. */
  let epoch = Number.NEGATIVE_INFINITY
  let closed = false

  /** What holds for want of anything newer. */
  function lastOf({ found, at }: Known, now: number): Found | undefined {
    return found === undefined || now - at >= times.ttl + times.stale ? undefined : { ...found, stale: true }
  }

  function find(
    consumer: string,
    now: number,
    address: string | undefined,
  ): Found | undefined | Promise<Found | undefined> {
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

  /** Of one of whom nothing is known that holds. */
  function ask(
    consumer: string,
    known: Known | undefined,
    now: number,
    address: string | undefined,
  ): Found | undefined | Promise<Found | undefined> {
    if (!consumer.isWellFormed()) {
      // Written in UTF-8 it would be the id of another.
      counts.lookups.negative++
      return undefined
    }
    const failedAt = known?.failedAt ?? Number.NEGATIVE_INFINITY
    const asked = now - failedAt >= AGAIN ? question(consumer, now, address) : undefined
    // Who has waited in vain does not wait again; nor does anybody for a probe.
    if (asked === undefined || !times.wait || !reach.up || now - failedAt < times.ttl) {
      const last = known && lastOf(known, now)
      if (last === undefined) counts.lookups.skipped++
      else counts.lookups.stale++
      return last
    }
    counts.lookups.miss++
    return asked.answer
  }

  /** The one that is under way, or a new one. Undefined: none may be asked now. */
  function question(consumer: string, now: number, address: string | undefined): Question | undefined {
    // Whoever comes through a trusted proxy is told apart by what they are known as.
    const caller = (address === undefined ? undefined : shares.callerOf(address)) ?? consumer
    const underWay = questions.get(consumer)
    if (underWay !== undefined) {
      // It waits for whoever is first.
      if (!underWay.asked && !underWay.callers.has(caller)) joinTurns(underWay, caller)
      return underWay
    }
    const { up } = reach
    if (closed || !reach.mayAsk(now, consumer) || take(share, caller) !== undefined) return undefined
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
    // A probe is the only one, and decides for all.
    if (!up || asking < pool) put(made)
    else queue(made, caller)
    return made
  }

  /** Waiting in here is no failure of the source: what has to wait for too long is dropped, and asked for again. */
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
      if (next.asked) continue
      // Nobody waits for a source that is down.
      if (!reach.up) next.giveUp('the source is down')
      else put(next)
    }
  }

  /** Puts it to the source. */
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
    // An answer that has come while the event loop stood still is read first: that was not the source's fault.
    const timer = setTimeout(() => setImmediate(tooLate), times.timeout)
    const given = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
    asked.asked = true
    asked.at = clock()
    asked.overtaken = false
    asking++
    Promise.race([lookUp(consumer, signal), given])
      .then((plan) => learn(consumer, plan))
      .catch((error: Error) => inVain(consumer, late, error))
      .then((found) => {
        clearTimeout(timer)
        asking--
        asked.settle(found)
        nextTurn()
      })
  }

  /** Async, so that what it throws is an answer, too. */
  async function lookUp(consumer: string, signal: AbortSignal): Promise<Plan | undefined> {
    return directory.look(consumer, signal)
  }

  function learn(consumer: string, plan: Plan | undefined): Found | undefined {
    const { at, overtaken } = questions.get(consumer)!
    reach.answered(clock())
    counts.questions[plan === undefined ? 'none' : 'found']++
    const found = plan && { tier: plan.tier, tenant: plan.tenant, stale: false }
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
      // It is known to be of before: it does not hold, but for want of anything newer.
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
        clock(),
        { source: name, tier },
        'a tier source names a tier that tiers does not have; it counts as none',
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

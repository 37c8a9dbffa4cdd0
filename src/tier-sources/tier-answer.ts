/** What a source knows of a consumer. At least one of the two is there. */
export interface Plan {
  /** As the source writes it: whether the configuration has a tier of that name is seen when it is used. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
}

/** The source answers, but what it says of this one consumer is of no use. Of itself, and of the others, that says nothing. */
export class NoAnswerForOne extends Error {}

/** Where plans are looked up. */
export interface Directory {
  /**
   * Undefined: it knows nothing of the consumer. Rejects when there is no answer, or one that is none: with
   * NoAnswerForOne where that is for this consumer.
   *
   * @param signal aborted when nobody waits any longer: then what it takes is given back at once
   */
  look(consumer: string, signal: AbortSignal): Promise<Plan | undefined>
  /** Gives back all that it holds; waits a second at most. */
  close(): Promise<void>
}

/** As long as the names of tiers in the configuration, and ids of tenants. */
const LONGEST_TIER = 63
const LONGEST_TENANT = 256

/** What came out of a row or a document. Throws NoAnswerForOne when it cannot be what it should. */
export function planOf(tier: unknown, tenant: unknown): Plan | undefined {
  const plan = { tier: textOf('tier', tier, LONGEST_TIER), tenant: textOf('tenant', tenant, LONGEST_TENANT) }
  return plan.tier === undefined && plan.tenant === undefined ? undefined : plan
}

function textOf(what: string, value: unknown, most: number): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'bigint') {
    throw new NoAnswerForOne(`its ${what} is neither text nor a number`)
  }
  const text = String(value)
  if (text.length > most) throw new NoAnswerForOne(`its ${what} is longer than ${most} characters`)
  return text
}

/** Answer of a consumer as a source knows it. At least one of the two members is set. */
export interface TierAnswer {
  /** Name as the source writes it. The lookup does not check that the configuration has such a tier; its use does. */
  readonly tier: string | undefined
  readonly tenant: string | undefined
}

/**
 * The source answers, but the answer for this one consumer is unusable. It says nothing about the source or other
 * consumers.
 */
export class NoAnswerForOne extends Error {}

/** Place where tiers are looked up. */
export interface Directory {
  /**
   * Looks up a consumer's tier. Undefined: the directory does not know the consumer. Rejects when there is no answer or
   * an unusable one: with NoAnswerForOne if the reason is this consumer.
   *
   * @param signal aborted when no request waits any longer: the lookup then releases its resources at once
   */
  look(consumer: string, signal: AbortSignal): Promise<TierAnswer | undefined>
  /** Releases everything that the directory holds. Waits a second at most. */
  close(): Promise<void>
}

/** Longest accepted names, as for tiers in the configuration and ids of tenants. */
const LONGEST_TIER = 63
const LONGEST_TENANT = 256

/** Checks the values of a row or a document. Throws NoAnswerForOne when they have the wrong form. */
export function tierAnswerOf(tier: unknown, tenant: unknown): TierAnswer | undefined {
  const answer = {
    tier: textOf('tier', tier, LONGEST_TIER),
    tenant: textOf('tenant', tenant, LONGEST_TENANT),
  }
  return answer.tier === undefined && answer.tenant === undefined ? undefined : answer
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

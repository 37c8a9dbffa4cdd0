import type { Fleet } from '../../fleet/gateway-rpc.js'
import type { Seen } from './last-seen.js'

/** Returns what one gateway knows about a consumer: its process, or all of its workers. */
export type OwnSeen = (consumer: string) => Seen | null | Promise<Seen | null>

/** The knowledge of all gateways on one store about a consumer's credential. */
export interface SeenAnswer {
  readonly seen: Seen | undefined
  /** Reason, for an operator, why some gateways could not be asked. */
  readonly problem: string | undefined
}

const KIND = 'seen'
/** Timeout in ms: a support engineer is waiting. */
const TIMEOUT = 500
const LONGEST_ID = 256

/** Answers other gateways on the store that ask which consumers this gateway has seen. */
export function answerSeen(fleet: Pick<Fleet, 'answer'>, own: OwnSeen): void {
  fleet.answer(KIND, async (body) =>
    typeof body === 'string' && body.length <= LONGEST_ID ? own(body) : null,
  )
}

/**
 * Creates a search, on all gateways, for the credential that a consumer used last.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 * @param own undefined: this process serves no requests
 */
export function createSeenOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  own: OwnSeen | undefined,
): (consumer: string) => Promise<SeenAnswer> {
  return async (consumer) => {
    const [here, { answers, silent, problem }] = await Promise.all([
      own?.(consumer),
      fleet().ask<unknown>(KIND, consumer, { timeoutMs: TIMEOUT }),
    ])
    const all = answers.flatMap(({ answer }) => readSeen(answer) ?? [])
    const quiet = silent.length === 0 ? undefined : `${silent.join(', ')} did not answer`
    return { seen: latestSeen([...all, here ?? null]), problem: problem ?? quiet }
  }
}

/** Returns the latest of several sightings. */
export function latestSeen(all: readonly (Seen | null)[]): Seen | undefined {
  let latest: Seen | undefined
  for (const one of all) if (one !== null && (latest === undefined || one.at > latest.at)) latest = one
  return latest
}

/** Reads the answer of another gateway, which may be of another version. */
function readSeen(answer: unknown): Seen | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined
  const { identified_by, tier, tenant, at } = answer as Partial<Seen>
  const isText = (text: unknown) => text === null || typeof text === 'string'
  return typeof identified_by === 'string' && isText(tier) && isText(tenant) && typeof at === 'number'
    ? { identified_by, tier: tier!, tenant: tenant!, at }
    : undefined
}

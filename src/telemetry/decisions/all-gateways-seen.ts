import { fieldsOf } from '../../common/json.js'
import { askAll } from '../../fleet/ask-all.js'
import type { Fleet } from '../../fleet/gateway-rpc.js'
import type { Ask, Question } from '../../fleet/question.js'
import type { LastSeen, Seen } from './last-seen.js'

/** The knowledge of all gateways on one store about a consumer's credential. */
export interface SeenAnswer {
  readonly seen: Seen | undefined
  /** Reason, for an operator, why some gateways could not be asked. */
  readonly problem: string | undefined
}

/** Timeout in ms: a support engineer is waiting. */
const TIMEOUT = 500
const LONGEST_ID = 256

/** Asks for the credential that a consumer used last. Null: this gateway has not seen the consumer. */
export const SEEN: Question<{ readonly seen: Pick<LastSeen, 'find'> }, string, Seen | null> = {
  name: 'seen',
  answer: ({ seen }, consumer) => seen.find(consumer) ?? null,
  merge: (answers) => latestSeen(answers) ?? null,
  forGateways: (body, own) => (typeof body === 'string' && body.length <= LONGEST_ID ? own(body) : null),
}

/**
 * Creates a search, on all gateways, for the credential that a consumer used last.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createSeenOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  ask: Ask,
): (consumer: string) => Promise<SeenAnswer> {
  return async (consumer) => {
    const {
      own = null,
      others,
      nodes,
    } = await askAll({ fleet: fleet(), ask }, SEEN, consumer, readSeen, TIMEOUT)
    const { silent, problem } = nodes
    const quiet = silent.length === 0 ? undefined : `${silent.join(', ')} did not answer`
    return { seen: latestSeen([...others.map(({ answer }) => answer), own]), problem: problem ?? quiet }
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
  const { identified_by, tier, tenant, at } = fieldsOf(answer) as Partial<Seen>
  const isText = (text: unknown) => text === null || typeof text === 'string'
  return typeof identified_by === 'string' && isText(tier) && isText(tenant) && typeof at === 'number'
    ? { identified_by, tier: tier!, tenant: tenant!, at }
    : undefined
}

import type { Assignment } from '../limiter/limiter.js'
import type { MapShape, ReplicatedMap } from './replicated-map.js'

const WITH_END = /^(.+) (\d{1,15})$/s

/**
 * Assignments without an end and with one, by their text, and names of tiers. Millions of consumers share few of them,
 * which saves 64 bytes each, 80 with an end.
 */
const ENDLESS = new Map<string, Assignment>()
const ENDING = new Map<string, Assignment>()
const TIERS = new Map<string, string>()
const MOST_ENDLESS = 100
/** Beyond that they are gathered anew: ends pass. */
const MOST_ENDING = 10_000

/**
 * Map of the tiers that operators assigned to consumers. A value is the tier's name, then a space and the unix ms at
 * which the assignment ends, if it ends.
 */
export const ASSIGNMENTS: MapShape<Assignment> = {
  name: 'tier:{assignments}',
  what: 'tier assignments',
  keyName: 'consumer id',
  parse(text) {
    const known = ENDLESS.get(text) ?? ENDING.get(text)
    if (known !== undefined) return known
    const [, tier, until] = WITH_END.exec(text) ?? []
    if (tier !== undefined) {
      const ending = { tier: TIERS.get(tier) ?? tier, until: Number(until) }
      if (TIERS.size < MOST_ENDLESS) TIERS.set(tier, ending.tier)
      if (ENDING.size >= MOST_ENDING) ENDING.clear()
      ENDING.set(text, ending)
      return ending
    }
    const endless = { tier: text, until: undefined }
    if (ENDLESS.size < MOST_ENDLESS) ENDLESS.set(text, endless)
    return endless
  },
  write({ tier, until }) {
    if (tier === '')
      throw new Error('the name of the tier is empty; leave the tier undefined to remove the assignment')
    return until === undefined ? tier : `${tier} ${until}`
  },
  until: ({ until }) => until,
  most: 1_000_000,
  mostSplit: 200_000_000,
  longestKey: 1024,
  longestValue: 1024,
}

/**
 * Tiers that operators assigned to consumers. The process holds all of them, so a lookup is a Map read. A message
 * updates them at once, and a poll does within a second if the message is lost. Values are returned until their end,
 * even if the present configuration does not have the tier.
 */
export type TierAssignments = ReturnType<typeof createAssignments>

export function createAssignments(map: ReplicatedMap<Assignment>) {
  const { get, find, isWhole, setAll, read, ready, close } = map
  return {
    get,
    find,
    isWhole,
    /**
     * Stores the assignment; `undefined` removes it. Rejects when the store is unreachable.
     *
     * @param until unix ms at which it ends by itself, by each gateway's clock
     */
    set: (consumer: string, tier: string | undefined, until?: number) =>
      map.set(consumer, tier === undefined ? undefined : { tier, until }),
    setAll,
    read,
    ready,
    close,
  }
}

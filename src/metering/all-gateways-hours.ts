import { fieldsOf, isTime } from '../common/json.js'
import { withTimeout } from '../common/wait.js'
import { type AskedNodes, askAll } from '../fleet/ask-all.js'
import type { Fleet } from '../fleet/gateway-rpc.js'
import type { Ask, Question } from '../fleet/question.js'
import { HOUR, HOURS_KEPT, type HourCounts, type HoursReading, mergeHours } from './hours.js'
import type { Metering } from './metering.js'

/** Use of a consumer in one hour, of all services. */
export interface UsedHour {
  /** Start of the hour, in ISO 8601. */
  readonly hour: string
  readonly requests: number
  readonly cost: number
  readonly denied: number
}

/** Use of a consumer in the last 24 hours, on all gateways that have answered. */
export interface HoursOfAll {
  /** The latest 24 hours, oldest first. Null if no gateway meters consumers. */
  readonly hours: readonly UsedHour[] | null
  /** ISO 8601. Use before this time may be missing. Null: none of these hours lacks any. */
  readonly since: string | null
  readonly nodes: AskedNodes
}

/** Timeout in ms: a support engineer is waiting. */
const TIMEOUT = 2000
/** Time in ms after which a process answers that it knows nothing. */
const ANSWER_MS = 1500
const LONGEST_ID = 1024
/** Most hours that an answer may have: more than the latest, because clocks differ. */
const MOST_HOURS = 2 * HOURS_KEPT

/** Asks for what a consumer has used by hour. Null: this gateway does not meter consumers. */
export const HOURS: Question<
  { readonly metering: Pick<Metering, 'hours'> | undefined },
  string,
  HoursReading | null
> = {
  name: 'meter-hours',
  async answer({ metering }, id) {
    const told = metering?.hours(id)
    // A disk may stand still. A process that says nothing at all would be missing without a word.
    return told === undefined ? null : withTimeout(told, ANSWER_MS, () => ({ hours: [], since: Date.now() }))
  },
  merge(answers) {
    const known = answers.filter((one) => one !== null)
    return known.length === 0 ? null : mergeHours(known)
  },
  timeoutMs: TIMEOUT,
  forGateways: (body, own) => (typeof body === 'string' && body.length <= LONGEST_ID ? own(body) : null),
}

/**
 * Creates a search, on all gateways, for what a consumer has used by hour.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createHoursOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  ask: Ask,
  now: () => number = Date.now,
): (id: string) => Promise<HoursOfAll> {
  return async (id) => {
    const { own = null, others, nodes } = await askAll({ fleet: fleet(), ask }, HOURS, id, readHours)
    const readings = [own, ...others.map(({ answer }) => answer)].filter((one) => one !== null)
    const { hours, since } = mergeHours(readings)
    return {
      hours: readings.length === 0 ? null : latestOf(hours, now()),
      since: since === 0 ? null : new Date(since).toISOString(),
      nodes,
    }
  }
}

/** Lists the latest 24 hours. Hours without use are 0. */
function latestOf(hours: readonly HourCounts[], now: number): UsedHour[] {
  const used = new Map(hours.map((one) => [one[0], one]))
  const present = Math.floor(now / HOUR) * HOUR
  return Array.from({ length: HOURS_KEPT }, (_, i) => {
    const from = present - (HOURS_KEPT - 1 - i) * HOUR
    const [, requests, cost, denied] = used.get(from) ?? [from, 0, 0, 0]
    return { hour: new Date(from).toISOString(), requests, cost, denied }
  })
}

/** Reads the answer of another gateway, which may be of another version. */
function readHours(answer: unknown): HoursReading | undefined {
  const { hours, since } = fieldsOf(answer)
  const isHour = (one: unknown) => Array.isArray(one) && one.length === 4 && one.every(isTime)
  if (!Array.isArray(hours) || hours.length > MOST_HOURS || !hours.every(isHour)) return undefined
  return isTime(since) ? { hours: hours as HourCounts[], since } : undefined
}

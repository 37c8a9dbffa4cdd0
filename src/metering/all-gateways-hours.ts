import type { Fleet } from '../fleet/gateway-rpc.js'
import type { Ask, Question } from '../fleet/question.js'
import { HOUR, HOURS_KEPT, type HoursReading, mergeHours } from './hours.js'
import type { Metering } from './metering.js'

/** Use of a consumer or tenant in one hour, of all services. */
export interface UsedHour {
  /** Start of the hour, in ISO 8601. */
  readonly hour: string
  readonly requests: number
  readonly cost: number
  readonly denied: number
}

/** Use of a consumer or tenant in the last 24 hours, on all gateways that have answered. */
export interface HoursOfAll {
  /** The latest 24 hours, oldest first. Null if no gateway meters consumers or tenants. */
  readonly hours: readonly UsedHour[] | null
  /** What was used before this time may be missing, in ISO 8601. Null: nothing of these hours is. */
  readonly since: string | null
  readonly nodes: {
    /** Gateways that answered, including this one. */
    readonly answered: number
    readonly silent: readonly string[]
    /** Reason why no other gateway could be asked; null: they were asked, or there is no store to ask through. */
    readonly problem: string | null
  }
}

/** Timeout in ms: a support engineer is waiting. */
const TIMEOUT = 2000
const LONGEST_ID = 1024

/** Asks for what a consumer or tenant has used by hour. Null: this gateway does not meter consumers or tenants. */
export const HOURS: Question<
  { readonly metering: Pick<Metering, 'hours'> | undefined },
  string,
  HoursReading | null
> = {
  name: 'meter-hours',
  answer: async ({ metering }, id) => (await metering?.hours(id)) ?? null,
  merge: (answers) => mergeHours(answers.flatMap((one) => one ?? [])) ?? null,
  timeoutMs: TIMEOUT,
  forGateways: (body, own) => (typeof body === 'string' && body.length <= LONGEST_ID ? own(body) : null),
}

/**
 * Creates a search, on all gateways, for what a consumer or tenant has used by hour.
 *
 * @param fleet returns the fleet in use: a restart may bring another store
 */
export function createHoursOfAll(
  fleet: () => Pick<Fleet, 'ask'>,
  ask: Ask,
  now: () => number = Date.now,
): (id: string) => Promise<HoursOfAll> {
  return async (id) => {
    const [mine, others] = await Promise.all([
      ask(HOURS, id),
      fleet().ask<unknown>(HOURS.name, id, { timeoutMs: TIMEOUT }),
    ])
    const readings = others.answers.flatMap(({ answer }) => readHours(answer) ?? [])
    if (mine) readings.push(mine)
    const all = mergeHours(readings)
    const { answers, silent, problem = null } = others
    return {
      hours: all === undefined ? null : namedHours(all, now()),
      since: all?.since == null ? null : new Date(all.since).toISOString(),
      nodes: { answered: answers.length + (mine === undefined ? 0 : 1), silent, problem },
    }
  }
}

/** Lists the latest 24 hours. Hours without use are 0. */
function namedHours({ hours }: HoursReading, now: number): UsedHour[] {
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
  const { hours, since } = (answer ?? {}) as Partial<HoursReading>
  const isCount = (value: unknown) => typeof value === 'number' && value >= 0 && value < 8.64e15
  const isHour = (value: unknown) => Array.isArray(value) && value.length === 4 && value.every(isCount)
  if (!Array.isArray(hours) || hours.length > HOURS_KEPT + 1 || !hours.every(isHour)) return undefined
  return since === null || isCount(since) ? { hours, since: since! } : undefined
}

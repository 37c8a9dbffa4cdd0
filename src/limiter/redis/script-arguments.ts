import { getOrAdd } from '../../common/maps.js'
import { ALGORITHM_TRAITS } from '../../config/schema/algorithms.js'
import type { Limit } from '../../config/snapshot/limit.js'
import type { LimitGroup } from '../../config/snapshot/policy.js'
import { periodAt } from '../algorithms/period.js'

/** Writes the script arguments of a policy once: they are the same in every call, or for as long as a period lasts. */

/** Writes one argument for the wire. ASCII only: its length is in characters. */
export function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

/**
 * Returns true if take.lua can decide it: sliding windows under one key, with constant amounts. Everything else is for
 * take_mixed.lua.
 */
export function isPlain(parts: readonly LimitGroup[]): boolean {
  if (parts.length > 1) return false
  for (const { algorithm, next } of parts[0]!.limits) {
    if (algorithm !== 'sliding' || next !== undefined) return false
  }
  return true
}

/** Arguments for the wire, and their number. */
interface Written {
  readonly text: string
  readonly count: number
}

const writtenPlain = new WeakMap<LimitGroup, Written>()

/** Returns the arguments for a part in take.lua: they are the same in every call. */
export function plainArguments(part: LimitGroup): Written {
  return getOrAdd(writtenPlain, part, writePlain)
}

function writePlain({ limits }: LimitGroup): Written {
  return write([limits.length, ...limits.flatMap(({ amount, windowMs }) => [amount, windowMs])])
}

interface Dated extends Written {
  /** Unix ms between which the text is valid: it contains the period of a calendar limit. */
  readonly from: number
  readonly until: number
}

const writtenMixed = new WeakMap<LimitGroup, Dated>()

/**
 * Returns the arguments for a part in the other scripts.
 *
 * @param now unix ms
 */
export function mixedArguments(part: LimitGroup, now: number): Written {
  const known = writtenMixed.get(part)
  if (known !== undefined && now >= known.from && now < known.until) return known
  const { limits } = part
  const periods = limits.flatMap(({ calendar }) => (calendar === undefined ? [] : [periodAt(calendar, now)]))
  const made = {
    ...write([limits.length, ...limits.flatMap((limit) => limitArguments(limit, now))]),
    from: Math.max(Number.NEGATIVE_INFINITY, ...periods.map(({ start }) => start)),
    until: Math.min(Number.POSITIVE_INFINITY, ...periods.map(({ end }) => end)),
  }
  writtenMixed.set(part, made)
  return made
}

function limitArguments(limit: Limit, now: number): (string | number)[] {
  if (limit.next === undefined) return plainLimit(limit, now)
  const [kind, ...rest] = plainLimit(limit, now)
  const changes: number[] = []
  for (let next: Limit['next'] = limit.next; next !== undefined; next = next.limit.next) {
    changes.push(next.at, next.limit.amount, next.limit.burst)
  }
  return [String(kind).toUpperCase(), ...rest, changes.length / 3, ...changes]
}

/** Returns the arguments of a limit without its later changes. */
function plainLimit(limit: Limit, now: number): (string | number)[] {
  const common = [ALGORITHM_TRAITS[limit.algorithm].letter, limit.amount, limit.windowMs]
  if (limit.algorithm === 'token_bucket') return [...common, limit.burst]
  if (limit.calendar === undefined) return common
  const present = periodAt(limit.calendar, now)
  const next = periodAt(limit.calendar, present.end)
  return [...common, present.index, present.start, next.index, next.start, next.end]
}

function write(values: readonly (string | number)[]): Written {
  return { text: values.map((value) => bulk(String(value))).join(''), count: values.length }
}

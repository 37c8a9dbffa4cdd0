import { ALGORITHM_TRAITS } from '../schema/algorithms.js'
import { asList, type Draft, type Path, present, type Report } from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import type { LimitSettings } from '../schema/services.js'
import { type Limit, limitOf, limitsOf, limitText } from '../snapshot/limit.js'
import { keyPartOf } from '../snapshot/limit-names.js'
import { formatDuration } from '../values/quantities.js'

/** Checks the limits of one tier: keys that belong to the algorithm, sums that fit, no duplicates. */

type DraftLimits = Exclude<Draft<NonNullable<Config['services'][string]['limits']>[string]>, 'unlimited'>
type DraftLimit = Draft<LimitSettings>

/** Maximum number of limits in a policy: the scripts' verdicts have no more bits. */
const MOST_LIMITS = 8

export function checkLimits(limits: DraftLimits, path: Path, error: Report): void {
  const live = findTwice()
  const tried = findTwice()
  for (const [i, limit] of present(limits)) {
    const at = [...path, i]
    if (!checkKeys(limit, at, error) || !isWhole(limit)) continue
    checkSize(limit, at, error)
    checkShare(limit, at, error)
    const problem = (limit.candidate ? tried : live)(limit)
    if (problem !== undefined) error(at, problem)
  }
  const every = asList(limits)
  for (const which of [true, false]) {
    const some = every.filter((limit) => limit !== undefined && (limit.candidate === true) === which)
    const shares = some.filter((limit) => limit?.share !== undefined).length
    if (shares === 0 || some.length + shares <= MOST_LIMITS) continue
    const wrong = `${some.length} limits and ${shares} shares, which count as limits, are more than ${MOST_LIMITS}`
    error(path, `${wrong}; remove some`)
  }
  if (every.length > 0 && every.every((limit) => limit?.candidate === true)) {
    const fix = 'add the limit in force; for a tier without one, an unreachable limit such as 1000000/s'
    error(path, `all limits are candidates, which deny nothing; ${fix}`)
  }
}

/** Says what to do about a key that only some algorithms have, if it is in the wrong place. */
const MISPLACED = {
  window: 'this algorithm has no window; remove it',
  burst: 'only a token_bucket has a burst; remove it, or write algorithm: token_bucket',
  period: 'only a calendar has periods; give a window, or write algorithm: calendar',
  time_zone: 'only a calendar has a time zone; remove it, or write algorithm: calendar',
  lease: 'only concurrency has leases; remove it, or write algorithm: concurrency',
}

function checkKeys(limit: DraftLimit, at: Path, error: Report): boolean {
  const { algorithm } = limit
  if (algorithm === undefined) return false
  const { required, optional, noWindow } = ALGORITHM_TRAITS[algorithm]
  const own: readonly string[] = [...required, ...optional]
  let good = true
  for (const [key, wrong] of Object.entries(MISPLACED)) {
    if (own.includes(key) || !Object.hasOwn(limit, key)) continue
    good = false
    error([...at, key], (key === 'window' && noWindow) || wrong)
  }
  for (const key of required) {
    if (Object.hasOwn(limit, key)) continue
    good = false
    error(at, `"${key}" is missing; add it, such as ${key === 'window' ? '1m' : 'month'}`)
  }
  return good
}

/** Returns true if everything that a limit needs could be read. */
function isWhole(limit: DraftLimit): limit is LimitSettings {
  return limit.amount !== undefined && Object.values(limit).every((value) => value !== undefined)
}

function checkSize(limit: LimitSettings, at: Path, error: Report): void {
  const compiled = limitOf(limit)
  const { amount, burst, windowMs, calendar } = compiled
  // A calendar period is counted whole, so nothing is multiplied.
  if (calendar !== undefined) return
  const wrong = `${limitText(compiled)} cannot be counted exactly`
  if (amount * windowMs >= 2 ** 53) {
    const what = limit.algorithm === 'concurrency' ? 'lease' : 'window'
    const fix = `take a smaller amount or a shorter ${what}`
    error(at, `${wrong}: amount × ${what} in ms must be below 2^53; ${fix}`)
  } else if (burst * windowMs >= 2 ** 53) {
    const fix = 'take a smaller burst or a shorter window'
    error([...at, 'burst'], `${wrong}: burst × window in ms must be below 2^53; ${fix}`)
  }
}

function checkShare({ share, by }: LimitSettings, at: Path, error: Report): void {
  if (share === undefined) return
  if (by === 'consumer') {
    error([...at, 'share'], 'a limit by consumer is not shared; remove it, or write by: tenant')
  } else if (share <= 0 || share >= 1) {
    error([...at, 'share'], `${share} is not a share; write a number above 0 and below 1, such as 0.3`)
  }
}

/**
 * Returns a check to call for each limit of a policy in turn. It describes a limit that counts the same as an earlier
 * one, or has its name.
 */
function findTwice(): (settings: LimitSettings) => string | undefined {
  const names = new Set<string>()
  const counts = new Set<string>()
  return (settings) => {
    const all = limitsOf(settings)
    const [limit] = all as [Limit]
    const key = keyPartOf(limit.by, [limit])
    const isTwice = counts.has(key)
    const named = all.find(({ name }) => names.has(name))?.name
    counts.add(key)
    for (const { name } of all) names.add(name)
    if (isTwice) return `a second limit${whatOf(limit)}; keep the stricter one`
    return named === undefined ? undefined : `a second limit named "${named}"; give it another name`
  }
}

function whatOf({ algorithm, by, windowMs, calendar }: Limit): string {
  const whose = by === 'consumer' ? '' : ` by ${by}`
  if (calendar !== undefined) return ` per ${calendar.period} in ${calendar.timeZone}${whose}`
  if (algorithm === 'concurrency') return ` of requests at once${whose}`
  return ` with a window of ${formatDuration(windowMs)}${whose}`
}

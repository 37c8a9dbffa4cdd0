import { asList, type Draft, type Path, type Say } from './draft.js'
import { type Limit, limitOf, limitText } from './limit.js'
import { keyPartOf } from './names.js'
import { formatDuration } from './quantities.js'
import type { Config } from './schema.js'
import type { LimitSettings } from './schema-services.js'

/** The limits of one tier: which key goes with which algorithm, sums that must fit, things that must not be there twice. */

type DraftLimits = Exclude<Draft<NonNullable<Config['services'][string]['limits']>[string]>, 'unlimited'>
type DraftLimit = Draft<LimitSettings>

export function checkLimits(limits: DraftLimits, path: Path, error: Say): void {
  const live = findTwice()
  const tried = findTwice()
  for (const [i, limit] of asList(limits).entries()) {
    if (limit === undefined) continue
    const at = [...path, i]
    if (!checkKeys(limit, at, error) || !isWhole(limit)) continue
    checkSize(limit, at, error)
    const problem = (limit.candidate ? tried : live)(limit)
    if (problem !== undefined) error(at, problem)
  }
  const every = asList(limits)
  if (every.length > 0 && every.every((limit) => limit?.candidate === true)) {
    const fix =
      'add the limit that holds now; for a tier that has none, one that nobody reaches, such as 1000000/s'
    error(path, `only candidates, and a candidate decides nothing; ${fix}`)
  }
}

/** Keys of a limit that go with some algorithms only, and what to do about one that is in the wrong place. */
const BELONGS: readonly (readonly [keyof LimitSettings, readonly LimitSettings['algorithm'][], string])[] = [
  ['window', ['sliding', 'strict', 'token_bucket', 'fixed'], ''],
  ['burst', ['token_bucket'], 'only a token_bucket has a burst; remove it, or write algorithm: token_bucket'],
  ['period', ['calendar'], 'only a calendar has periods; give a window, or write algorithm: calendar'],
  ['time_zone', ['calendar'], 'only a calendar has a time zone; remove it, or write algorithm: calendar'],
  ['lease', ['concurrency'], 'only concurrency has leases; remove it, or write algorithm: concurrency'],
]
const NO_WINDOW: Readonly<Record<string, string>> = {
  calendar: 'a calendar has no window; write period: day or period: month',
  concurrency:
    'requests at once have no window; remove it, or give a lease, which is what a slot lapses after',
}

function checkKeys(limit: DraftLimit, at: Path, error: Say): boolean {
  const { algorithm } = limit
  if (algorithm === undefined) return false
  let good = true
  for (const [key, algorithms, wrong] of BELONGS) {
    const fits = algorithms.includes(algorithm)
    if (fits || !Object.hasOwn(limit, key)) continue
    good = false
    error([...at, key], key === 'window' ? NO_WINDOW[algorithm]! : wrong)
  }
  const needs = algorithm === 'calendar' ? 'period' : algorithm === 'concurrency' ? undefined : 'window'
  if (needs !== undefined && !Object.hasOwn(limit, needs)) {
    good = false
    error(at, `"${needs}" is missing; add it, such as ${needs === 'window' ? '1m' : 'month'}`)
  }
  return good
}

/** Whether all that a limit needs could be read. */
function isWhole(limit: DraftLimit): limit is LimitSettings {
  return limit.amount !== undefined && Object.values(limit).every((value) => value !== undefined)
}

function checkSize(limit: LimitSettings, at: Path, error: Say): void {
  const compiled = limitOf(limit)
  const { amount, burst, windowMs, calendar } = compiled
  // Nothing of it fades, so nothing is multiplied.
  if (calendar !== undefined) return
  const wrong = `${limitText(compiled)} cannot be counted exactly`
  if (amount * windowMs >= 2 ** 53) {
    const what = limit.algorithm === 'concurrency' ? 'lease' : 'window'
    error(
      at,
      `${wrong}: amount × ${what} in ms must be below 2^53; take a smaller amount or a shorter ${what}`,
    )
  } else if (burst * windowMs >= 2 ** 53) {
    error(
      [...at, 'burst'],
      `${wrong}: burst × window in ms must be below 2^53; take a smaller burst or a shorter window`,
    )
  }
}

/** Of limits of one policy, one after the other: what is wrong when one counts the same as another, or is called the same. */
function findTwice(): (settings: LimitSettings) => string | undefined {
  const names = new Set<string>()
  const counts = new Set<string>()
  return (settings) => {
    const limit = limitOf(settings)
    const key = keyPartOf(limit.by, [limit])
    const isTwice = counts.has(key)
    const isNamed = names.has(limit.name)
    counts.add(key)
    names.add(limit.name)
    if (isTwice) return `a second limit${whatOf(limit)}; keep the stricter one`
    return isNamed ? `a second limit named "${limit.name}"; give it another name` : undefined
  }
}

function whatOf({ algorithm, by, windowMs, calendar }: Limit): string {
  const whose = by === 'consumer' ? '' : ` by ${by}`
  if (calendar !== undefined) return ` per ${calendar.period} in ${calendar.timeZone}${whose}`
  if (algorithm === 'concurrency') return ` of requests at once${whose}`
  return ` with a window of ${formatDuration(windowMs)}${whose}`
}

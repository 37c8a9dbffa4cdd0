import { asList, type DraftConfig, identityHeaders, present, type Report } from '../schema/partial-config.js'
import type { LimitSettings } from '../schema/services.js'
import { limitsOf, limitText } from '../snapshot/limit.js'

/** Checks the costs that routes declare against the limits that they are charged to. */
export function checkCosts(config: DraftConfig, error: Report, warning: Report): void {
  const identity = identityHeaders(config)
  for (const [i, { cost, service: named, split }] of present(config.routes)) {
    const service = named ?? asList(split)[0]?.service
    if (typeof cost === 'object') {
      if (identity.has(cost.header)) {
        const wrong = `"${cost.header}" identifies the consumer`
        error(['routes', i, 'cost', 'header'], `${wrong}; take another header for the cost`)
      }
      if (cost.default !== undefined && cost.max !== undefined && cost.default > cost.max) {
        const wrong = `a default of ${cost.default} is above the max of ${cost.max}`
        error(['routes', i, 'cost'], `${wrong}; lower it, or raise max`)
      }
    }
    const least = typeof cost === 'object' ? cost.default : cost
    if (least === undefined || service === undefined) continue
    for (const [tier, limits] of Object.entries(config.services?.[service]?.limits ?? {})) {
      if (limits === 'unlimited') continue
      for (const [, settings] of present(limits)) {
        if (settings.amount === undefined || !holds(settings)) continue
        const tight = limitsOf(settings).find(({ burst }) => burst < least)
        if (tight === undefined) continue
        const wrong = `a cost of ${least} is above ${limitText(tight)} of the tier "${tier}"`
        warning(['routes', i], `${wrong}: such a request never passes; lower the cost or raise the limit`)
      }
    }
  }
}

/** Returns true if the limit could be read and charges the cost of a request, not one per request. */
function holds(limit: { readonly [K in keyof LimitSettings]?: unknown }): limit is LimitSettings {
  const { algorithm, candidate, window, period, by } = limit
  if (algorithm === undefined || algorithm === 'concurrency' || candidate === true) return false
  return (window !== undefined || period !== undefined) && by !== undefined
}

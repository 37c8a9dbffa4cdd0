import { asList, type DraftConfig, identityHeaders, type Say } from '../schema/partial-config.js'
import type { LimitSettings } from '../schema/services.js'
import { limitsOf, limitText } from '../snapshot/limit.js'

/** Checks the costs that routes declare against the limits that they are charged to. */
export function checkCosts(config: DraftConfig, error: Say, warning: Say): void {
  const identity = identityHeaders(config)
  for (const [i, route] of asList(config.routes).entries()) {
    if (route === undefined) continue
    const { cost } = route
    const service = route.service ?? asList(route.split)[0]?.service
    if (typeof cost === 'object') {
      if (identity.has(cost.header)) {
        const wrong = `"${cost.header}" says who is calling`
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
      if (limits === undefined || limits === 'unlimited') continue
      for (const settings of asList(limits)) {
        if (settings?.amount === undefined || !holds(settings)) continue
        const tight = limitsOf(settings).find(({ burst }) => burst < least)
        if (tight === undefined) continue
        const wrong = `a cost of ${least} is above ${limitText(tight)} of the tier "${tier}"`
        warning(['routes', i], `${wrong}: such a request never passes; lower the cost or raise the limit`)
      }
    }
  }
}

/** Returns true if the limit could be read and charges the cost of a request, not one per request. */
function holds(limit: { readonly [K in keyof LimitSettings]?: unknown } | undefined): limit is LimitSettings {
  if (limit === undefined || limit.algorithm === 'concurrency' || limit.candidate === true) return false
  return (
    limit.algorithm !== undefined &&
    (limit.window !== undefined || limit.period !== undefined) &&
    limit.by !== undefined
  )
}

import { forTenant } from '../../config/snapshot/policy.js'
import type { Amounts } from '../../fleet/overrides.js'
import type { Exchange } from '../exchange/exchange.js'

/**
 * Creates the stage that finds the limits of the request: those of its tier, with the boosts and overrides of its
 * consumer and tenant. A caller that the service exempts has no limits. The stage reads memory only, unless the gateway
 * does not know whether there are boosts or overrides: then it waits for the store, at most `store.timeout`. If the
 * store can't tell, those that are in memory apply.
 */
export function resolveLimits(amounts: Pick<Amounts, 'find' | 'policyFor' | 'isWhole'>) {
  return function resolveLimits(x: Exchange): undefined | Promise<undefined> {
    const { quotaOf: service } = x.route!
    const ofTier = service.policies[x.tier]
    if (ofTier === undefined) return undefined
    if (service.exempt?.(x.identifiedBy === 'ip' ? undefined : x.consumer, x.clientIp) === true) {
      x.exempt = true
      return undefined
    }
    const policy = forTenant(ofTier, x.tenant)
    // Nothing is looked up for an address: anybody can have many.
    if (x.identifiedBy === 'ip' && !amounts.isWhole()) {
      x.policy = policy
      return undefined
    }
    const found = amounts.find(service, policy, x.consumer!, x.tenant)
    if (!(found instanceof Promise)) {
      x.policy = found
      return undefined
    }
    return found.then(
      (late) => {
        x.policy = late
        return undefined
      },
      () => {
        x.limitsUnchecked = true
        x.policy = amounts.policyFor(service, policy, x.consumer!, x.tenant)
        return undefined
      },
    )
  }
}

import type { TierAssignments } from '../limiter/limiter.js'
import type { Exchange } from './exchange.js'

/**
 * Third stage: which tier. What an operator assigned wins, then what came with the credential, then the default.
 * Reads memory only. An assignment to a tier that this configuration does not have counts as none.
 */
export function resolveTier(assignments: Pick<TierAssignments, 'get'>) {
  return function resolveTier(x: Exchange): undefined {
    const assigned = assignments.get(x.consumer!)
    if (assigned !== undefined) {
      const tier = x.snapshot.tiers.indexOf(assigned)
      if (tier >= 0) {
        x.tier = tier
        x.tierFrom = 'assignment'
        return
      }
    }
    if (x.credentialTier !== undefined) {
      x.tier = x.credentialTier
      x.tierFrom = 'credential'
      return
    }
    x.tier = x.snapshot.defaultTier
    x.tierFrom = 'default'
  }
}

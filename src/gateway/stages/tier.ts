import type { TierAssignments } from '../../fleet/assignments.js'
import type { Assignment } from '../../limiter/limiter.js'
import type { Found, TierSource } from '../../tier-sources/tier-source.js'
import type { OpenTierSources } from '../../tier-sources/tier-sources.js'
import type { Exchange } from '../exchange/exchange.js'

/**
 * Creates the stage that finds the tier. An operator's assignment wins, then the credential's tier, then the tier sources
 * in their order, then the default. A tier that this configuration does not have counts as none.
 * It reads memory only, unless the gateway does not know whether the consumer has an assignment, or a source has not been
 * asked about the consumer lately: then it waits for the store or the source, at most their timeouts.
 */
export function resolveTier(
  assignments: Pick<TierAssignments, 'find' | 'isWhole'>,
  tierSources: Pick<OpenTierSources, 'sources'> = NO_SOURCES,
) {
  function goOn(x: Exchange, assigned: Assignment | undefined): undefined | Promise<undefined> {
    const tier = assigned === undefined ? -1 : x.snapshot.tiers.indexOf(assigned.tier)
    if (tier >= 0) {
      x.tier = tier
      x.tierFrom = 'assignment'
      x.tierUntil = assigned!.until
    } else if (x.credentialTier !== undefined) {
      x.tier = x.credentialTier
      x.tierFrom = 'credential'
    }
    const sources = tierSources.sources()
    // An address belongs to no plan, and anybody can have many addresses.
    return sources.length === 0 || x.identifiedBy === 'ip' ? orDefault(x) : lookUp(x, sources, 0)
  }

  return function resolveTier(x: Exchange): undefined | Promise<undefined> {
    // Nothing is looked up for an address, for the same reason.
    if (x.identifiedBy === 'ip' && !assignments.isWhole()) return goOn(x, undefined)
    const found = assignments.find(x.consumer!)
    if (!(found instanceof Promise)) return goOn(x, found)
    return found.then(
      (late) => goOn(x, late),
      () => {
        x.tierUnchecked = true
        return goOn(x, undefined)
      },
    )
  }
}

const NO_SOURCES = { sources: (): readonly TierSource[] => [] }

/** Asks the sources from the given one on, and continues by itself when it has to wait for one. */
function lookUp(x: Exchange, sources: readonly TierSource[], from: number): undefined | Promise<undefined> {
  for (let i = from; i < sources.length; i++) {
    const source = sources[i]!
    // A consumer with a tier may still need a tenant: without it, quotas of a whole organisation would not hold.
    if (x.tier >= 0 && (x.tenant !== undefined || !source.tellsTenants)) continue
    const found = source.find(x.consumer!, x.started, x.clientIp)
    if (found instanceof Promise) {
      return found.then((late) => {
        take(x, source, late)
        return lookUp(x, sources, i + 1)
      })
    }
    take(x, source, found)
  }
  return orDefault(x)
}

function take(x: Exchange, source: TierSource, found: Found | undefined): void {
  if (found === undefined) return
  x.tenant ??= found.tenant
  if (x.tier >= 0 || found.tier === undefined) return
  const tier = x.snapshot.tiers.indexOf(found.tier)
  if (tier < 0) {
    source.unknownTier(found.tier)
    return
  }
  x.tier = tier
  x.tierFrom = 'source'
  x.tierSource = source.name
  x.tierStale = found.stale
}

function orDefault(x: Exchange): undefined {
  if (x.tier >= 0) return
  x.tier = x.snapshot.defaultTier
  x.tierFrom = 'default'
}

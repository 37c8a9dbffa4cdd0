import type { Exchange } from '../exchange/exchange.js'
import type { Identified } from './identify.js'

/**
 * Identifies the client as the application has, unless the route names the credentials that it takes.
 *
 * @param unknownTier called with a tier that the configuration does not have. It counts as none
 */
export function identifyByApplication(x: Exchange, unknownTier: (tier: string) => void): Identified {
  const caller = x.application
  if (caller === undefined || x.route?.auth?.anyKind === false) return 'absent'
  x.consumer = caller.consumer
  x.tenant = caller.tenant
  x.scopes = caller.scopes
  x.identifiedBy = 'application'
  if (caller.tier === undefined) return undefined
  const tier = x.snapshot.tiers.indexOf(caller.tier)
  if (tier >= 0) x.credentialTier = tier
  else unknownTier(caller.tier)
  return undefined
}

import { takesStoredKeys } from '../../config/snapshot/consumers.js'
import type { AdminDeps } from '../deps.js'
import { keysHeld } from './wait-for-keys.js'

/**
 * The name of the tier that the consumer's API key of the store brings: of several, the one that was made last. Rejects
 * when the store is out of reach.
 */
export async function issuedTier(
  { config, keys, limiter }: Pick<AdminDeps, 'config' | 'keys' | 'limiter'>,
  consumer: string,
): Promise<string | undefined> {
  const { consumers, tiers } = config.current()
  if (!takesStoredKeys(consumers)) return undefined
  await keysHeld({ keys, limiter })
  const now = Date.now()
  let latest: { tier: string; created: number } | undefined
  for (const { consumer: owner, tier, created, expires } of keys.keys().entries().values()) {
    if (owner !== consumer || tier === undefined || !tiers.includes(tier)) continue
    if (expires !== undefined && expires <= now) continue
    if (latest === undefined || created > latest.created) latest = { tier, created }
  }
  return latest?.tier
}

import type { LimitGroup } from '../config/snapshot/policy.js'
import type { Service } from '../config/snapshot/snapshot.js'
import { consumerPart, limitKey } from './key.js'
import type { Levels } from './limiter.js'

/** Prefix of the id that an address counts under. No consumer's counts have it. */
const BY_ADDRESS = 'ip-'

/**
 * Returns the key of a part; undefined if the level's value is unknown. A consumer without a tenant is its own tenant,
 * with counts apart from a tenant of that name. In the same way, an address has counts apart from a consumer of that
 * name. A consumer's share of a shared limit is stored with that limit: in one Cluster slot, so that one call decides
 * both.
 */
export function keyOf(
  service: string,
  part: LimitGroup,
  consumer: string,
  levels: Levels | undefined,
): string | undefined {
  const { by } = part
  const own = levels?.byAddress === true ? BY_ADDRESS : ''
  const keyPart = part.each ? `${part.keyPart}:${own}${consumerPart(consumer)}` : part.keyPart
  if (by === 'consumer') return limitKey(service, consumerPart(consumer), own + keyPart)
  if (by === 'service') return limitKey(service, service, keyPart)
  if (levels === undefined) return undefined
  const whose = levels[by]
  return whose === undefined
    ? limitKey(service, consumerPart(consumer), `${own}own-${keyPart}`)
    : limitKey(service, consumerPart(whose), keyPart)
}

const NOBODY: Levels = { ip: '', tenant: '', route: '' }

/** Returns the keys of all parts. An unknown value counts as the same for all such requests. */
export function keysOf(
  service: string,
  parts: readonly LimitGroup[],
  consumer: string,
  levels: Levels | undefined,
): readonly string[] {
  const only = parts.length === 1 ? parts[0]! : undefined
  if (only?.by === 'consumer' && levels?.byAddress !== true)
    return [limitKey(service, consumerPart(consumer), only.keyPart)]
  return parts.map((part) => keyOf(service, part, consumer, levels ?? NOBODY)!)
}

/**
 * Returns every key that counts the consumer's use of the service, under the policies of all tiers, without duplicates.
 */
export function consumerKeys(service: Service, consumer: string, byAddress = false): Set<string> {
  const policies = service.policies.flatMap((policy) => [policy, policy?.candidate])
  const parts = policies.flatMap((policy) => policy?.parts ?? []).filter(({ by }) => by === 'consumer')
  const levels = { ...NOBODY, byAddress }
  return new Set(parts.map((part) => keyOf(service.name, part, consumer, levels)!))
}

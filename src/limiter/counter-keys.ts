import type { Part, Service } from '../config/snapshot/snapshot.js'
import { consumerPart, limitKey } from './key.js'
import type { Levels } from './limiter.js'

/** Before what an address counts under as a consumer: no consumer is called so that its counts lie there. */
const BY_ADDRESS = 'ip-'

/**
 * The key of a part; undefined when it is not known whose it is. A consumer without a tenant is a tenant of one, whose
 * counts are kept apart from those of a tenant of that name, as those of an address are from those of a consumer of that
 * name. A consumer's share of what others use, too, lies with that: in one slot of a Cluster, so that one call decides both.
 */
export function keyOf(
  service: string,
  part: Part,
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

/** Of every part. What is not known of a request is the same for all such. */
export function keysOf(
  service: string,
  parts: readonly Part[],
  consumer: string,
  levels: Levels | undefined,
): readonly string[] {
  const only = parts.length === 1 ? parts[0]! : undefined
  if (only?.by === 'consumer' && levels?.byAddress !== true)
    return [limitKey(service, consumerPart(consumer), only.keyPart)]
  return parts.map((part) => keyOf(service, part, consumer, levels ?? NOBODY)!)
}

/** Of every key that counts what the consumer has used of the service, under the policies of all tiers, one. */
export function consumerKeys(service: Service, consumer: string, byAddress = false): Set<string> {
  const policies = service.policies.flatMap((policy) => [policy, policy?.candidate])
  const parts = policies.flatMap((policy) => policy?.parts ?? []).filter(({ by }) => by === 'consumer')
  const levels = { ...NOBODY, byAddress }
  return new Set(parts.map((part) => keyOf(service.name, part, consumer, levels)!))
}

import type { Snapshot } from '../../config/snapshot/snapshot.js'
import type { PlanSource } from '../../tier-sources/source.js'
import type { AdminDeps } from '../deps.js'
import { issuedTier } from './issued-tier.js'

export interface FoundTier {
  /** Index into `snapshot.tiers`. */
  readonly tier: number
  readonly from: 'assignment' | 'query' | 'credential' | `source:${string}` | 'default'
  /** It is what the source said last, longer ago than its ttl. */
  readonly stale?: boolean
  /** Why it may not be the one that is expected, a sentence for each source that has none to give. */
  readonly notes?: readonly string[]
}

/** The same, with the API keys of the store looked at, and the sources of tiers asked, where nothing else is known. Never rejects. */
export async function findTier(
  { config, keys, limiter, plans }: Pick<AdminDeps, 'config' | 'keys' | 'limiter' | 'plans'>,
  consumer: string,
  assigned: string | undefined,
  asked?: string,
): Promise<FoundTier> {
  const snapshot = config.current()
  const known = tierOf(snapshot, consumer, assigned, asked)
  if (known.from !== 'default') return known
  const issued = await issuedTier({ config, keys, limiter }, consumer).catch(() => undefined)
  if (issued !== undefined) return { tier: snapshot.tiers.indexOf(issued), from: 'credential' }
  const notes: string[] = []
  for (const source of plans?.sources() ?? []) {
    const failures = failuresOf(source)
    const found = await source.find(consumer, performance.now())
    const tier = found?.tier === undefined ? -1 : snapshot.tiers.indexOf(found.tier)
    if (tier >= 0) return { tier, from: `source:${source.name}`, stale: found!.stale, notes }
    if (found?.tier !== undefined) {
      const said = JSON.stringify(found.tier)
      notes.push(`${source.name} says ${said}, which is no tier of this configuration`)
    } else if (found === undefined && failuresOf(source) > failures)
      notes.push(`${source.name} did not answer`)
    else if (found === undefined && !source.describe().up) notes.push(`${source.name} is down`)
  }
  return { ...known, notes }
}

function failuresOf(source: PlanSource): number {
  const { timeout, error } = source.describe().counts.questions
  return timeout + error
}

/**
 * The tier that a consumer has when it calls, as far as it can be known without the call: what an operator assigned,
 * else what was asked for, else what the configuration gives to its key, else the default.
 */
function tierOf(
  snapshot: Snapshot,
  consumer: string,
  assigned: string | undefined,
  asked: string | undefined,
): FoundTier {
  const byAssignment = assigned === undefined ? -1 : snapshot.tiers.indexOf(assigned)
  if (byAssignment >= 0) return { tier: byAssignment, from: 'assignment' }
  const byQuery = asked === undefined ? -1 : snapshot.tiers.indexOf(asked)
  if (byQuery >= 0) return { tier: byQuery, from: 'query' }
  const byCredential = credentialTier(snapshot, consumer)
  if (byCredential !== undefined) return { tier: byCredential, from: 'credential' }
  return { tier: snapshot.defaultTier, from: 'default' }
}

/** The tenant that the configuration gives to the consumer's API key. */
export function credentialTenant(snapshot: Snapshot, consumer: string): string | undefined {
  for (const source of snapshot.consumers) {
    if (source.kind !== 'api_key') continue
    for (const owner of source.keys.values()) if (owner.consumer === consumer) return owner.tenant
  }
  return undefined
}

function credentialTier(snapshot: Snapshot, consumer: string): number | undefined {
  for (const source of snapshot.consumers) {
    if (source.kind !== 'api_key' && source.kind !== 'signature') continue
    for (const key of source.keys.values()) {
      const owner = 'owner' in key ? key.owner : key
      if (owner.consumer === consumer && owner.tier !== undefined) return owner.tier
    }
  }
  return undefined
}

/** Unix ms for a program to read; null: no end. */
export function isoOf(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString()
}

/** For a refusal: the names to choose from. */
export function listed(names: readonly string[]): string {
  return names.join(', ')
}

import { isIP } from 'node:net'
import { performance } from 'node:perf_hooks'
import { reuse } from '../../common/reuse.js'
import type { Snapshot } from '../../config/snapshot/snapshot.js'
import { keysOf, type StoredKey } from '../../fleet/api-keys.js'
import type { TierAssignments } from '../../fleet/assignments.js'
import type { KeyStore } from '../../fleet/keyring.js'
import type { ReplicatedMap } from '../../fleet/replicated-map.js'
import { searchMap } from '../../fleet/search-map.js'
import type { Assignment } from '../../limiter/limiter.js'
import { askStore } from '../../limiter/redis/store-timeout.js'
import { addressKey, isAddressKey } from '../../net/address-key.js'
import type { SeenAnswer } from '../../telemetry/decisions/all-gateways-seen.js'
import type { Seen } from '../../telemetry/decisions/last-seen.js'
import type { Standing, StandingQuestion } from '../../telemetry/decisions/standing.js'
import type { TierSource } from '../../tier-sources/tier-source.js'
import type { OpenTierSources } from '../../tier-sources/tier-sources.js'
import { Exchange } from '../exchange/exchange.js'
import { NO_HEADERS } from '../exchange/headers.js'
import { resolveTier } from '../stages/tier.js'

export interface StandingDeps {
  readonly snapshot: () => Snapshot
  /** Returns the store in use: a restart of the workers may open another. */
  readonly store: () => {
    readonly assignments: Pick<TierAssignments, 'find' | 'isWhole'>
    readonly keys: KeyStore
  }
  readonly tierSources?: Pick<OpenTierSources, 'sources'> | undefined
  /** Returns the credential that the consumer last used, on any gateway. */
  readonly seen: (consumer: string) => Promise<SeenAnswer>
}

/** Properties of a credential that a consumer may use next. */
interface Credential {
  readonly kind: NonNullable<Exchange['identifiedBy']>
  readonly tier: string | undefined
  readonly tenant: string | undefined
}

/** Ms for which the answers of other gateways are reused when a question is polled. */
const GOOD_FOR = 1000
/** Least ms between two questions to other gateways when questions are polled. */
const APART = 550
/** Longest wait for the first load of all API keys, in ms. */
const KEYS_PATIENCE = 500
/** How long keys may be read from the store, in ms: a command waits 5 s for the answer. */
const KEYS_SEARCH = 2000
/** Keys of a consumer after which no more are read. */
const MOST_KEYS = 1000

/**
 * Determines what the next request of a consumer has before its quota is evaluated, with the stage that does so for
 * requests. The credential is the last one that the consumer used, otherwise one from the configuration or the store.
 */
export function createStanding(deps: StandingDeps): (question: StandingQuestion) => Promise<Standing> {
  const { snapshot: current, store, tierSources, seen } = deps
  const seenLately = reuse(GOOD_FOR, seen, APART)

  return async (question) => {
    const snapshot = current()
    const { assignments, keys } = store()
    const notes: string[] = []
    const { known, isComplete } = await atHand(snapshot, question.consumer, keys, notes)
    const asks = !isComplete || comesUnseen(snapshot) || new Set(known.map(nameOf)).size > 1
    const last = asks ? await (question.polled ? seenLately : seen)(question.consumer) : undefined
    if (last?.problem !== undefined)
      notes.push(`the other gateways could not be asked about it: ${last.problem}`)
    const { credential, seenAt } = choose(snapshot, known, isComplete, last?.seen)
    const byAddress = credential === undefined && isByAddress(snapshot, question.consumer)
    const consumer = byAddress ? addressKey(question.consumer) : question.consumer

    const x = new Exchange(snapshot, '', 'GET', '/', NO_HEADERS, '', performance.now())
    x.consumer = consumer
    x.identifiedBy = byAddress ? 'ip' : credential?.kind
    x.tenant = question.tenant ?? credential?.tenant
    const tier = question.tier ?? credential?.tier
    if (tier !== undefined && snapshot.tiers.includes(tier)) x.credentialTier = snapshot.tiers.indexOf(tier)
    const { assigned = await assignmentOf(assignments, consumer, notes) } = question
    const assignment = assigned === 'none' ? undefined : assigned
    const sources = (tierSources?.sources() ?? []).map((source) => watched(source, notes))
    const { isWhole } = assignments
    await resolveTier({ find: () => assignment, isWhole }, { sources: () => sources })(x)
    if (byAddress && assignment !== undefined && !isWhole())
      notes.push(
        'a tier is assigned to it, which has no effect: there are too many to look one up for an address',
      )

    const from =
      x.tierFrom === 'source'
        ? (`source:${x.tierSource}` as const)
        : x.tierFrom === 'credential' && question.tier !== undefined
          ? 'query'
          : x.tierFrom!
    if (credential === undefined && !byAddress && (from === 'default' || from.startsWith('source:')))
      notes.push(...unseen(snapshot))
    return {
      consumer,
      byAddress,
      identifiedBy: x.identifiedBy,
      tenant: x.tenant,
      tier: x.tier,
      from,
      stale: x.tierStale,
      assigned: assignment,
      seenAt: question.tier === undefined && question.tenant === undefined ? seenAt : undefined,
      notes,
    }
  }
}

/** Returns the assignment of a consumer. Notes it if the store can't tell whether there is one. */
async function assignmentOf(
  assignments: Pick<TierAssignments, 'find'>,
  consumer: string,
  notes: string[],
): Promise<Assignment | undefined> {
  try {
    return await assignments.find(consumer)
  } catch {
    notes.push('the store could not tell whether a tier is assigned')
    return undefined
  }
}

/** Lists the credentials of a consumer in the configuration or the store, in the order in which sources are tried. */
async function atHand(
  { consumers, tiers }: Snapshot,
  consumer: string,
  keys: KeyStore,
  notes: string[],
): Promise<{ readonly known: readonly Credential[]; readonly isComplete: boolean }> {
  const found: Credential[] = []
  let isComplete = true
  const add = (kind: Credential['kind'], tier: string | undefined, tenant: string | undefined) =>
    void found.push({ kind, tier: tier !== undefined && tiers.includes(tier) ? tier : undefined, tenant })
  for (const source of consumers) {
    if (source.kind === 'api_key') {
      for (const owner of source.keys.values()) {
        if (owner.consumer === consumer) add('api_key', nameIn(tiers, owner.tier), owner.tenant)
      }
      if (source.storeGrace === undefined) continue
      const stored = keys.keys()
      await askStore(KEYS_PATIENCE, stored.ready).catch(() =>
        notes.push('API keys of the store are not loaded'),
      )
      const { own, areAll } = await storedKeys(stored, consumer, notes)
      isComplete &&= areAll
      for (const { tier, tenant } of own) add('api_key', tier, tenant)
    } else if (source.kind === 'signature') {
      for (const { owner } of source.keys.values()) {
        if (owner.consumer === consumer) add('signature', nameIn(tiers, owner.tier), owner.tenant)
      }
    }
  }
  return { known: found, isComplete }
}

/** Returns the keys of a consumer that have not expired, the newest first. Notes it if these may not be all. */
async function storedKeys(
  stored: ReplicatedMap<StoredKey>,
  consumer: string,
  notes: string[],
): Promise<{ readonly own: readonly StoredKey[]; readonly areAll: boolean }> {
  const search = keysOf(consumer)
  const good = (keys: Iterable<readonly [string, StoredKey]>) =>
    [...keys]
      .filter(([id, key]) => search.fits(id, key) && (key.expires === undefined || key.expires > Date.now()))
      .map(([, key]) => key)
      .sort((a, b) => b.created - a.created)
  if (stored.isWhole()) return { own: good(stored.entries()), areAll: true }
  try {
    const { found, next } = await searchMap(stored, { ...search, most: MOST_KEYS, forMs: KEYS_SEARCH })
    if (next !== undefined)
      notes.push('there was not enough time to read all API keys; tidegate key list --consumer reads all')
    return { own: good(found), areAll: next === undefined }
  } catch {
    notes.push('the store could not tell which API keys it has')
    return { own: [], areAll: false }
  }
}

const nameIn = (tiers: readonly string[], index: number | undefined) =>
  index === undefined ? undefined : tiers[index]

const nameOf = ({ kind, tier, tenant }: Credential) => JSON.stringify([kind, tier ?? null, tenant ?? null])

/** Returns true if clients may use credentials that only their requests contain. */
function comesUnseen({ consumers }: Snapshot): boolean {
  return consumers.some(({ kind }) => kind === 'jwt' || kind === 'header' || kind === 'client_certificate')
}

/**
 * Returns the credential of the last request, if it is still valid. Otherwise returns a known one, preferably with a
 * tier.
 */
function choose(
  { consumers }: Snapshot,
  known: readonly Credential[],
  isComplete: boolean,
  last: Seen | undefined,
): { credential: Credential | undefined; seenAt: number | undefined } {
  if (last !== undefined) {
    const { identified_by: kind, at } = last
    const credential = { kind, tier: last.tier ?? undefined, tenant: last.tenant ?? undefined }
    const listed = kind === 'api_key' || kind === 'signature'
    const good =
      listed && isComplete
        ? known.some((one) => nameOf(one) === nameOf(credential))
        : consumers.some((source) => source.kind === kind)
    if (good) return { credential, seenAt: at }
  }
  const credential = known.find(({ tier }) => tier !== undefined) ?? known[0]
  return { credential, seenAt: undefined }
}

/** Returns true if a name is that of an address, and clients may be identified by address. */
function isByAddress({ consumers, routes }: Snapshot, consumer: string): boolean {
  if (isIP(consumer) === 0 && !isAddressKey(consumer)) return false
  const has = (sources: Snapshot['consumers']) => sources.some(({ kind }) => kind === 'ip')
  return has(consumers) || routes.some(({ auth }) => auth !== undefined && has(auth.sources))
}

/** Wraps a source so that it also notes why it has no answer. */
function watched(source: TierSource, notes: string[]): TierSource {
  const failures = () => {
    const { timeout, error } = source.describe().counts.questions
    return timeout + error
  }
  return {
    ...source,
    async find(consumer, now, address) {
      const before = failures()
      const found = await source.find(consumer, now, address)
      if (found === undefined && failures() > before) notes.push(`${source.name} did not answer`)
      else if (found === undefined && !source.describe().up) notes.push(`${source.name} is down`)
      return found
    },
    unknownTier(tier) {
      notes.push(`${source.name} names ${JSON.stringify(tier)}, which is not a tier of this configuration`)
    },
  }
}

/** Describes what cannot be known of a consumer without a recent request. */
function unseen({ consumers }: Snapshot): string[] {
  const says = consumers.some(
    (source) => source.kind === 'jwt' && source.issuers.some(({ tier }) => tier !== undefined),
  )
  return says ? ['no recent request of it is known, and its token may name another'] : []
}

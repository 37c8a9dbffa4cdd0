import { setImmediate as immediate } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { limitConcurrency } from '../../common/wait.js'
import { takesStoredKeys } from '../../config/snapshot/consumers.js'
import { isKeyId, keysOf, type StoredKey } from '../../fleet/api-keys.js'
import { searchMap } from '../../fleet/search-map.js'
import { PAGE_CURSOR } from '../../fleet/sharded-map.js'
import { askStore } from '../../limiter/redis/store-timeout.js'
import { refuse } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { withStore } from '../store-down.js'
import { issueKey, rotateKey } from './issue-key.js'
import { readKeyRequest, readRotateRequest } from './key-request.js'
import { checkTier, isoOf, type QueryOf, readQuery } from './read-request.js'

interface KeyOf {
  readonly Params: { readonly id: string }
  readonly Body: unknown
}

/**
 * Timeout of the first load of all keys, in ms. Commands wait 5 s for a response, and would then report that no gateway
 * is running.
 */
const PATIENCE_MS = 4500
/** Timeout in ms while the store is known to be down. */
const WHILE_AWAY_MS = 1000
/** Most keys in one response of those that are in memory. Of those that are read from the store it may have some more. */
const PAGE = 1000
/** How long a request may read keys from the store, in ms. */
const SEARCH_MS = 1000
/** Requests that look through the keys at the same time, of which there may be 500,000. */
const SEARCHES = 2
/** Keys that are looked at in one turn of the event loop. */
const KEYS_A_TURN = 5000

/** Creates what reads the API keys of the store, for operators. */
export function createKeyList(deps: Pick<AdminDeps, 'store' | 'log'>, now: () => number = Date.now) {
  const inTurn = limitConcurrency(SEARCHES)

  async function shown(some: readonly StoredKey[]) {
    const used = await deps.store().keys.lastUsed.read(some.map(({ id }) => id))
    return some.map((key, i) => keyData(key, used[i], now()))
  }

  /** Lists keys, of a consumer or all, behind `after`. */
  function list(consumer: string | undefined, after: string | undefined, most = PAGE) {
    return withStore(deps.log, 'list the keys', async () => {
      const { limiter, keys } = deps.store()
      const held = keys.keys()
      await askStore(limiter.state() === 'degraded' ? WHILE_AWAY_MS : PATIENCE_MS, held.ready)
      if (held.isWhole() && !PAGE_CURSOR.test(after ?? '')) {
        const page = await inTurn(() => pageOf(held.entries().values(), consumer, after ?? ''))
        const told = page.slice(0, most)
        return pageBody(await shown(told), page.length > most ? told.at(-1)!.id : undefined)
      }
      const search = { ...keysOf(consumer), cursor: after, most, forMs: SEARCH_MS }
      const { found, next } = await inTurn(() => searchMap(held, search))
      return pageBody(await shown(found.map(([, key]) => key)), next)
    })
  }

  return { shown, list }
}

/**
 * Adds the routes that create, list, rotate and revoke the API keys of the store. A change takes effect on every
 * gateway within a second.
 */
export function keyRoutes(
  app: FastifyInstance,
  deps: Pick<AdminDeps, 'config' | 'store' | 'audit' | 'log'>,
  now: () => number = Date.now,
): void {
  const keys = () => deps.store().keys
  const keyNamed = async (id: string) =>
    (isKeyId(id) ? await keys().keys().read(id) : undefined) ?? noSuchKey(id)

  const { shown, list } = createKeyList(deps, now)

  /** Checks that requests will be able to use a new key. */
  function checkUse(tier: string | undefined): void {
    const snapshot = deps.config.current()
    if (!takesStoredKeys(snapshot.consumers)) {
      refuse(
        'unprocessable',
        'The configuration accepts no keys of the store, so the gateway would refuse a new key. First set store: true in an api_key of consumers.',
      )
    }
    checkTier(snapshot, tier)
  }

  app.get<QueryOf>('/keys', (request) => {
    const { consumer, after } = readQuery(request.query, ['consumer', 'after'])
    return list(consumer, after)
  })

  app.get<KeyOf>('/keys/:id', ({ params: { id } }) =>
    withStore(deps.log, 'read the key', async () => (await shown([await keyNamed(id)]))[0]),
  )

  app.post<KeyOf>('/keys', (request) => {
    const asked = readKeyRequest(request.body)
    checkUse(asked.tier)
    return withStore(deps.log, 'create a key', async () => {
      const { key, stored } = await issueKey(keys(), asked, now())
      await deps.audit.record(request, {
        action: 'key.create',
        target: nameOf(stored),
        after: toldOf(stored),
      })
      return { key, ...keyData(stored, undefined, now()) }
    })
  })

  app.post<KeyOf>('/keys/:id/rotate', (request) => {
    const { id } = request.params
    const asked = readRotateRequest(request.body)
    return withStore(deps.log, 'rotate the key', async () => {
      const old = await keyNamed(id)
      checkUse(undefined)
      checkRotation(old, now())
      const rotated = (await rotateKey(keys(), old, asked, now())) ?? noSuchKey(id)
      const replaces = keyData(rotated.old, undefined, now())
      const data = keyData(rotated.stored, undefined, now())
      await deps.audit.record(request, {
        action: 'key.rotate',
        target: nameOf(old),
        before: toldOf(old),
        after: toldOf(rotated.old),
      })
      return { key: rotated.key, ...data, replaces }
    })
  })

  app.delete<KeyOf>('/keys/:id', FOR_SUPPORT, (request) => {
    const { id } = request.params
    return withStore(deps.log, 'revoke the key', async () => {
      const key = await keyNamed(id)
      if (!(await keys().keys().setIf('present', id, undefined))) noSuchKey(id)
      // If this fails, the entry expires by itself.
      await keys()
        .lastUsed.forget(id)
        .catch(() => {})
      await deps.audit.record(request, { action: 'key.revoke', target: nameOf(key), before: toldOf(key) })
      return { id, consumer: key.consumer, revoked: true }
    })
  })
}

const pageBody = (keys: readonly object[], next: string | undefined) => ({
  keys,
  more: next !== undefined,
  ...(next !== undefined && { next }),
})

function checkRotation({ id, expires, replacedBy }: StoredKey, now: number): void {
  if (replacedBy !== undefined)
    refuse('unprocessable', `The key ${id} was replaced by ${replacedBy}; rotate that one.`)
  if (expires !== undefined && expires <= now)
    refuse('unprocessable', `The key ${id} has expired; create a new one.`)
}

function noSuchKey(id: string): never {
  const why = isKeyId(id)
    ? 'it may have been revoked, or have expired more than 30 days ago'
    : 'an id has 16 hex digits: the beginning of the SHA-256 of the key'
  return refuse('not_found', `No key ${JSON.stringify(id.slice(0, 64))}; ${why}.`)
}

/** Returns the next keys by id, one more than a page holds. Does not sort all keys, since there may be very many. */
async function pageOf(
  keys: Iterable<StoredKey>,
  consumer: string | undefined,
  after: string,
): Promise<StoredKey[]> {
  const page: StoredKey[] = []
  let looked = 0
  for (const key of keys) {
    if (++looked % KEYS_A_TURN === 0) await immediate()
    if (key.id <= after || (consumer !== undefined && key.consumer !== consumer)) continue
    if (page.length > PAGE && key.id > page[PAGE]!.id) continue
    page.splice(placeOf(page, key.id), 0, key)
    if (page.length > PAGE + 1) page.pop()
  }
  return page
}

/** Returns the index of the first key whose id is not less. */
function placeOf(sorted: readonly StoredKey[], id: string): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]!.id < id) low = middle + 1
    else high = middle
  }
  return low
}

/** Returns the name of a key in the audit log: it can be searched by consumer and by id. */
function nameOf({ consumer, id }: StoredKey): string {
  return `${consumer}/${id}`
}

/** Returns the settings of a key for the audit log, without those that are not set. */
function toldOf({ tier, tenant, scopes, name, expires, replacedBy }: StoredKey): object {
  return { expires: isoOf(expires) ?? 'never', tier, tenant, scopes, name, replaced_by: replacedBy }
}

/** A key in a response. */
export type KeyData = Readonly<ReturnType<typeof keyData>>

/**
 * Returns the public data of a key.
 *
 * @param used Unix minute of its last use
 */
function keyData(key: StoredKey, used: number | undefined, now: number) {
  const { id, consumer, tier, tenant, scopes, name, created, expires, replacedBy } = key
  return {
    id,
    consumer,
    tier: tier ?? null,
    tenant: tenant ?? null,
    scopes: scopes ?? null,
    name: name ?? null,
    created: new Date(created).toISOString(),
    expires: isoOf(expires),
    state: expires !== undefined && expires <= now ? ('expired' as const) : ('active' as const),
    replaced_by: replacedBy ?? null,
    last_used: isoOf(used && used * 60_000),
  }
}

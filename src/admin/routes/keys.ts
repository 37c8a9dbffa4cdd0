import type { FastifyInstance, FastifyReply } from 'fastify'
import { takesStoredKeys } from '../../config/snapshot/consumers.js'
import { isKeyId, type StoredKey } from '../../fleet/api-keys.js'
import { type Problem, sendProblem } from '../access/problem.js'
import { FOR_SUPPORT } from '../access/roles.js'
import type { AdminDeps } from '../deps.js'
import { storeDown } from '../store-down.js'
import { issueKey, rotateKey } from './issue-key.js'
import { readKeyRequest, readRotateRequest } from './key-request.js'
import { listed } from './tier-of.js'
import { keysHeld } from './wait-for-keys.js'

interface KeyOf {
  readonly Params: { readonly id: string }
  readonly Body: unknown
}

interface KeysOf {
  readonly Querystring: Readonly<Record<string, string | readonly string[] | undefined>>
}

/** Most keys in one response. */
const PAGE = 1000

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
  const read = (id: string) => keys().keys().read(id)

  async function shown(some: readonly StoredKey[]): Promise<object[]> {
    const used = await keys().lastUsed.read(some.map(({ id }) => id))
    return some.map((key, i) => keyData(key, used[i], now()))
  }

  /** Returns the problem that would make a new key unusable, if any. */
  function unusable(tier: string | undefined): Problem | undefined {
    const { consumers, tiers } = deps.config.current()
    if (!takesStoredKeys(consumers)) {
      const detail =
        'The configuration knows no keys of the store, so that a new one would be refused; write store: true to an api_key of consumers first.'
      return { code: 'unprocessable', detail }
    }
    if (tier === undefined || tiers.includes(tier)) return undefined
    const detail = `No tier ${JSON.stringify(tier)}; the tiers are ${listed(tiers)}.`
    return { code: 'unprocessable', detail }
  }

  app.get<KeysOf>('/keys', async (request, reply) => {
    const { consumer, after = '', ...more } = request.query
    if (typeof after !== 'string' || Array.isArray(consumer) || Object.keys(more).length > 0) {
      const detail = 'Ask for consumer, or after the id of a key, or both; each once.'
      return sendProblem(reply, { code: 'bad_request', detail })
    }
    try {
      await keysHeld(deps.store())
      const page = pageOf(keys().keys().entries().values(), consumer as string | undefined, after)
      return { keys: await shown(page.slice(0, PAGE)), more: page.length > PAGE }
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'list the keys'))
    }
  })

  app.get<KeyOf>('/keys/:id', async (request, reply) => {
    const { id } = request.params
    try {
      const key = isKeyId(id) ? await read(id) : undefined
      return key === undefined ? noSuchKey(reply, id) : (await shown([key]))[0]
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'read the key'))
    }
  })

  app.post<KeyOf>('/keys', async (request, reply) => {
    const asked = readKeyRequest(request.body)
    if (typeof asked === 'string') return sendProblem(reply, { code: 'bad_request', detail: asked })
    const wrong = unusable(asked.tier)
    if (wrong !== undefined) return sendProblem(reply, wrong)
    try {
      const { key, stored } = await issueKey(keys(), asked, now())
      await deps.audit.record(request, {
        action: 'key.create',
        target: nameOf(stored),
        after: toldOf(stored),
      })
      return { key, ...keyData(stored, undefined, now()) }
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'make a key'))
    }
  })

  app.post<KeyOf>('/keys/:id/rotate', async (request, reply) => {
    const { id } = request.params
    const asked = readRotateRequest(request.body)
    if (typeof asked === 'string') return sendProblem(reply, { code: 'bad_request', detail: asked })
    try {
      const old = isKeyId(id) ? await read(id) : undefined
      if (old === undefined) return noSuchKey(reply, id)
      const wrong = unusable(undefined) ?? notToBeRotated(old, now())
      if (wrong !== undefined) return sendProblem(reply, wrong)
      const rotated = await rotateKey(keys(), old, asked, now())
      if (rotated === undefined) return noSuchKey(reply, id)
      const replaces = keyData(rotated.old, undefined, now())
      const data = keyData(rotated.stored, undefined, now())
      await deps.audit.record(request, {
        action: 'key.rotate',
        target: nameOf(old),
        before: toldOf(old),
        after: toldOf(rotated.old),
      })
      return { key: rotated.key, ...data, replaces }
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'rotate the key'))
    }
  })

  app.delete<KeyOf>('/keys/:id', FOR_SUPPORT, async (request, reply) => {
    const { id } = request.params
    try {
      const key = isKeyId(id) ? await read(id) : undefined
      if (key === undefined || !(await keys().keys().setIf('present', id, undefined)))
        return noSuchKey(reply, id)
      // If this fails, the entry expires by itself.
      await keys()
        .lastUsed.forget(id)
        .catch(() => {})
      await deps.audit.record(request, { action: 'key.revoke', target: nameOf(key), before: toldOf(key) })
      return { id, consumer: key.consumer, revoked: true }
    } catch (error) {
      return sendProblem(reply, storeDown(deps.log, error, 'revoke the key'))
    }
  })
}

function notToBeRotated({ id, expires, replacedBy }: StoredKey, now: number): Problem | undefined {
  if (replacedBy !== undefined) {
    const detail = `The key ${id} has been replaced by ${replacedBy} already; rotate that one.`
    return { code: 'unprocessable', detail }
  }
  if (expires === undefined || expires > now) return undefined
  return { code: 'unprocessable', detail: `The key ${id} has expired; make a new one.` }
}

function noSuchKey(reply: FastifyReply, id: string): FastifyReply {
  const found = JSON.stringify(id.slice(0, 64))
  const detail = isKeyId(id)
    ? `No key ${found}; it may have been revoked, or have expired more than 30 days ago.`
    : `No key ${found}; an id has 16 hex digits: the beginning of the SHA-256 of the key.`
  return sendProblem(reply, { code: 'not_found', detail })
}

/** Returns the next keys by id, one more than a page holds. Does not sort all keys, since there may be very many. */
function pageOf(keys: Iterable<StoredKey>, consumer: string | undefined, after: string): StoredKey[] {
  const page: StoredKey[] = []
  for (const key of keys) {
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
  const end = expires === undefined ? 'never' : new Date(expires).toISOString()
  return { expires: end, tier, tenant, scopes, name, replaced_by: replacedBy }
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
    expires: expires === undefined ? null : new Date(expires).toISOString(),
    state: expires !== undefined && expires <= now ? ('expired' as const) : ('active' as const),
    replaced_by: replacedBy ?? null,
    last_used: used === undefined ? null : new Date(used * 60_000).toISOString(),
  }
}

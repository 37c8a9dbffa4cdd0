import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import { loadConfig } from '../../../src/config/load/load.js'
import { createKey, digestOf, idOfDigest } from '../../../src/credentials/key-format.js'
import { openStore, type Store } from '../../../src/fleet/open-store.js'
import { freePort } from '../free-port.js'
import { type OwnRedis, runRedis } from './redis.js'

const root = new URL('../../../', import.meta.url)
const textOf = (name: string) => readFileSync(new URL(name, root), 'utf8')
/** Operators keep a user for themselves, too. */
const ADMINISTRATOR = 'user administrator on >secret ~* &* +@all'

export const SHIPPED_ACL = textOf('deploy/redis/users.acl')

export interface DeployedRedis extends OwnRedis {
  /** URL for `store.redis`: the user of deploy/redis/users.acl. */
  readonly gateway: string
  /** Writes other users into its file; they hold from its next start. */
  writeAcl(text: string): void
}

/** Starts Redis by the command that docs/deploy.md names, with the files of deploy/redis as they are. `client` is an administrator's. */
export async function deployedRedis(t: Parameters<typeof runRedis>[0]): Promise<DeployedRedis> {
  const [, line] = /^\$ redis-server (.* --aclfile .*)$/m.exec(textOf('docs/deploy.md'))!
  const port = await freePort()
  let acl = ''
  const writeAcl = (text: string) => writeFileSync(acl, `${text}\n${ADMINISTRATOR}\n`)
  const redis = await runRedis(
    t,
    port,
    (folder) => {
      acl = `${folder}/users.acl`
      writeAcl(SHIPPED_ACL)
      const ours: Record<string, string> = {
        'deploy/redis/redis.conf': fileURLToPath(new URL('deploy/redis/redis.conf', root)),
        '/var/lib/redis': folder,
        '/etc/redis/users.acl': acl,
      }
      return [...line!.split(' ').map((word) => ours[word] ?? word), '--port', String(port)]
    },
    'administrator:secret@',
  )
  return Object.assign(redis, { gateway: `redis://tidegate:change-me@127.0.0.1:${port}`, writeAcl })
}

/** Returns all records that Redis keeps: each key, with everything in it. Leaves out which gateways are alive. */
export async function recordsIn(client: Redis): Promise<ReadonlyMap<string, readonly string[]>> {
  const all = new Map<string, readonly string[]>()
  for (const key of (await client.keys('*')).sort()) {
    // Running gateways write these keys at any time: which of them live, and whether an operator has to decide.
    if (key.startsWith('nodes:') || key.endsWith(':rollback')) continue
    const type = await client.type(key)
    if (type === 'hash')
      all.set(
        key,
        Object.entries(await client.hgetall(key))
          .map(String)
          .sort(),
      )
    else if (type === 'zset') all.set(key, await client.zrange(key, 0, '-1', 'WITHSCORES'))
    else if (type === 'stream') all.set(key, (await client.xrange(key, '-', '+')).map(String))
    else all.set(key, [(await client.getBuffer(key))!.toString('latin1')])
  }
  return all
}

export interface Writer {
  /** Keys that the store confirmed, by map. */
  readonly taken: ReadonlyMap<string, ReadonlySet<string>>
  stop(): Promise<void>
}

/** Opens the store as a gateway does. */
export async function openGatewayStore(redis: string): Promise<Store> {
  const yaml = `store: { redis: "${redis}", timeout: 2s }\ntiers: [free]\nconsumers: [{ ip: {} }]\nservices: { api: { upstreams: [http://127.0.0.1:9], limits: { free: 1/s } } }\nroutes: [{ path: /*, service: api }]\n`
  const loaded = loadConfig(yaml, { file: 'tidegate.yaml', env: {} })
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.errors))
  const quiet = { info() {}, warn() {} }
  const store = openStore(loaded.config.store, quiet, { decides: false, fleet: 'member' })
  await store.ready
  return store
}

/** Writes tiers, API keys, bans, boosts and overrides, as fast as the store takes them, until it fails. */
export async function writeRecords(redis: string, name: string): Promise<Writer> {
  const store = await openGatewayStore(redis)
  const taken = new Map<string, Set<string>>()
  let stopped = false
  const writes: Record<string, (i: number) => Promise<string>> = {
    async 'tier:{assignments}'(i) {
      const key = `${name}-${i}`
      await store.assignments.set(key, 'free', i % 2 ? Date.now() + 86_400_000 : undefined)
      return key
    },
    async 'keys:{keys}'(i) {
      const sha256 = digestOf(createKey())
      const id = idOfDigest(sha256)
      const none = { tier: undefined, tenant: undefined, scopes: undefined, replacedBy: undefined }
      const key = {
        id,
        sha256,
        consumer: `${name}-${i}`,
        name,
        created: Date.now(),
        expires: undefined,
        ...none,
      }
      await store.keys.keys().set(id, key)
      return id
    },
    async 'ban:{bans}'(i) {
      const block = `${name.length}.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}/32`
      await store.bans.map.set(block, { source: 'manual', since: Date.now(), until: Date.now() + 86_400_000 })
      return block
    },
    async 'amounts:{amounts}'(i) {
      const key = `${i % 2 ? 'boost' : 'override'}:consumer:api:second:${name}-${i}`
      await store.amounts.map.set(key, { amount: 5, until: Date.now() + 86_400_000, reason: undefined })
      return key
    },
    async 'audit:{log}'(i) {
      return store.audit.append(`{"n":"${name}-${i}"}`, 1_000_000)
    },
  }
  const lanes = Object.entries(writes).map(async ([map, write]) => {
    const keys = new Set<string>()
    taken.set(map, keys)
    try {
      for (let i = 0; !stopped; i++) keys.add(await write(i))
    } catch {
      // The store has gone.
    }
  })
  return {
    taken,
    async stop() {
      stopped = true
      await Promise.all(lanes)
      await store.close()
    },
  }
}

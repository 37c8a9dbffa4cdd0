import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { API_KEYS, type StoredKey } from '../../src/fleet/api-keys.js'
import { createKeyring, createKeyStore } from '../../src/fleet/keyring.js'
import { createMemoryLastUsed, createRedisLastUsed } from '../../src/fleet/last-used.js'
import { createMemoryMap, type ReplicatedMap } from '../../src/fleet/replicated-map.js'
import { createRedisMap } from '../../src/fleet/replicated-map-redis.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

const DAY = 86_400_000
const HOUR = 3_600_000
const START = 1_760_000_000_000

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex')

function keyOf(text: string, changes: Partial<StoredKey> = {}): StoredKey {
  const sha256 = digestOf(text)
  return {
    id: sha256.slice(0, 16),
    sha256,
    consumer: 'acme',
    tier: 'pro',
    tenant: undefined,
    scopes: undefined,
    name: undefined,
    created: START,
    expires: undefined,
    replacedBy: undefined,
    ...changes,
  }
}

/** A keyring over keys in memory, with a fixed clock and a fixed last answer of the store. */
function open() {
  const clock = { now: START, confirmed: START }
  const told: (readonly [ids: readonly string[], minute: number])[] = []
  const lastUsed = createMemoryLastUsed(100)
  const map = createMemoryMap(API_KEYS, { now: () => clock.now })
  const store = createKeyStore(
    () => ({ ...map, confirmedAt: () => clock.confirmed }) as ReplicatedMap<StoredKey>,
    {
      ...lastUsed,
      async touch(ids, minute) {
        await lastUsed.touch(ids, minute)
        // A turn later, like a store on a network: a close has to wait for it.
        await nextTurn()
        told.push([ids, minute])
      },
    },
  )
  const keyring = createKeyring({ store: () => store, now: () => clock.now })
  return { clock, told, map, keyring }
}

t.test('a key is found only by the digest of all of it', async (t) => {
  const { map, keyring } = open()
  const key = keyOf('one')
  await map.set(key.id, key)
  t.same(keyring.find(key.sha256, DAY), key)
  t.equal(keyring.find(digestOf('two'), DAY), 'unknown')
  t.equal(keyring.find(`${key.id}${'0'.repeat(48)}`, DAY), 'unknown', 'the same id, another key')
  await map.set(key.id, undefined)
  t.equal(keyring.find(key.sha256, DAY), 'unknown')
})

t.test('for 30 days an expired key is distinguished from an unknown one', async (t) => {
  const { clock, map, keyring } = open()
  const key = keyOf('one', { expires: START + DAY })
  await map.set(key.id, key)
  const at = (now: number) => {
    clock.now = now
    clock.confirmed = now
    const found = keyring.find(key.sha256, DAY)
    return typeof found === 'object' ? 'good' : found
  }
  t.equal(at(START + DAY - 1), 'good')
  t.equal(at(START + DAY), 'expired')
  t.equal(at(START + 31 * DAY - 1), 'expired')
  t.equal(at(START + 31 * DAY), 'unknown')
})

t.test('while the store is away keys work for the grace period, and then are unavailable', async (t) => {
  const { clock, map, keyring } = open()
  const key = keyOf('one', { expires: START + 2 * HOUR })
  await map.set(key.id, key)
  clock.now = START + HOUR
  t.same(keyring.find(key.sha256, HOUR), key)
  clock.now++
  t.equal(keyring.find(key.sha256, HOUR), 'unavailable')
  t.equal(keyring.find(digestOf('two'), HOUR), 'unknown', 'an unknown key is still unknown')
  clock.now = START + 3 * HOUR
  t.equal(keyring.find(key.sha256, DAY), 'expired', 'it ends all the same')
  clock.confirmed = 0
  t.equal(keyring.find(digestOf('two'), DAY), 'unavailable', 'none has been loaded so far')
})

t.test('a key that is not in memory is looked up in the store', async (t) => {
  const { map } = open()
  const key = keyOf('one')
  let answer = async (): Promise<StoredKey | undefined> => key
  const partly: ReplicatedMap<StoredKey> = {
    ...map,
    isWhole: () => false,
    find: (id) => map.get(id) ?? answer(),
    confirmedAt: () => START,
  }
  const store = createKeyStore(() => partly, createMemoryLastUsed(100))
  const keyring = createKeyring({ store: () => store, now: () => START })
  t.equal(keyring.isWhole(), false)
  const found = keyring.find(key.sha256, DAY)
  t.ok(found instanceof Promise)
  t.same(await found, key)
  t.equal(await keyring.find(`${key.id}${'0'.repeat(48)}`, DAY), 'unknown')
  answer = async () => undefined
  t.equal(await keyring.find(key.sha256, DAY), 'unknown')
  answer = () => Promise.reject(new Error('the store is away'))
  t.equal(await keyring.find(key.sha256, DAY), 'unavailable')
  await map.set(key.id, key)
  t.same(keyring.find(key.sha256, DAY), key, 'what is in memory needs no look-up')
})

t.test('a client whose key has to be looked up may stay until the answer', async (t) => {
  const { map } = open()
  const store = createKeyStore(
    (): ReplicatedMap<StoredKey> => ({ ...map, isWhole: () => false, find: async () => undefined }),
    createMemoryLastUsed(100),
  )
  const keyring = createKeyring({ store: () => store })
  let told = 0
  keyring.onChange(() => told++)
  t.equal(keyring.goodUntil('0123456789abcdef'), Number.POSITIVE_INFINITY)
  await nextTurn()
  t.equal(told, 1, 'then it is decided again')
})

t.test('a client whose key could not be looked up is judged again', async (t) => {
  let isAway = true
  const find = () => (isAway ? Promise.reject(new Error('too many look-ups')) : undefined)
  const keys = { ...createMemoryMap(API_KEYS), find }
  const keyring = createKeyring({ store: () => createKeyStore(() => keys as never, createMemoryLastUsed(1)) })
  let end: number | undefined = 0
  keyring.onChange(() => {
    end = keyring.goodUntil('0123456789abcdef')
  })
  t.equal(keyring.goodUntil('0123456789abcdef'), Number.POSITIVE_INFINITY)
  await eventually('it is asked again', () => end === Number.POSITIVE_INFINITY)
  isAway = false
  await eventually('the client has to leave', () => end === undefined)
})

t.test('the use of a key is reported once in ten minutes, together with others', async (t) => {
  const { clock, told, keyring } = open()
  const [a, b] = [keyOf('a'), keyOf('b')]
  const minute = Math.floor(START / 60_000)
  for (let i = 0; i < 100; i++) keyring.used(a)
  keyring.used(b)
  await keyring.close()
  t.same(told, [[[a.id, b.id], minute]])
  clock.now += 10 * 60_000 - 1
  keyring.used(a)
  await keyring.close()
  t.equal(told.length, 1)
  clock.now++
  keyring.used(a)
  await keyring.close()
  t.same(told[1], [[a.id], minute + 10])
})

t.test('keys are loaded when a configuration needs them, and the keyring tells when', async (t) => {
  const { keyring } = open()
  await keyring.hold(false)
  t.equal(keyring.loaded(), true)
  const held = keyring.hold(true)
  t.equal(keyring.loaded(), false)
  await held
  t.equal(keyring.loaded(), true)
})

t.test('Redis keeps when each existing key was used last', async (t) => {
  const redis = await startRedis(t)
  const quiet = { info() {}, warn() {} }
  const connection = connectStore({ redis: redis.url }, quiet)
  const map = createRedisMap(API_KEYS, { store: connection, log: quiet })
  t.teardown(async () => {
    await map.close()
    connection.disconnect()
  })
  const lastUsed = createRedisLastUsed(connection, API_KEYS, { shards: async () => 1 })
  await map.ready
  const [a, b] = [keyOf('a'), keyOf('b')]
  await map.set(a.id, a)
  await lastUsed.touch([a.id, b.id], 1_000_000)
  await lastUsed.touch([a.id], 999_999)
  t.same(await lastUsed.read([b.id, a.id]), [undefined, 1_000_000], 'and never an earlier time')
  t.same(await lastUsed.read([]), [])
  await map.set(b.id, b)
  await lastUsed.touch([b.id], 1_000_000 + 400 * 1440)
  t.same(await lastUsed.read([a.id]), [undefined], 'uses more than 400 days ago are forgotten')
  await lastUsed.forget(b.id)
  t.equal(await redis.client.exists('keys:{keys}:used'), 0)
})

t.test('in memory the oldest uses are forgotten when there are too many', async (t) => {
  const lastUsed = createMemoryLastUsed(2)
  await lastUsed.touch(['a', 'b'], 1)
  await lastUsed.touch(['a', 'c'], 2)
  t.same(await lastUsed.read(['a', 'b', 'c']), [2, undefined, 2])
})

t.test('a key is parsed as it was written, and a malformed one is refused', async (t) => {
  const text = fc.string({ minLength: 1, maxLength: 256 })
  const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined })
  const scope = fc.stringMatching(/^[!#-[\]-~]{1,64}$/)
  const when = fc.integer({ min: 0, max: 4e12 })
  const record = fc
    .record({
      consumer: text,
      tier: maybe(text),
      tenant: maybe(text),
      scopes: maybe(fc.array(scope, { maxLength: 32 })),
      name: maybe(text),
      created: when,
      expires: maybe(when),
      replacedBy: maybe(text),
    })
    .map((changes) => keyOf('one', changes))
  fc.assert(
    fc.property(record, (key) => {
      t.same(API_KEYS.parse(API_KEYS.write(key)), { ...key, told: 0 })
    }),
    { numRuns: 50 },
  )
  fc.assert(fc.property(fc.string(), (text) => API_KEYS.parse(text) === undefined))
  fc.assert(fc.property(fc.json(), (text) => API_KEYS.parse(text) === undefined))
  const good = JSON.parse(API_KEYS.write(keyOf('one'))) as object
  for (const wrong of [
    { sha256: 'x' },
    { sha256: digestOf('one').toUpperCase() },
    { consumer: '' },
    { consumer: 1 },
    { consumer: 'x'.repeat(257) },
    { tier: null },
    { tenant: {} },
    { scopes: 'admin' },
    { scopes: ['a b'] },
    { created: '1' },
    { created: 9e15 },
    { expires: 9e15 },
    { expires: 'never' },
    { expires: null },
  ]) {
    t.equal(API_KEYS.parse(JSON.stringify({ ...good, ...wrong })), undefined, JSON.stringify(wrong))
  }
})

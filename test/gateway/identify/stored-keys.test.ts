import t from 'tap'
import { createKey, digestOf } from '../../../src/credentials/key-format.js'
import { createTokens } from '../../../src/credentials/tokens.js'
import type { Refusal } from '../../../src/errors.js'
import { API_KEYS, type StoredKey } from '../../../src/fleet/api-keys.js'
import { createKeyring, createKeyStore, type FoundKey } from '../../../src/fleet/keyring.js'
import { createMemoryLastUsed } from '../../../src/fleet/last-used.js'
import { createMemoryMap, type ReplicatedMap } from '../../../src/fleet/replicated-map.js'
import { identifyConsumer } from '../../../src/gateway/stages/consumer.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { noHooks } from '../../support/gateway/hooks.js'

const START = 1_760_000_000_000
const HOUR = 3_600_000

const withStore = (store: string) =>
  snapshotOf(`
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
consumers:
  - api_key: { store: ${store}, keys: [{ key: key-of-the-file, consumer: filed }] }
  - ip: {}
`)
const tokens = createTokens({ log: { info() {}, warn() {} } })
const snapshot = withStore('{ grace: 1h }')

/** Identifies by a keyring over keys in memory, with a fixed clock and a fixed last answer of the store. */
function open() {
  const clock = { now: START, confirmed: START }
  const map = createMemoryMap(API_KEYS, { now: () => clock.now })
  const confirmed = { ...map, confirmedAt: () => clock.confirmed } as ReplicatedMap<StoredKey>
  const lastUsed = createMemoryLastUsed(100)
  const store = createKeyStore(() => confirmed, lastUsed)
  const keyring = createKeyring({ store: () => store, now: () => clock.now })
  const stage = identifyConsumer({ tokens, keyring, runHooks: noHooks })
  return {
    clock,
    keyring,
    lastUsed,
    identify(key: string, by = snapshot) {
      const x = exchangeFor(by, { headers: ['x-api-key', key] })
      return { refusal: stage(x) as Refusal | undefined, x }
    },
    async issue(changes: Partial<StoredKey> = {}) {
      const key = createKey()
      const sha256 = digestOf(key)
      const id = sha256.slice(0, 16)
      await map.set(id, {
        ...{ id, sha256, consumer: 'acme', tier: undefined, tenant: undefined, scopes: undefined },
        ...{ name: undefined, created: START, expires: undefined, replacedBy: undefined, ...changes },
      })
      return { key, id }
    },
  }
}

t.test('a key of the store identifies its consumer, with tier, tenant and scopes', async (t) => {
  const { identify, issue, keyring, lastUsed } = open()
  const { key, id } = await issue({ tier: 'pro', tenant: 'acme-group', scopes: ['orders:read'] })
  t.match(identify(key), {
    refusal: undefined,
    x: {
      ...{ consumer: 'acme', credentialTier: 1, tenant: 'acme-group', scopes: ['orders:read'] },
      ...{ keyId: id, identifiedBy: 'api_key' },
    },
  })
  await keyring.close()
  t.same(await lastUsed.read([id]), [Math.floor(START / 60_000)], 'and its use is noted')
  t.match(identify('key-of-the-file').x, { consumer: 'filed', keyId: undefined, scopes: undefined })
})

t.test('a tier that the configuration does not have counts as none', async (t) => {
  const { identify, issue } = open()
  const { key } = await issue({ tier: 'gold' })
  t.match(identify(key), { refusal: undefined, x: { consumer: 'acme', credentialTier: undefined } })
})

t.test('an unknown or expired key is 401, and no other credential is tried', async (t) => {
  const { clock, identify, issue } = open()
  const { key } = await issue({ expires: START + 1 })
  t.equal(identify(key).refusal, undefined)
  clock.now = START + 1
  const expired = { code: 'unauthorized', detail: 'The API key in x-api-key has expired.' }
  t.match(identify(key), { refusal: expired, x: { consumer: undefined, keyId: undefined } })
  const unknown = { code: 'unauthorized', detail: 'The API key in x-api-key is not valid.' }
  for (const other of [createKey(), `${key}x`, key.toLowerCase(), '', 'x'.repeat(300)]) {
    t.match(identify(other), { refusal: unknown, x: { consumer: undefined } }, other)
  }
})

t.test('when the store is out of reach for too long, only well-formed store keys get 503', async (t) => {
  const { clock, identify, issue } = open()
  const { key } = await issue()
  clock.now = START + HOUR
  t.equal(identify(key).refusal, undefined, 'within the time of grace')
  clock.now++
  t.match(identify(key).refusal, { code: 'identity_unavailable', headers: ['Retry-After', '1'] })
  t.match(identify(createKey()).refusal, { code: 'unauthorized' })
  clock.confirmed = 0
  t.match(identify(createKey()).refusal, { code: 'identity_unavailable' }, 'nothing has been loaded yet')
  t.match(identify('guess').refusal, { code: 'unauthorized' })
  t.match(identify('key-of-the-file'), { refusal: undefined, x: { consumer: 'filed' } })
})

t.test('without store: true no key of the store is valid', async (t) => {
  const { identify, issue } = open()
  const { key } = await issue()
  t.match(identify(key, withStore('false')).refusal, { code: 'unauthorized' })
})

t.test('a key that is not in memory is looked up, and nothing else is', async (t) => {
  const looked: string[] = []
  let answer: FoundKey = 'unknown'
  const find = async (digest: string) => {
    looked.push(digest)
    return answer
  }
  const stage = identifyConsumer({
    tokens,
    runHooks: noHooks,
    keyring: { find, isWhole: () => false, used() {} },
  })
  const identify = async (key: string) => {
    const x = exchangeFor(snapshot, { headers: ['x-api-key', key] })
    return { refusal: await stage(x), x }
  }
  const key = createKey()
  t.match(await identify(key), { refusal: { code: 'unauthorized' } })
  answer = 'unavailable'
  t.match(await identify(key), { refusal: { code: 'identity_unavailable' } })
  const sha256 = digestOf(key)
  const owner = { consumer: 'acme', tier: 'pro', tenant: undefined, scopes: undefined, name: undefined }
  const times = { created: START, expires: undefined, replacedBy: undefined }
  answer = { id: sha256.slice(0, 16), sha256, ...owner, ...times }
  t.match(await identify(key), { refusal: undefined, x: { consumer: 'acme', credentialTier: 1 } })
  t.same(looked, [sha256, sha256, sha256])
  t.match(await identify('guess'), { refusal: { code: 'unauthorized' } })
  t.match(await identify('key-of-the-file'), { refusal: undefined, x: { consumer: 'filed' } })
  t.equal(looked.length, 3, 'a text that cannot be a key is not looked up')
})

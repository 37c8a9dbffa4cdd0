// Tests src/gateway/identify/{api-key,caller,header,identify,ip,missing-credential}.ts
// Tests src/config/values/credential-kinds.ts
import { createHash } from 'node:crypto'
import t from 'tap'
import type { Snapshot } from '../../../src/config/snapshot/snapshot.js'
import { createTokens } from '../../../src/credentials/tokens.js'
import type { Refusal } from '../../../src/errors.js'
import { clientOf } from '../../../src/gateway/exchange/address.js'
import { readHeaders } from '../../../src/gateway/exchange/headers.js'
import { identifyConsumer } from '../../../src/gateway/stages/consumer.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { noHooks } from '../../support/gateway/hooks.js'

function withConsumers(consumers: string, more = ''): Snapshot {
  return snapshotOf(`
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
consumers:
${consumers}
${more}`)
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const KEYS = `  - api_key:
      header: x-api-key
      keys:
        - { sha256: ${sha256('key-of-acme')}, consumer: acme, tier: pro }
        - { sha256: ${sha256('key-of-bob')}, consumer: bob }
        - { key: "schl\u00fcssel", consumer: umlaut }`
const HEADER = '  - header: { name: x-user-id, from: anyone }'
const IP = '  - ip: {}'

const identifies = identifyConsumer({
  tokens: createTokens({ log: { info() {}, warn() {} } }),
  runHooks: noHooks,
})

/** A source that knows all of these at once. */
function identify(snapshot: Snapshot, headers: readonly string[], peer?: string) {
  const x = exchangeFor(snapshot, peer === undefined ? { headers } : { headers, peer })
  x.clientIp = clientOf(x)
  return { refusal: identifies(x) as Refusal | undefined, x }
}

t.test('an API key identifies its consumer and brings the tier', async (t) => {
  const snapshot = withConsumers(KEYS)
  t.match(identify(snapshot, ['X-Api-Key', 'key-of-acme']), {
    refusal: undefined,
    x: { consumer: 'acme', credentialTier: 1, identifiedBy: 'api_key' },
  })
  t.match(identify(snapshot, ['x-API-key', 'key-of-bob']), {
    refusal: undefined,
    x: { consumer: 'bob', credentialTier: undefined },
  })
  const onTheWire = Buffer.from('schl\u00fcssel').toString('latin1')
  t.match(identify(snapshot, ['x-api-key', onTheWire]).x, { consumer: 'umlaut' }, 'beyond ASCII, too')
})

t.test('a bad API key is 401, and no other credential is tried', async (t) => {
  const snapshot = withConsumers([KEYS, HEADER, IP].join('\n'))
  const bad = [
    '',
    ' ',
    'key-of-acme ',
    'KEY-OF-ACME',
    'key-of-acm',
    sha256('key-of-acme'),
    '__proto__',
    'a'.repeat(257),
  ]
  for (const key of bad) {
    const { refusal, x } = identify(snapshot, ['x-api-key', key, 'x-user-id', 'alice'])
    t.match(
      refusal,
      { code: 'unauthorized', detail: 'The API key in x-api-key is not valid.' },
      key.slice(0, 20),
    )
    t.equal(x.consumer, undefined)
  }
})

t.test('a 401 has a challenge, and does not repeat the credential', async (t) => {
  const { refusal } = identify(withConsumers(KEYS), ['x-api-key', 'sk_live_12345'])
  t.same(refusal!.headers, ['WWW-Authenticate', 'ApiKey realm="tidegate"'])
  t.notMatch(JSON.stringify(refusal), /sk_live/)
})

t.test('the sources are tried in the order of the file', async (t) => {
  const headers = ['x-api-key', 'key-of-acme', 'x-user-id', 'alice']
  t.match(identify(withConsumers([KEYS, HEADER].join('\n')), headers).x, {
    consumer: 'acme',
    identifiedBy: 'api_key',
  })
  const headerFirst = withConsumers([HEADER, KEYS].join('\n'))
  t.match(identify(headerFirst, headers).x, {
    consumer: 'alice',
    identifiedBy: 'header',
    credentialTier: undefined,
  })
  t.match(identify(headerFirst, ['x-api-key', 'key-of-bob']).x, { consumer: 'bob' })
})

t.test('a trusted id is taken as it is, up to 256 characters', async (t) => {
  const snapshot = withConsumers(HEADER)
  for (const id of ['alice', 'a:b{c}', '10.0.0.1', 'a'.repeat(256)]) {
    t.match(identify(snapshot, ['X-User-Id', id]), { refusal: undefined, x: { consumer: id } })
  }
  for (const id of ['', 'a'.repeat(257)]) {
    t.match(identify(snapshot, ['X-User-Id', id]).refusal, {
      code: 'unauthorized',
      detail: /empty or longer/,
    })
  }
})

t.test('an identity header is believed from the configured addresses, and else ignored', async (t) => {
  const header = (from: string) => `  - header: { name: x-user-id, tenant: x-org${from} }`
  const who = (snapshot: Snapshot, peer: string) => {
    const { consumer, tenant, identifiedBy } = identify(
      snapshot,
      ['x-user-id', 'alice', 'x-org', 'acme'],
      peer,
    ).x
    return [consumer, tenant, identifiedBy]
  }
  const alice = ['alice', 'acme', 'header']
  const named = withConsumers([header(', from: [10.0.0.0/8, "fd00::/8"]'), IP].join('\n'))
  t.same(who(named, '10.1.2.3'), alice)
  t.same(who(named, '::ffff:10.1.2.3'), alice)
  t.same(who(named, 'fd00::7'), alice)
  t.same(who(named, '192.0.2.7'), ['192.0.2.7', undefined, 'ip'])
  t.same(who(named, '127.0.0.1'), ['127.0.0.1', undefined, 'ip'])
  const alone = withConsumers(header(', from: 10.0.0.1'))
  t.match(identify(alone, ['x-user-id', 'alice'], '10.0.0.2').refusal, { code: 'unauthorized' })

  const proxies = 'trusted_proxies: [10.0.0.0/8]'
  t.same(
    who(withConsumers([header(''), IP].join('\n'), proxies), '10.1.2.3'),
    alice,
    'by default a trusted proxy',
  )
  t.same(who(withConsumers([header(''), IP].join('\n'), proxies), '192.0.2.7'), [
    '192.0.2.7',
    undefined,
    'ip',
  ])
  const narrower = withConsumers([header(', from: [192.0.2.7]'), IP].join('\n'), proxies)
  t.same(who(narrower, '192.0.2.7'), alice, 'its own header comes first')
  t.same(who(narrower, '10.1.2.3'), ['10.1.2.3', undefined, 'ip'])

  const loopback = withConsumers(header(''), 'listen: 127.0.0.1:0')
  t.same(who(loopback, '127.0.0.1'), alice, 'or who reaches a gateway that only this machine reaches')
  t.throws(() => withConsumers(header('')), /does not say who may set x-user-id/)
})

t.test('an unidentified request is 401 and learns what to send', async (t) => {
  t.match(identify(withConsumers([KEYS, HEADER].join('\n')), []).refusal, {
    code: 'unauthorized',
    detail: 'Send a credential in x-api-key or x-user-id.',
  })
})

t.test('an address identifies a client without any other credential', async (t) => {
  const snapshot = withConsumers([KEYS, IP].join('\n'), 'trusted_proxies: [10.0.0.0/8]')
  t.match(identify(snapshot, [], '192.0.2.7').x, { consumer: '192.0.2.7', identifiedBy: 'ip' })
  t.match(identify(snapshot, [], '::ffff:192.0.2.7').x, { consumer: '192.0.2.7' })
  t.match(identify(snapshot, [], '2001:db8::1').x, { consumer: '2001:db8:0:0::/64', clientIp: '2001:db8::1' })
  const forged = ['X-Forwarded-For', '1.1.1.1, 198.51.100.1']
  t.match(identify(snapshot, forged, '192.0.2.7').x, { consumer: '192.0.2.7' }, 'from a stranger')
  t.match(identify(snapshot, forged, '10.0.0.1').x, { consumer: '198.51.100.1', clientIp: '198.51.100.1' })
  t.match(identify(snapshot, forged, '::ffff:10.0.0.1').x, { consumer: '198.51.100.1' })
  const split = [
    'X-Forwarded-For',
    '1.1.1.1',
    'x-forwarded-for',
    '198.51.100.1',
    'X-FORWARDED-FOR',
    '10.0.0.9',
  ]
  t.match(identify(snapshot, split, '10.0.0.1').x, { consumer: '198.51.100.1' }, 'in several fields')
})

t.test("the client's address is known, whoever the consumer is", async (t) => {
  const snapshot = withConsumers(KEYS, 'trusted_proxies: [10.0.0.1]')
  const headers = ['x-api-key', 'key-of-bob', 'x-forwarded-for', '198.51.100.1']
  t.match(identify(snapshot, headers, '10.0.0.1').x, { consumer: 'bob', clientIp: '198.51.100.1' })
})

t.test('a repeated credential is 400, whether equal or not, in any case', async (t) => {
  const snapshot = withConsumers([KEYS, HEADER].join('\n'))
  for (const [name, twin] of [
    ['x-api-key', 'X-API-KEY'],
    ['x-user-id', 'X-User-Id'],
  ] as const) {
    for (const value of ['key-of-acme', 'other']) {
      t.match(readHeaders(['Host', 'a', name, 'key-of-acme', twin, value], snapshot, true), {
        code: 'bad_header',
        detail: new RegExp(name),
      })
    }
  }
})

t.test('a header name with _ for - is no credential, and does not make one ambiguous', async (t) => {
  const snapshot = withConsumers([KEYS, HEADER].join('\n'))
  for (const twin of ['x_user_id', 'X_User-Id', 'x-user_id']) {
    t.match(identify(snapshot, [twin, 'mallory']).refusal, { code: 'unauthorized' }, twin)
    t.match(identify(snapshot, [twin, 'mallory', 'x-user-id', 'alice']).x, { consumer: 'alice' }, twin)
  }
})

t.test("a key is looked up in the request's own snapshot", async (t) => {
  const before = withConsumers(KEYS)
  t.match(identify(before, ['x-api-key', 'key-of-bob']).x, { consumer: 'bob' })
  const after = withConsumers(KEYS.replace(sha256('key-of-bob'), sha256('new-key-of-bob')))
  t.match(identify(after, ['x-api-key', 'key-of-bob']).refusal, { code: 'unauthorized' })
  t.match(identify(after, ['x-api-key', 'new-key-of-bob']).x, { consumer: 'bob' })
})

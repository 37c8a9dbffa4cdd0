import { createPublicKey, generateKeyPairSync, type KeyObject, verify } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import type { IdentityToken } from '../../src/config/snapshot/identity.js'
import { createIdentitySigner, type TokenSubject } from '../../src/credentials/identity-token.js'
import { keyFile } from '../support/credentials/keys.js'

const NOW = 1_760_000_055_250
const ALICE: TokenSubject = {
  consumer: 'alice',
  tier: 'free',
  tenant: undefined,
  identifiedBy: 'api_key',
}

function settings(key: string, changes: Partial<IdentityToken> = {}): IdentityToken {
  const given = { header: 'x-tidegate-identity', issuer: 'tidegate', audience: 'payments', ttl: 60 }
  return { key, algorithm: 'EdDSA', kid: 'k1', ...given, ...changes }
}

/** Verifies a token's signature and returns its claims. */
function claimsOf(token: string, key: KeyObject, algorithm = 'EdDSA') {
  const [head, body, signature] = token.split('.') as [string, string, string]
  const hash = algorithm === 'EdDSA' ? null : 'sha256'
  const good = verify(
    hash,
    Buffer.from(`${head}.${body}`),
    { key, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  )
  if (!good) throw new Error('a bad signature')
  const part = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString())
  return { head: part(head), claims: part(body) }
}

for (const algorithm of ['ES256', 'EdDSA', 'RS256'] as const) {
  t.test(`${algorithm}: the token tells its consumer to anybody with the public key`, async (t) => {
    const { pem, publicKey } = keyFile(t, algorithm)
    const sign = createIdentitySigner(settings(pem, { algorithm }))
    const token = sign({ ...ALICE, tenant: 'acme' }, NOW)
    t.same(claimsOf(token, publicKey, algorithm), {
      head: { alg: algorithm, typ: 'JWT', kid: 'k1' },
      claims: {
        iss: 'tidegate',
        aud: 'payments',
        sub: 'alice',
        iat: 1_760_000_055,
        exp: 1_760_000_115,
        tier: 'free',
        tenant: 'acme',
        identified_by: 'api_key',
      },
    })
    t.throws(() => claimsOf(token, createPublicKey(keyFile(t, algorithm).pem), algorithm))
  })
}

t.test('a request without a consumer gives a token without a subject', async (t) => {
  const { pem, publicKey } = keyFile(t, 'EdDSA')
  const token = createIdentitySigner(settings(pem))(
    { ...ALICE, consumer: undefined, identifiedBy: 'ip' },
    NOW,
  )
  const { claims } = claimsOf(token, publicKey)
  t.notOk('sub' in claims)
  t.match(claims, { tier: 'free', identified_by: 'ip' })
})

t.test('a token is reused for half its life', async (t) => {
  const { pem, publicKey } = keyFile(t, 'EdDSA')
  const sign = createIdentitySigner(settings(pem))
  const first = sign(ALICE, NOW)
  t.equal(sign(ALICE, NOW + 29_999), first)
  const next = sign(ALICE, NOW + 30_000)
  t.not(next, first)
  t.equal(claimsOf(next, publicKey).claims.exp, 1_760_000_145)
  t.equal(sign(ALICE, NOW + 59_999), next)
})

t.test('kept tokens are bounded, and used ones stay', async (t) => {
  const { pem } = keyFile(t, 'EdDSA')
  const sign = createIdentitySigner(settings(pem, { ttl: 3600 }), 8)
  const first = sign(ALICE, NOW)
  for (let i = 0; i < 20; i++) {
    sign({ ...ALICE, consumer: `other-${i}` }, NOW)
    t.equal(sign(ALICE, NOW + 1000), first)
  }
  for (let i = 0; i < 8; i++) sign({ ...ALICE, consumer: `another-${i}` }, NOW)
  t.not(sign(ALICE, NOW + 1000), first, 'it was not asked for while eight others came')
})

t.test("no consumer ever gets another's token", async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const sign = createIdentitySigner(
    settings(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), { ttl: 3600 }),
    16,
  )
  const text = fc.oneof(fc.constantFrom('', ' ', 'a', 'b', 'a b', '1 a', '-1', '\n', 'ä', '"'), fc.string())
  const subject = fc.record({
    consumer: fc.option(text, { nil: undefined }),
    tier: fc.constantFrom('free', 'pro'),
    tenant: fc.option(text, { nil: undefined }),
    identifiedBy: fc.constantFrom('ip', 'header'),
  })
  fc.assert(
    fc.property(fc.array(subject, { minLength: 1, maxLength: 12 }), (subjects) => {
      for (const one of subjects) {
        if (one.consumer === undefined) one.identifiedBy = 'ip'
        else one.identifiedBy = 'header'
        const { claims } = claimsOf(sign(one, NOW), publicKey)
        t.same([claims.sub, claims.tier, claims.tenant], [one.consumer, one.tier, one.tenant])
      }
    }),
    { numRuns: 40 },
  )
})

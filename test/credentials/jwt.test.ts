// Tests src/credentials/claims.ts
import { createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { compileTokenIssuer, type TokenIssuer } from '../../src/config/snapshot/token-issuers.js'
import type { TokenAlgorithm } from '../../src/config/values/token-algorithms.js'
import { createJwtVerifier, type JwtVerifier, type Verdict } from '../../src/credentials/jwt.js'
import { createShares } from '../../src/shares.js'
import { base64url, createKey, tokenOf } from '../support/credentials/issuer.js'
import { createClock } from '../support/gateway/gateway.js'

const ISSUER = 'https://id.example.com'
const rsa = createKey('rsa', 'rsa')
const ec = createKey('p256', 'ec')
const ed = createKey('ed25519', 'ed')
const other = createKey('p256', 'other')
const SECRET = 'a-secret-of-at-least-32-characters!'

const clock = createClock()
const NOW = clock.now / 1000

const ALICE = { value: { sub: 'alice' } }

/** Claims that are valid for everything below, except where changed. */
const CLAIMS = { iss: ISSUER, aud: 'api', sub: 'alice', iat: NOW, exp: NOW + 300 }

function issuerOf(settings: object = {}): TokenIssuer {
  const keys = { public_key: [{ file: 'inline', text: ec.pem }] }
  const given = Object.keys(settings).some((key) => ['public_key', 'secret'].includes(key)) ? {} : keys
  return compileTokenIssuer({
    issuer: ISSUER,
    audience: ['api'],
    refresh: 600_000,
    id: 'sub',
    scopes: 'scope',
    leeway: 60_000,
    ...given,
    ...settings,
  })
}

const pems = (...keys: { pem: string }[]) => ({
  public_key: keys.map(({ pem }) => ({ file: 'inline', text: pem })),
})

function open(...issuers: TokenIssuer[]): JwtVerifier<object> {
  return createJwtVerifier(issuers, {
    read: ({ sub }) => ({ sub }),
    log: { info() {}, warn() {} },
    now: () => clock.now,
  })
}

const ofEc = (claims: object | string, header: object = {}) =>
  tokenOf({ alg: 'ES256', kid: 'ec', ...header }, claims, ec.privateKey, 'ES256')

const verdictOf = async (verifier: JwtVerifier<object>, token: string): Promise<Verdict<object>> =>
  verifier.verify(token)

t.test("a token of each algorithm is valid with its own key, and with no other's", async (t) => {
  const p384 = createKey('p384', 'p384')
  const p521 = createKey('p521', 'p521')
  const signers: [TokenAlgorithm, typeof rsa][] = [
    ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const).map(
      (alg): [TokenAlgorithm, typeof rsa] => [alg, rsa],
    ),
    ['ES256', ec],
    ['ES384', p384],
    ['ES512', p521],
    ['EdDSA', ed],
    ['Ed25519', ed],
  ]
  for (const [algorithm, key] of signers) {
    const verifier = open(issuerOf({ algorithms: [algorithm], ...pems(rsa, ec, p384, p521, ed) }))
    const token = tokenOf({ alg: algorithm }, CLAIMS, key.privateKey)
    t.match(await verdictOf(verifier, token), ALICE, algorithm)
    for (const [stranger] of signers) {
      if (stranger === algorithm) continue
      const signed = tokenOf({ alg: stranger }, CLAIMS, signers.find(([a]) => a === stranger)![1].privateKey)
      const why = new RegExp(`algorithm "${stranger}" is not among ${algorithm}`)
      t.match(await verdictOf(verifier, signed), { rejected: 'invalid', why }, `${stranger} for ${algorithm}`)
    }
  }
  for (const algorithm of ['HS256', 'HS384', 'HS512'] as const) {
    const secret = SECRET.repeat(2)
    const token = tokenOf({ alg: algorithm }, CLAIMS, createSecretKey(Buffer.from(secret)))
    t.match(await verdictOf(open(issuerOf({ secret, algorithms: [algorithm] })), token), ALICE, algorithm)
    const wrong = open(issuerOf({ secret: `${secret}!`, algorithms: [algorithm] }))
    t.match(await verdictOf(wrong, token), { rejected: 'invalid', why: 'its signature is wrong' })
  }
})

t.test("the token's own alg is never trusted (RFC 8725 §2.1, §3.1)", async (t) => {
  const verifier = open(issuerOf({ algorithms: ['RS256'], ...pems(rsa) }))
  const unsigned = (alg: string) => tokenOf({ alg }, CLAIMS, undefined)
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '']) {
    t.match(await verdictOf(verifier, unsigned(alg)), { rejected: 'invalid' }, `alg ${alg}`)
    t.match(await verdictOf(verifier, `${unsigned(alg)}AAAA`), {
      rejected: 'invalid',
      why: /is not among RS256/,
    })
  }
  // The public key, which everybody has, used as a secret.
  for (const secret of [rsa.pem, rsa.pem.trim(), rsa.publicKey.export({ format: 'der', type: 'spki' })]) {
    const forged = tokenOf({ alg: 'HS256' }, CLAIMS, createSecretKey(Buffer.from(secret)))
    t.match(await verdictOf(verifier, forged), { rejected: 'invalid', why: /"HS256" is not among RS256/ })
  }
  const good = tokenOf({ alg: 'RS256' }, CLAIMS, rsa.privateKey)
  const stripped = good.slice(0, good.lastIndexOf('.') + 1)
  t.match(
    await verdictOf(verifier, stripped),
    { rejected: 'invalid', why: /signature/ },
    'without its signature',
  )
  const [, body, signature] = good.split('.')
  const renamed = `${base64url(JSON.stringify({ alg: 'PS256' }))}.${body}.${signature}`
  t.match(await verdictOf(verifier, renamed), { rejected: 'invalid' }, 'under the name of another')
})

t.test('keys inside a token are ignored (RFC 8725 §3.10)', async (t) => {
  const verifier = open(issuerOf())
  const ways = [
    { jwk: other.jwk },
    { jku: 'http://127.0.0.1:1/jwks.json' },
    { x5u: 'http://127.0.0.1:1/cert.pem' },
    { x5c: [other.pem.replace(/-----[A-Z ]+-----|\n/g, '')] },
    { kid: '../../../../dev/null' },
    { kid: "ec' OR '1'='1" },
    { kid: '__proto__' },
  ]
  for (const way of ways) {
    const forged = tokenOf({ alg: 'ES256', ...way }, CLAIMS, other.privateKey)
    const what = Object.keys(way)[0]!
    t.match(await verdictOf(verifier, forged), { rejected: 'invalid', why: 'its signature is wrong' }, what)
    t.match(await verdictOf(verifier, ofEc(CLAIMS, way)), ALICE, `${what} is not looked at`)
  }
})

t.test('meaningless signatures are refused: zeros, short, long, of another text', async (t) => {
  const verifier = open(issuerOf())
  const good = ofEc(CLAIMS)
  const [head, body, signature = ''] = good.split('.')
  const bytes = Buffer.from(signature, 'base64url')
  const turned = Buffer.concat([bytes.subarray(32), bytes.subarray(0, 32)])
  const bad = [
    Buffer.alloc(64),
    Buffer.alloc(64, 0xff),
    bytes.subarray(0, 63),
    Buffer.concat([bytes, Buffer.alloc(1)]),
    Buffer.alloc(1),
    turned,
  ]
  for (const one of bad) {
    const token = `${head}.${body}.${one.toString('base64url')}`
    t.match(await verdictOf(verifier, token), { rejected: 'invalid', why: 'its signature is wrong' })
  }
  const swapped = `${head}.${base64url(JSON.stringify({ ...CLAIMS, sub: 'root' }))}.${signature}`
  t.match(await verdictOf(verifier, swapped), { rejected: 'invalid', why: 'its signature is wrong' })
  t.match(await verdictOf(verifier, good), ALICE)
})

t.test('a token is valid within its time, give or take the leeway', async (t) => {
  const verifier = open(issuerOf({ leeway: 60_000 }))
  const cases: [object, RegExp | 'alice', string?][] = [
    [{ exp: NOW + 0.5 }, 'alice'],
    [{ exp: NOW - 59 }, 'alice'],
    [{ exp: NOW - 60 }, /it expired 60 s ago/, 'expired'],
    [{ exp: 0 }, /it expired/, 'expired'],
    [{ exp: -1 }, /it expired/, 'expired'],
    [{ exp: undefined }, /no exp/],
    [{ exp: String(NOW + 300) }, /no exp/],
    [{ exp: null }, /no exp/],
    [{ exp: [NOW + 300] }, /no exp/],
    [{ exp: 8.64e12 }, 'alice'],
    [{ exp: 8.65e12 }, /no exp/],
    [{ exp: 1e300 }, /no exp/],
    [{ nbf: NOW + 60 }, 'alice'],
    [{ nbf: NOW + 61 }, /its nbf is 61 s from now/],
    [{ nbf: 'now' }, /its nbf is not a time/],
    [{ iat: NOW + 60 }, 'alice'],
    [{ iat: NOW + 61 }, /its iat is 61 s from now/],
    [{ iat: null }, /its iat is not a time/],
    [{ iat: undefined }, 'alice'],
  ]
  for (const [changes, expected, rejected = 'invalid'] of cases) {
    const verdict = await verdictOf(verifier, ofEc({ ...CLAIMS, ...changes }))
    const what = JSON.stringify(changes)
    if (expected === 'alice') t.match(verdict, ALICE, what)
    else t.match(verdict, { rejected, why: expected }, what)
  }
  const endless = JSON.stringify({ ...CLAIMS, exp: 1 }).replace('"exp":1', '"exp":1e999')
  t.match(
    await verdictOf(verifier, ofEc(endless)),
    { rejected: 'invalid', why: /no exp/ },
    'infinity is no time',
  )
})

t.test('a token must be for this audience (RFC 8725 §3.9)', async (t) => {
  const verifier = open(issuerOf({ audience: ['api', 'https://api.example.com'] }))
  for (const aud of ['api', ['api'], ['web', 'https://api.example.com']])
    t.match(await verdictOf(verifier, ofEc({ ...CLAIMS, aud })), ALICE, JSON.stringify(aud))
  for (const aud of ['web', 'API', 'api ', [], ['web'], [['api']], { api: 1 }, null, undefined, 1, 'api,web'])
    t.match(
      await verdictOf(verifier, ofEc({ ...CLAIMS, aud })),
      { rejected: 'invalid', why: /not for api or/ },
      JSON.stringify(aud) ?? 'none',
    )
  const any = open(issuerOf({ audience: undefined }))
  t.match(await verdictOf(any, ofEc({ ...CLAIMS, aud: 'web' })), ALICE, 'without a configured audience')
})

t.test('every issuer has its own keys (RFC 8725 §3.8)', async (t) => {
  const partner = 'https://partner.example.com'
  const verifier = open(issuerOf(pems(ec)), issuerOf({ issuer: partner, ...pems(other) }))
  const of = (iss: unknown, key: typeof ec) => tokenOf({ alg: 'ES256' }, { ...CLAIMS, iss }, key.privateKey)
  t.match(await verdictOf(verifier, of(ISSUER, ec)), ALICE)
  t.match(await verdictOf(verifier, of(partner, other)), ALICE)
  t.match(await verdictOf(verifier, of(ISSUER, other)), {
    rejected: 'invalid',
    issuer: ISSUER,
    why: /signature/,
  })
  t.match(await verdictOf(verifier, of(partner, ec)), {
    rejected: 'invalid',
    issuer: partner,
    why: /signature/,
  })
  for (const iss of [undefined, null, '', 'none', `${ISSUER}/`, ISSUER.toUpperCase(), [ISSUER], '__proto__'])
    t.match(await verdictOf(verifier, of(iss, ec)), { rejected: 'invalid', issuer: 'none', why: /issuer/ })
})

t.test('a configured type is checked (RFC 8725 §3.11)', async (t) => {
  const typed = open(issuerOf({ type: ['at+jwt'] }))
  for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt'])
    t.match(await verdictOf(typed, ofEc(CLAIMS, { typ })), ALICE, typ)
  for (const typ of ['JWT', 'id+jwt', undefined, ''])
    t.match(await verdictOf(typed, ofEc(CLAIMS, { typ })), { rejected: 'invalid', why: /typ/ }, String(typ))
  t.match(await verdictOf(open(issuerOf()), ofEc(CLAIMS, { typ: 'anything' })), ALICE)
})

t.test('required claims must be there, with an allowed value', async (t) => {
  const verifier = open(
    issuerOf({
      required_claims: {
        email_verified: ['true'],
        'org.plan': ['gold', 'silver'],
        'https://x.example/acr': ['*'],
        level: ['3'],
      },
    }),
  )
  const good = { email_verified: true, org: { plan: 'gold' }, 'https://x.example/acr': 0, level: 3 }
  const verdict = (claims: object) => verdictOf(verifier, ofEc({ ...CLAIMS, ...good, ...claims }))
  t.match(await verdict({}), ALICE)
  t.match(await verdict({ org: { plan: ['bronze', 'silver'] } }), ALICE, 'one of a list')
  t.match(await verdict({ 'org.plan': 'gold', org: {} }), ALICE, 'by its very name')
  for (const claims of [
    { email_verified: false },
    { email_verified: undefined },
    { org: { plan: 'bronze' } },
    { org: { plan: { gold: true } } },
    { org: 'gold' },
    { org: null },
    { 'https://x.example/acr': null },
    { level: '4' },
  ])
    t.match(await verdict(claims), { rejected: 'invalid', why: /is not as required/ }, JSON.stringify(claims))
})

t.test('a valid token without a required scope learns it, a forged one does not', async (t) => {
  const verifier = open(issuerOf({ required_scopes: ['read', 'write'] }))
  const verdict = (scope: unknown) => verdictOf(verifier, ofEc({ ...CLAIMS, scope }))
  for (const scope of ['read write', 'write  other read', ['read', 'write']])
    t.match(await verdict(scope), ALICE)
  for (const scope of ['read', 'readwrite', '', undefined, ['read write'], { read: 1, write: 1 }])
    t.match(await verdict(scope), { rejected: 'insufficient_scope', scopes: ['read', 'write'] })
  const forged = tokenOf({ alg: 'ES256' }, CLAIMS, other.privateKey)
  t.match(await verdictOf(verifier, forged), { rejected: 'invalid' })
  const azure = open(issuerOf({ scopes: 'scp', required_scopes: ['read'] }))
  t.match(await verdictOf(azure, ofEc({ ...CLAIMS, scp: ['read'] })), ALICE)
})

t.test('a verified token is remembered until it expires', async (t) => {
  const verifier = open(issuerOf({ leeway: 0 }))
  const token = ofEc({ ...CLAIMS, exp: NOW + 100 })
  const first = verifier.verify(token)
  t.ok(first instanceof Promise)
  t.equal(verifier.verify(token), first, 'asked for twice at once, it is checked once')
  const verdict = await first
  t.equal(verifier.verify(token), verdict)
  const last = token.at(-2)
  const near = `${token.slice(0, -2)}${last === 'A' ? 'B' : 'A'}${token.at(-1)}`
  t.match(await verifier.verify(near), { rejected: 'invalid' }, 'one that differs in a single bit is another')
  t.teardown(() => {
    clock.now = NOW * 1000
  })
  clock.now += 99_999
  t.equal(verifier.verify(token), verdict)
  clock.now += 1
  t.match(verifier.verify(token), { rejected: 'expired' })
})

t.test('a refused token is checked again', async (t) => {
  const verifier = open(issuerOf())
  const early = ofEc({ ...CLAIMS, nbf: NOW + 200 })
  t.match(await verifier.verify(early), { rejected: 'invalid' })
  t.teardown(() => {
    clock.now = NOW * 1000
  })
  clock.now += 200_000
  t.match(await verifier.verify(early), ALICE)
})

t.test('cheap checks come before the signature', async (t) => {
  const verifier = open(issuerOf())
  const forged = (claims: object, header: object = {}) =>
    tokenOf({ alg: 'ES256', ...header }, { ...CLAIMS, ...claims }, other.privateKey)
  const cheap = [
    forged({}, { alg: 'none' }),
    forged({}, { crit: ['x'] }),
    forged({ iss: 'x' }),
    forged({ exp: NOW - 100 }),
    forged({ aud: 'web' }),
    'x'.repeat(100_000),
  ]
  for (const token of cheap) t.match(verifier.verify(token), { rejected: /./ }, 'no Promise')
  t.ok(verifier.verify(forged({})) instanceof Promise)
})

t.test('a bounded number of signatures is checked at once', async (t) => {
  const verifier = open(issuerOf())
  const tokens = Array.from({ length: 1100 }, (_, i) => ofEc({ ...CLAIMS, jti: String(i) }))
  const verdicts = await Promise.all(tokens.map((token) => verifier.verify(token)))
  const good = verdicts.filter((verdict) => 'value' in verdict).length
  const busy = verdicts.filter(
    (verdict) => 'rejected' in verdict && verdict.rejected === 'unavailable',
  ).length
  t.same({ good, busy }, { good: 1024, busy: 76 })
  t.match(await verifier.verify(tokens[1099]!), ALICE, 'later there is')
})

t.test('claims of any shape get a verdict, and the same one each time', async (t) => {
  const verifier = open(issuerOf({ required_claims: { 'a.b': ['*'] }, tier: 'plan', tenant: 'org.id' }))
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(fc.constantFrom('iss', 'aud', 'sub', 'exp', 'nbf', 'iat', 'a', 'scope'), fc.jsonValue(), {
        noNullPrototype: true,
      }),
      async (changes) => {
        const token = ofEc({ ...CLAIMS, a: { b: 1 }, ...changes })
        const verdict = await verifier.verify(token)
        const again = await verifier.verify(token)
        return JSON.stringify(verdict) === JSON.stringify(again)
      },
    ),
    { numRuns: 200 },
  )
  t.pass()
})

t.test('forged tokens of one address leave room for the tokens of others', async (t) => {
  const refused: string[] = []
  const shares = createShares({ onRefused: ({ name }, caller) => refused.push(`${name} ${caller}`) })
  const verifier = createJwtVerifier([issuerOf()], {
    read: ({ sub }) => ({ sub }),
    log: { info() {}, warn() {} },
    now: () => clock.now,
    shares,
  })
  const forged = (jti: number) => tokenOf({ alg: 'ES256' }, { ...CLAIMS, jti }, other.privateKey)
  const flood = Array.from({ length: 600 }, (_, i) => verifier.verify(forged(i), '192.0.2.1'))
  const good = tokenOf({ alg: 'ES256' }, CLAIMS, ec.privateKey)
  t.same(await verifier.verify(good, '192.0.2.2'), ALICE)
  const verdicts = await Promise.all(flood)
  const unavailable = verdicts.filter((one) => 'rejected' in one && one.rejected === 'unavailable')
  t.equal(unavailable.length, 600 - 256)
  t.strictSame(new Set(refused), new Set(['verifications 192.0.2.1']))
  t.equal([...shares.all()][0]!.held, 0)
})

t.test('tokens that wait for keys count, too, and free their place if none come', async (t) => {
  const shares = createShares()
  let fail: () => void = () => {}
  const fetched = new Promise<string>((_, reject) => {
    fail = () => reject(new Error('gone'))
  })
  const settings = { public_key: undefined, jwks_url: 'https://id.example.com/jwks.json' }
  const verifier = createJwtVerifier([issuerOf(settings)], {
    read: ({ sub }) => ({ sub }),
    log: { info() {}, warn() {} },
    now: () => clock.now,
    jwks: { fetcher: { fetch: () => fetched, close() {} } },
    shares,
  })
  t.teardown(() => verifier.close())
  const flood = Array.from({ length: 300 }, (_, i) =>
    verifier.verify(
      tokenOf({ alg: 'ES256', kid: `k${i}` }, { ...CLAIMS, jti: i }, other.privateKey),
      '192.0.2.1',
    ),
  )
  t.equal([...shares.all()][0]!.held, 256)
  fail()
  for (const verdict of await Promise.all(flood)) t.match(verdict, { rejected: 'unavailable' })
  t.equal([...shares.all()][0]!.held, 0)
})

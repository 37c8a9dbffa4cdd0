import { createHmac, createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import type { SignatureSettings } from '../../src/config/snapshot/signatures.js'
import { compileTokenIssuer } from '../../src/config/snapshot/token-issuers.js'
import { createJwtVerifier } from '../../src/credentials/jwt.js'
import { readJwk } from '../../src/credentials/keys.js'
import {
  type SignedRequest,
  signatureBase,
  verifySignature,
} from '../../src/credentials/message-signature.js'
import { readInnerLists } from '../../src/credentials/structured-fields.js'
import { createKey, tokenOf } from '../support/credentials/issuer.js'
import { holds, must, mutated, type Target } from './target.js'

const NOW = 1_760_000_040_000
const SECONDS = NOW / 1000
const GOOD = { iss: 'https://id.example', aud: 'api', sub: 'alice', exp: SECONDS + 300 }

const odd = fc.constantFrom<unknown>(
  ...['', 'api', 'https://id.example', 'alice', '__proto__', '\ud800', 'a'.repeat(300), '1e99', '\r\nx: y'],
  ...[0, -1, 1e300, SECONDS + 60, SECONDS - 600, true, false, null],
  ...[[], ['api'], ['api', 5], {}, { toString: 'x' }, [[['api']]]],
)
const claims = fc
  .tuple(
    fc.constant(GOOD),
    fc.dictionary(
      fc.constantFrom('iss', 'aud', 'sub', 'exp', 'nbf', 'iat', 'tier', 'scope', '__proto__'),
      odd,
      {
        maxKeys: 3,
      },
    ),
  )
  .map(([good, changes]) => ({ ...good, ...changes }))
const header = fc
  .tuple(
    fc.constantFrom(
      'ES256',
      'ES256',
      'ES256',
      'HS256',
      'none',
      'None',
      'RS256',
      'EdDSA',
      'ES384',
      '',
      5,
      null,
    ),
    fc.dictionary(
      fc.constantFrom('kid', 'typ', 'jwk', 'jku', 'x5c', 'crit', 'b64', 'enc', 'zip', 'cty'),
      odd,
      {
        maxKeys: 2,
      },
    ),
  )
  .map(([alg, more]) => ({ alg, ...more }))

const TOKENS = [
  '.',
  '..',
  '=',
  '==',
  '+',
  '/',
  '-',
  '_',
  ' ',
  '\n',
  'A',
  'eyJ',
  'e30',
  'bnVsbA',
  '\0',
  'é',
  '~',
]

export const forgedTokens: Target = {
  name: 'forged',
  what: 'a token is valid only with a key and algorithm of its issuer and with the required claims',
  short: 120,
  async open() {
    const [key, other] = [createKey('p256', 'ec'), createKey('p256', 'ec')]
    const issuer = compileTokenIssuer({
      issuer: GOOD.iss,
      audience: ['api'],
      refresh: 600_000,
      id: 'sub',
      scopes: 'scope',
      leeway: 0,
      public_key: [{ file: 'inline', text: key.pem }],
    } as unknown as Parameters<typeof compileTokenIssuer>[0])
    const verifier = createJwtVerifier([issuer], {
      read: ({ sub }) => (typeof sub === 'string' ? { sub } : 'no sub'),
      log: { info() {}, warn() {} },
      now: () => NOW,
    })
    const good = await verifier.verify(tokenOf({ alg: 'ES256' }, GOOD, key.privateKey))
    must('value' in good, 'a good token is not good')
    const signers = {
      right: [key.privateKey, 'ES256'],
      other: [other.privateKey, 'ES256'],
      'with the public key as a secret': [createSecretKey(Buffer.from(key.pem)), 'HS256'],
      'with nothing as a secret': [createSecretKey(Buffer.alloc(0)), 'HS256'],
      nobody: [undefined, 'ES256'],
    } as const
    const signer = fc.constantFrom(...(Object.keys(signers) as (keyof typeof signers)[]), 'right' as const)
    const signed = fc.record({ header, claims, signer }).map((parts) => {
      const [by, algorithm] = signers[parts.signer]
      return { ...parts, text: tokenOf(parts.header, parts.claims, by, algorithm) }
    })
    const token = signed.chain((parts) =>
      mutated(fc.constant(parts.text), TOKENS, 2).map((sent) => ({ ...parts, sent })),
    )
    return holds(token, async ({ header, claims, signer, text, sent }) => {
      const verdict = await verifier.verify(sent)
      const again = await verifier.verify(sent)
      must('value' in verdict === 'value' in again, 'is good once, and once not')
      if (!('value' in verdict)) {
        must(
          ['invalid', 'expired', 'insufficient_scope'].includes(verdict.rejected),
          `is ${verdict.rejected}`,
        )
        return
      }
      must(sent === text && signer === 'right' && header.alg === 'ES256', 'is good, and forged')
      const { iss, aud, exp, nbf } = claims as Record<string, unknown>
      must(
        iss === GOOD.iss && (aud === 'api' || (Array.isArray(aud) && aud.includes('api'))),
        'is for others',
      )
      must(typeof exp === 'number' && exp * 1000 > NOW, 'is over')
      must(nbf === undefined || (typeof nbf === 'number' && nbf * 1000 <= NOW), 'is not yet good')
    })
  },
}

const jwk = fc.dictionary(
  fc.constantFrom('kty', 'crv', 'x', 'y', 'n', 'e', 'd', 'k', 'kid', 'alg', 'use', 'key_ops', '__proto__'),
  fc.oneof(
    odd,
    fc.constantFrom<unknown>(
      'RSA',
      'EC',
      'OKP',
      'oct',
      'P-256',
      'Ed25519',
      'secp256k1',
      'sig',
      'AQAB',
      'AA',
      ['verify'],
    ),
    fc.base64String({ maxLength: 90 }),
  ),
)

export const jwks: Target = {
  name: 'jwks',
  what: 'a published key can only verify, or is left out',
  short: 200,
  open: () =>
    holds(fc.oneof({ weight: 9, arbitrary: jwk }, fc.anything()), (value) => {
      const read = readJwk(value)
      if (typeof read !== 'string') must(read.key.key.type === 'public', `is ${read.key.key.type}`)
    }),
}

const SECRET = 'a-secret-of-the-partner-of-32-chars'
const INPUT = `s=("@method" "@path" "@authority" "x-a");created=${SECONDS};keyid="k1"`
const FIELD_TOKENS = [
  ...[
    '(',
    ')',
    ';',
    '=',
    '"',
    ',',
    ' ',
    '\t',
    ':',
    '?1',
    '?0',
    '\\',
    '-0',
    '1',
    '1.5',
    '999999999999999',
    '9999999999999999',
  ],
  ...[
    '"@query"',
    '"x-b"',
    ';sf',
    ';key="a"',
    'created=1',
    'keyid="k1"',
    'keyid="k2"',
    'alg="none"',
    's=',
    't=',
    '()',
    '::',
    'é',
  ],
]
const settings: SignatureSettings = {
  kind: 'signature',
  keys: new Map([
    [
      'k1',
      {
        algorithm: 'hmac-sha256',
        key: Buffer.from(SECRET).toString('base64'),
        owner: { consumer: 'acme', tier: undefined, tenant: undefined, scopes: undefined },
      },
    ],
  ]),
  components: ['@method', '@path'],
  digest: false,
  maxAge: 300_000,
  leeway: 0,
  nonceRequired: false,
  maxNonces: 10,
  tag: undefined,
  accepted: '',
}

const asked = (
  method: string,
  path: string,
  authority: string,
  a: string,
  fields: Record<string, string>,
): SignedRequest => ({
  method,
  scheme: 'https',
  authority,
  target: path,
  path,
  query: '',
  hasBody: false,
  field: (name) => ({ 'x-a': a, ...fields })[name],
})

export const signatures: Target = {
  name: 'signatures',
  what: 'a signature is valid only for what was signed, and its fields have one reading or none',
  short: 300,
  open() {
    const base = signatureBase(asked('GET', '/pay', 'a', '1', {}), readInnerLists(INPUT)!.get('s')!) as string
    const given = `s=:${createHmac('sha256', SECRET).update(base).digest('base64')}:`
    const unchanged = { 'signature-input': INPUT, signature: given }
    must(
      'owner' in verifySignature(asked('GET', '/pay', 'a', '1', unchanged), settings, NOW),
      'does not hold',
    )
    const part = (...values: string[]) => fc.constantFrom(values[0]!, ...values)
    return holds(
      fc.record({
        input: mutated(fc.constant(INPUT), FIELD_TOKENS, 2),
        signature: mutated(fc.constant(given), [...FIELD_TOKENS, 'A', '=', '/'], 1),
        method: part('GET', 'POST'),
        path: part('/pay', '/pay/', '/refund'),
        authority: part('a', 'b'),
        a: part('1', '2', '1\n"@path": /x'),
      }),
      ({ input, signature, method, path, authority, a }) => {
        const lists = readInnerLists(input)
        for (const [name, { text }] of lists ?? []) {
          must(readInnerLists(`${name}=${text}`)?.get(name)?.text === text, `${text} is read otherwise`)
        }
        const request = asked(method, path, authority, a, { 'signature-input': input, signature })
        const found = verifySignature(request, settings, NOW)
        if (!('owner' in found)) return
        const list = [...lists!.values()].find(({ parameters }) =>
          parameters.some(({ value }) => value === 'k1'),
        )!
        must(signatureBase(request, list) === base, 'holds for what nobody has signed')
      },
    )
  },
}

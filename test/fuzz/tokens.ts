import { createSecretKey } from 'node:crypto'
import fc from 'fast-check'
import { compileTokenIssuer } from '../../src/config/snapshot/token-issuers.js'
import { createJwtVerifier } from '../../src/credentials/jwt.js'
import { base64url, createKey, tokenOf } from '../support/credentials/issuer.js'
import { holds, must, mutated, type Target } from './target.js'

const NOW = 1_760_000_000
const CLAIMS = { iss: 'a', aud: 'api', sub: 'alice', exp: NOW + 300, org: { id: 'x' } }
const SECRET = 'a-secret-of-at-least-32-characters!'

const PARTS = [
  ...['.', '..', '=', '-', '_', '+', '/', '\n', ' ', '\0', 'é', 'A', 'AA', 'ew', 'e30'],
  ...[
    { alg: 'none' },
    { alg: 'HS256' },
    { alg: 'ES256', crit: ['b64'], b64: false },
    { ...CLAIMS, sub: 'root' },
  ].map((part) => base64url(JSON.stringify(part))),
]

export const tokens: Target = {
  name: 'tokens',
  what: 'a token is valid only as the exact text that its issuer signed, and any text gets a verdict',
  short: 400,
  open(t) {
    const ec = createKey('p256', 'k')
    const secret = createSecretKey(Buffer.from(SECRET))
    const common = { audience: ['api'], refresh: 60_000, id: 'sub', scopes: 'scope', leeway: 0 }
    const verifier = createJwtVerifier(
      [
        compileTokenIssuer({ ...common, issuer: 'a', public_key: [{ file: 'inline', text: ec.pem }] }),
        compileTokenIssuer({ ...common, issuer: 'b', secret: SECRET }),
      ],
      { read: ({ sub }) => ({ sub }), log: { info() {}, warn() {} }, now: () => NOW * 1000 },
    )
    t.teardown(() => verifier.close())
    const genuine = [
      tokenOf({ alg: 'ES256', kid: 'k' }, CLAIMS, ec.privateKey),
      tokenOf({ alg: 'HS256' }, { ...CLAIMS, iss: 'b' }, secret),
    ]
    // Valid signatures over absurd contents: claims and headers of any shape reach the code that reads them.
    const member = fc.constantFrom('iss', 'aud', 'sub', 'exp', 'nbf', 'iat', 'scope', '__proto__')
    const shaped = fc
      .record({ header: fc.jsonValue(), claims: fc.dictionary(member, fc.jsonValue()) })
      .map(({ header, claims }) =>
        tokenOf({ ...(Object(header) as object), alg: 'HS256' }, { ...CLAIMS, iss: 'b', ...claims }, secret),
      )
    const text = fc.oneof(
      { weight: 3, arbitrary: mutated(fc.constantFrom(...genuine), PARTS) },
      { weight: 1, arbitrary: shaped.map((token) => ({ token })) },
    )
    return holds(text, async (input) => {
      const token = typeof input === 'string' ? input : input.token
      const verdict = await verifier.verify(token)
      if ('value' in verdict)
        must(typeof input !== 'string' || genuine.includes(token), 'another text is good')
      else must(verdict.rejected !== 'unavailable' && verdict.why !== '', 'has no verdict')
    })
  },
}

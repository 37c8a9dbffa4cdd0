import type { Static } from '@sinclair/typebox'
import { boolean, choice, duration, either, list, object, scalar, string } from './define.js'

/** Schema of what the upstreams of a service learn about the client. */

const Token = object(
  {
    key: scalar('pem', 'File of the private key, in PEM, that signs the tokens', {
      examples: ['/etc/tidegate/identity.key'],
    }),
    algorithm: choice(
      ['ES256', 'EdDSA', 'RS256'],
      'ES256 needs a P-256 key, EdDSA an Ed25519 key, RS256 an RSA key of at least 2048 bits',
      { default: 'ES256' },
    ),
    header: scalar(
      'header',
      'Header with the token. In authorization it is a bearer token and replaces what the client sent there',
      { default: 'x-tidegate-identity' },
    ),
    issuer: string('Claim iss of the tokens', { default: 'tidegate', maxLength: 256 }),
    'audience?': string('Claim aud of the tokens. Default: the name of the service', { maxLength: 256 }),
    ttl: duration(
      'Lifetime of a token. The gateway reuses it for half of that, so at least the other half is left on arrival',
      [10_000, 3_600_000],
      { default: '60s' },
    ),
    publish: list(
      scalar('pem', 'File of a key, in PEM. Of a private key, the public half is published'),
      'Further keys in /jwks.json of the admin server: the next key before it signs tokens, the last one until its tokens have expired',
      { default: [], maxItems: 8 },
    ),
  },
  'A signed token (JWT) for each consumer',
)

const Identity = object(
  {
    headers: boolean('Send X-Consumer-Id, X-Consumer-Tier and X-Consumer-Tenant to upstreams', {
      default: true,
    }),
    'jwt?': Token,
  },
  'What upstreams learn about the consumer, as headers and as a signed token',
)
export type IdentitySettings = Static<typeof Identity>

export const identity = either<IdentitySettings>(
  [scalar('told', 'headers', { shorthand: true }), Identity],
  'headers, or a mapping: what upstreams learn about the consumer. Default: only the credential that identified it',
)

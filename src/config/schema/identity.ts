import { type Static, Type } from '@sinclair/typebox'
import { boolean, choice, either, list, object, scalar, string } from './define.js'

/** Schema of what the upstreams of a service learn about the client. */

const Token = object(
  {
    key: scalar('pem', 'File of the private key, in PEM, that tokens are signed with', {
      examples: ['/etc/tidegate/identity.key'],
    }),
    algorithm: choice(
      ['ES256', 'EdDSA', 'RS256'],
      'ES256 by a key of the curve P-256, EdDSA by one of Ed25519, RS256 by an RSA key of 2048 bits or more',
      { default: 'ES256' },
    ),
    header: scalar(
      'header',
      'The header that holds the token. With authorization it is a bearer token, in place of what the caller sent there',
      { default: 'x-tidegate-identity' },
    ),
    issuer: string('Who issues it: iss', { default: 'tidegate', maxLength: 256 }),
    audience: Type.Optional(string("Whom it is for: aud; by default the service's name", { maxLength: 256 })),
    ttl: scalar(
      'duration',
      'How long a token holds. One is used for half of that, so that it has as much left when it arrives',
      { default: '60s', least: 10_000, most: 3_600_000 },
    ),
    publish: list(
      scalar('pem', 'File of a key, in PEM: of a private one the public half is published'),
      'Further keys that are in /jwks.json of the admin server: the next one before tokens are signed with it, the last one until its tokens have ended',
      { default: [], maxItems: 8 },
    ),
  },
  'A signed token (JWT) for each consumer',
)

const Identity = object(
  {
    headers: boolean('Whether upstreams get X-Consumer-Id, X-Consumer-Tier and X-Consumer-Tenant', {
      default: true,
    }),
    jwt: Type.Optional(Token),
  },
  'What upstreams are told of the caller, as fields and as a signed token',
)
export type IdentitySettings = Static<typeof Identity>

export const identity = either<IdentitySettings>(
  [scalar('told', 'headers', { shorthand: true }), Identity],
  'headers, or a mapping: what upstreams are told of who is calling. Left out: nothing but the credential that identified the caller',
)

import { type Static, Type } from '@sinclair/typebox'
import { choice, either, list, named, object, scalar, string } from './define.js'

/** Schema of the admin server. */

/** Roles, the least powerful first. Each includes the rights of those before it. */
export const ROLES = ['viewer', 'support', 'operator'] as const

const whose = {
  name: scalar('name', 'Whose token it is, as the audit names them', { examples: ['alice'] }),
  role: choice(
    ROLES,
    'What they may do. viewer: read; support: also change tiers and usage, what a support desk does; operator: everything',
  ),
}

const HashedToken = object(
  {
    // Marked as secret because users will put the token itself here.
    sha256: scalar('sha256', 'SHA-256 of the token in hex: printf %s THE-TOKEN | sha256sum', {
      secret: true,
    }),
    ...whose,
  },
  'A token by its SHA-256',
)
const PlainToken = object(
  {
    token: scalar(
      'hashed',
      `The token itself, best from the environment: "\${ALICE_TOKEN}". Only its SHA-256 is kept`,
      { secret: true, becomes: 'sha256' },
    ),
    ...whose,
  },
  'A token by itself',
)

const Oidc = object(
  {
    issuer: string('The claim iss of its tokens has to be equal to it', {
      maxLength: 1024,
      examples: ['https://id.example.com'],
    }),
    audience: string('The claim aud has to hold it: what the provider calls this API', {
      maxLength: 1024,
      examples: ['tidegate-admin'],
    }),
    jwks_url: scalar(
      'url',
      'Where the provider has its public keys (JWKS); its tokens are signed by RS256, ES256 or EdDSA',
      {
        examples: ['https://id.example.com/jwks.json'],
      },
    ),
    name: scalar('claim', 'The claim that the audit names somebody by', {
      default: 'sub',
      examples: ['email'],
    }),
    role: scalar('claim', 'The claim that says what somebody is: a text or a list, or the way to it', {
      default: 'groups',
      examples: ['realm_access.roles'],
    }),
    roles: named(
      choice(ROLES, 'What they may do'),
      'What each value of that claim may do here; of several the most, and whoever has none of them nothing',
      { keys: '^.{1,256}$', keyFix: 'write a value of the claim' },
    ),
  },
  "People with a token (JWT) of the company's identity provider (OpenID Connect)",
)

export const Admin = object(
  {
    listen: scalar('listen', 'Where the admin server listens; anything but loopback needs a token', {
      default: '127.0.0.1:8081',
      restart: true,
    }),
    token: Type.Optional(
      string('Callers of the admin server send it as a bearer token, and may do everything', {
        secret: true,
        minLength: 16,
        maxLength: 256,
      }),
    ),
    tokens: list(
      either<Static<typeof HashedToken>>(
        [HashedToken, PlainToken],
        'A token by its sha256, or by itself, with whose it is and what they may do',
      ),
      'Tokens of several people or programs, each with a role. Take long random ones (openssl rand -base64 32): a hash hides no short one',
      { default: [], maxItems: 1000 },
    ),
    oidc: Type.Optional(Oidc),
  },
  'The admin server: health, metrics, configuration, usage',
  { default: {} },
)

import { choice, list, named, object, scalar, string } from './define.js'
import { hashedOrPlain } from './key-owner.js'

/** Schema of the admin server. */

/** Roles, the least powerful first. Each includes the rights of those before it. */
export const ROLES = ['viewer', 'support', 'operator'] as const

const holder = {
  name: scalar('name', 'Name of the person or program, as the audit log shows it', { examples: ['alice'] }),
  role: choice(
    ROLES,
    'Role of the token. viewer: read; support: also change tiers and usage, as a support desk does; operator: everything',
  ),
}

const Oidc = object(
  {
    issuer: string('Required value of the claim iss', {
      maxLength: 1024,
      examples: ['https://id.example.com'],
    }),
    audience: string('Name of this API at the provider. The claim aud must contain it', {
      maxLength: 1024,
      examples: ['tidegate-admin'],
    }),
    jwks_url: scalar(
      'url',
      'Address of the public keys of the provider (JWKS). It signs tokens with RS256, ES256 or EdDSA',
      { examples: ['https://id.example.com/jwks.json'] },
    ),
    name: scalar('claim', 'Claim with the name that the audit log shows', {
      default: 'sub',
      examples: ['email'],
    }),
    role: scalar(
      'claim',
      'Claim with the groups or roles of the person: text, a list, or the path to either',
      {
        default: 'groups',
        examples: ['realm_access.roles'],
      },
    ),
    roles: named(
      choice(ROLES, 'Role here'),
      'Role for each value of that claim. Of several roles the most powerful counts. A person without any of these values is refused',
      { keys: '^.{1,256}$', keyFix: 'write a value of the claim' },
    ),
  },
  "People with a token (JWT) of the company's identity provider (OpenID Connect)",
)

export const Admin = object(
  {
    listen: scalar('listen', 'Address of the admin server. Any address but loopback requires a token', {
      default: '127.0.0.1:8081',
      restart: true,
    }),
    'token?': string('Bearer token that allows everything on the admin server', {
      secret: true,
      minLength: 16,
      maxLength: 256,
    }),
    tokens: list(
      hashedOrPlain(
        'token',
        'ALICE_TOKEN',
        holder,
        'A token by its sha256 or in plain text, with its name and role',
      ),
      'Tokens for several people or programs, each with a role. Use long random ones (openssl rand -base64 32): a hash does not protect a short one',
      { default: [], maxItems: 1000 },
    ),
    'oidc?': Oidc,
  },
  'The admin server: health, metrics, configuration, usage',
  { default: {} },
)

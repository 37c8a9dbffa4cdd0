import { type Static, Type } from '@sinclair/typebox'
import { choice, either, list, object, scalar, string } from './define.js'

/** The part of the schema about the admin server. */

/** Who may do what there, the least first: each may do what those before it may. */
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
    // Marked as a secret since somebody will put the token itself here.
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
  },
  'The admin server: health, metrics, configuration, usage',
  { default: {} },
)

import type { Static } from '@sinclair/typebox'
import { choice, duration, either, integer, list, object, scalar, string } from './define.js'
import { owner } from './key-owner.js'

/** Schema of signed requests. */

const keyOwner = {
  id: string('Name of the key in signatures: their keyid', { maxLength: 128 }),
  ...owner,
}
const SharedKey = object(
  {
    secret: string(`Shared secret for hmac-sha256, best from the environment: "\${ACME_SECRET}"`, {
      secret: true,
      minLength: 16,
      maxLength: 1024,
    }),
    encoding: choice(['text', 'base64'], 'Form of the secret: plain text, or its bytes in base64', {
      default: 'text',
    }),
    ...keyOwner,
  },
  'A shared secret',
)
const PublicKey = object(
  {
    public_key: scalar(
      'pem',
      'File of the public key, in PEM: Ed25519 for ed25519, P-256 for ecdsa-p256-sha256',
      { examples: ['/etc/tidegate/acme.pem'] },
    ),
    ...keyOwner,
  },
  "A consumer's public key",
)

export const SignatureConsumer = object(
  {
    signature: object(
      {
        keys: list(
          either<Static<typeof SharedKey> | Static<typeof PublicKey>>(
            [SharedKey, PublicKey],
            'A shared secret or a public key, with its consumer',
          ),
          'Known keys. A signature by any other key gets 401',
          { minItems: 1, maxItems: 10_000 },
        ),
        components: list(
          scalar(
            'component',
            'A header in lower case, @method, @authority, @path, @query, @target-uri or @request-target',
          ),
          'Components that every signature must cover. @target-uri covers @authority, @path and @query, too',
          { default: ['@method', '@authority', '@path', '@query'], maxItems: 32 },
        ),
        content_digest: choice(
          ['required', 'optional'],
          'required: the signature of a request with a body must cover content-digest',
          { default: 'required' },
        ),
        max_age: duration('How long a signature is valid after its created', [1000, 86_400_000], {
          default: '5m',
        }),
        leeway: duration("Tolerated error of the client's clock", [0, 300_000], { default: '30s' }),
        nonce: choice(
          ['optional', 'required'],
          'required: a signature needs a nonce. Each process accepts a nonce once. A signature without one may be repeated',
          { default: 'optional' },
        ),
        max_nonces: integer(
          'Nonces that a process remembers, about 40 bytes each. Beyond that, the oldest can be used again',
          [1000, 100_000_000],
          { default: 1_000_000 },
        ),
        'tag?': string('Required tag of a signature. The gateway ignores signatures with another one', {
          maxLength: 128,
        }),
      },
      'By a signature in Signature and Signature-Input (RFC 9421)',
    ),
  },
  'Consumers that sign their requests',
)
export type SignatureConsumerSettings = Static<typeof SignatureConsumer>['signature']

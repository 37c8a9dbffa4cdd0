import { type Static, Type } from '@sinclair/typebox'
import { choice, either, integer, list, object, scalar, string } from './define.js'

/** Schema of signed requests. */

const owner = {
  id: string('The name by which the signature refers to the key: its keyid', { maxLength: 128 }),
  consumer: string('Whose key it is: the id that quota is counted under', { maxLength: 256 }),
  tier: Type.Optional(scalar('name', 'The tier that comes with the key; by default the default_tier')),
  tenant: Type.Optional(
    string('The tenant that the consumer belongs to, for limits by tenant', { maxLength: 256 }),
  ),
  scopes: Type.Optional(
    list(scalar('scope', 'A scope'), 'What the key may do, for the scopes that routes ask for', {
      maxItems: 32,
    }),
  ),
}
const SharedKey = object(
  {
    secret: string(
      `The shared secret, best from the environment: "\${ACME_SECRET}". hmac-sha256 is made with it`,
      {
        secret: true,
        minLength: 16,
        maxLength: 1024,
      },
    ),
    encoding: choice(['text', 'base64'], 'How the secret is written: as it is, or its bytes in base64', {
      default: 'text',
    }),
    ...owner,
  },
  'A shared secret',
)
const PublicKey = object(
  {
    public_key: scalar(
      'pem',
      'File of the public key, in PEM: of Ed25519 for ed25519, of P-256 for ecdsa-p256-sha256',
      { examples: ['/etc/tidegate/acme.pem'] },
    ),
    ...owner,
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
            'A shared secret, or a public key, with the consumer that it belongs to',
          ),
          'The keys that are known; a signature by any other is answered with 401',
          { minItems: 1, maxItems: 10_000 },
        ),
        components: list(
          scalar(
            'component',
            'A field in lower case, @method, @authority, @path, @query, @target-uri or @request-target',
          ),
          'What every signature has to cover. @target-uri covers @authority, @path and @query, too',
          { default: ['@method', '@authority', '@path', '@query'], maxItems: 32 },
        ),
        content_digest: choice(
          ['required', 'optional'],
          'Whether the signature of a request with a body has to cover content-digest',
          { default: 'required' },
        ),
        max_age: scalar('duration', 'How long a signature holds from its created on', {
          default: '5m',
          least: 1000,
          most: 86_400_000,
        }),
        leeway: scalar('duration', "How far the caller's clock may be off", {
          default: '30s',
          least: 0,
          most: 300_000,
        }),
        nonce: choice(
          ['optional', 'required'],
          'Whether a signature needs a nonce. One that has a nonce is accepted once by each process; one without as often as it comes',
          { default: 'optional' },
        ),
        max_nonces: integer(
          'How many nonces a process remembers at most, some 40 bytes each; beyond that the oldest may be used again',
          { default: 1_000_000, minimum: 1000, maximum: 100_000_000 },
        ),
        tag: Type.Optional(
          string('What the tag of a signature has to be; signatures with another one are not looked at', {
            maxLength: 128,
          }),
        ),
      },
      'By a signature in Signature and Signature-Input (RFC 9421)',
    ),
  },
  'Callers known by signed requests',
)
export type SignatureConsumerSettings = Static<typeof SignatureConsumer>['signature']

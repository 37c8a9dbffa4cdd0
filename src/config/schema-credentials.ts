import { type Static, Type } from '@sinclair/typebox'
import { choice, either, list, object, scalar, string } from './define.js'
import { SignatureConsumer } from './schema-signature.js'

/** The part of the schema about how callers are known. */

const owner = {
  consumer: string('Whose key it is: the id that quota is counted under', { maxLength: 256 }),
  tier: Type.Optional(scalar('name', 'The tier that comes with the key; by default the default_tier')),
  tenant: Type.Optional(
    string('The tenant that the consumer belongs to, for limits by tenant', { maxLength: 256 }),
  ),
}
const HashedKey = object(
  {
    // Marked as a secret since somebody will put the key itself here.
    sha256: scalar('sha256', 'SHA-256 of the key in hex: printf %s THE-KEY | sha256sum', { secret: true }),
    ...owner,
  },
  'A key by its SHA-256',
)
const PlainKey = object(
  {
    key: scalar(
      'hashed',
      `The key itself, best from the environment: "\${ACME_KEY}". Only its SHA-256 is kept`,
      {
        secret: true,
        becomes: 'sha256',
      },
    ),
    ...owner,
  },
  'A key by itself',
)

const ApiKeyConsumer = object(
  {
    api_key: object(
      {
        header: scalar('header', 'The header that holds the key', { default: 'x-api-key' }),
        keys: list(
          either<Static<typeof HashedKey>>(
            [HashedKey, PlainKey],
            'A key by its sha256, or by itself, with the consumer that it belongs to',
          ),
          'The keys that are known; any other is answered with 401',
          { minItems: 1 },
        ),
      },
      'By a key in a header',
    ),
  },
  'Callers known by an API key',
)
const HeaderConsumer = object(
  {
    header: object(
      {
        name: scalar('header', 'The header that holds the id of the consumer', { examples: ['x-user-id'] }),
        tenant: Type.Optional(
          scalar(
            'header',
            'The header that holds the tenant that the consumer belongs to, for limits by tenant; without it the consumer is a tenant of its own',
            { examples: ['x-tenant-id'] },
          ),
        ),
      },
      'By a header that something in front of the gateway sets, and that callers cannot',
    ),
  },
  'Callers known by a header that is trusted as it is',
)
const IpConsumer = object(
  { ip: object({}, 'Takes no settings: write {}') },
  'Callers known by their address: IPv4 as it is, IPv6 by its /64',
)
const ClientCertificateConsumer = object(
  {
    client_certificate: object(
      {
        id: choice(
          ['subject_cn', 'san_dns', 'san_uri', 'san_email', 'fingerprint'],
          'What of the certificate is the id: the common name of its subject, the first of its alternative names of a kind, or the SHA-256 of the certificate in hex',
          { default: 'subject_cn' },
        ),
      },
      'By a certificate that server.tls.client_ca vouches for',
    ),
  },
  'Callers known by their client certificate',
)

export const Consumers = list(
  either<
    | Static<typeof ApiKeyConsumer>
    | Static<typeof ClientCertificateConsumer>
    | Static<typeof HeaderConsumer>
    | Static<typeof SignatureConsumer>
    | Static<typeof IpConsumer>
  >(
    [ApiKeyConsumer, ClientCertificateConsumer, HeaderConsumer, SignatureConsumer, IpConsumer],
    'One way to know a caller: api_key, client_certificate, header, signature or ip',
  ),
  'How callers are known; tried in order, the first that fits wins',
  { default: [{ ip: {} }], minItems: 1 },
)

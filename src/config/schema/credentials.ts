import { type Static, Type } from '@sinclair/typebox'
import { CLAIM_PATTERN } from '../values/scalar-credentials.js'
import type { KindValue } from '../values/scalar-types.js'
import { TOKEN_ALGORITHMS } from '../values/token-algorithms.js'
import { boolean, choice, either, list, named, object, scalar, string } from './define.js'
import { SignatureConsumer } from './signature.js'
import { timer } from './timer.js'

/** Schema of how clients are identified. */

const owner = {
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
const HashedKey = object(
  {
    // Marked as secret because users will put the key itself here.
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

const KeysOfStore = object(
  {
    enabled: boolean('Whether keys of the store are known', { default: true }),
    grace: scalar(
      'duration',
      'While the store is away, keys that were known before still work for so long; after that the answer is 503',
      { default: '24h', least: 0, most: 365 * 86_400_000 },
    ),
  },
  'Keys of the store with settings',
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
          'Keys that are known by this file; any that is not known is answered with 401',
          { default: [] },
        ),
        store: either<Static<typeof KeysOfStore>>(
          [scalar('switch', 'Whether keys of the store are known', { shorthand: true }), KeysOfStore],
          'true, or a mapping with settings: keys that tidegate key has made are known, too. They are in the store, and in the memory of every gateway',
          { default: false },
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
        from: Type.Optional(
          either<string[]>(
            [
              scalar('believed', 'A CIDR block, or anyone'),
              list(scalar('believed', 'An address or a CIDR block'), 'Addresses of what sets the header', {
                minItems: 1,
                maxItems: 1000,
              }),
            ],
            'Whose header is believed: of everybody else it is as if it were not there. Left out: trusted_proxies where there are any, else anyone, if the gateway listens on loopback only',
            { wrap: true, examples: [['10.0.0.0/8'], 'anyone'] },
          ),
        ),
      },
      'By a header that something in front of the gateway sets, and that callers cannot',
    ),
  },
  'Callers known by a header, which is believed from whoever sets it',
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

/** Keys of one issuer, with the conditions that make its tokens valid. */
const issuerKeys = {
  issuer: string('Who issues the tokens: equal to their claim iss', {
    maxLength: 1024,
    examples: ['https://id.example.com'],
  }),
  audience: Type.Optional(
    either<string[]>(
      [
        string('A name of this API', { maxLength: 1024 }),
        list(string('A name of this API', { maxLength: 1024 }), 'Several', { minItems: 1, maxItems: 64 }),
      ],
      'Names of this API: the claim aud has to hold one. Left out: tokens that were made for another one are good here, too',
      { wrap: true, examples: ['api'] },
    ),
  ),
  jwks_url: Type.Optional(
    scalar(
      'url',
      'Where the issuer has its public keys (JWKS). One of jwks_url, public_key and secret is needed',
      { examples: ['https://id.example.com/jwks.json'] },
    ),
  ),
  refresh: timer('Time between two looks at jwks_url', '10m', 60_000),
  public_key: Type.Optional(
    either<KindValue<'public_key'>[]>(
      [
        scalar('public_key', 'A public key'),
        list(scalar('public_key', 'A public key'), 'Several, as while one takes the place of another', {
          minItems: 1,
          maxItems: 8,
        }),
      ],
      'Public key or certificate (PEM) of the issuer: a file, or the text itself',
      { wrap: true, examples: ['/etc/tidegate/issuer.pem'] },
    ),
  ),
  secret: Type.Optional(
    string('The secret that issuer and gateway share, for HS256 and its like; best from the environment', {
      secret: true,
      minLength: 32,
      maxLength: 4096,
    }),
  ),
  algorithms: Type.Optional(
    list(
      choice(TOKEN_ALGORITHMS, 'An algorithm'),
      'What tokens may be signed with; by default RS256, ES256 and EdDSA, with a secret HS256',
      {
        minItems: 1,
      },
    ),
  ),
  id: scalar('claim', 'The claim that holds the id of the consumer, or the way to it: org.id', {
    default: 'sub',
  }),
  id_prefix: Type.Optional(
    string('Put in front of the id, so that the users of several issuers are told apart', {
      maxLength: 64,
      examples: ['partner-'],
    }),
  ),
  tier: Type.Optional(
    scalar('claim', 'The claim that holds the tier. One that is not in tiers counts as none'),
  ),
  tenant: Type.Optional(scalar('claim', 'The claim that holds the tenant, for limits by tenant')),
  scopes: scalar('claim', 'The claim that holds the scopes: a list, or a text with spaces between them', {
    default: 'scope',
  }),
  required_scopes: Type.Optional(
    list(scalar('scope', 'A scope'), 'Scopes that a token must have, all of them; without one it is 403', {
      minItems: 1,
      maxItems: 64,
    }),
  ),
  required_claims: Type.Optional(
    named(
      either<string[]>(
        [
          scalar('claim_value', 'The value that it has'),
          list(scalar('claim_value', 'A value'), 'One of these values', { minItems: 1, maxItems: 64 }),
        ],
        'The value that the claim has, or a list of which it has one; "*": any',
        { wrap: true },
      ),
      'Claims that a token must have, by name or by the way to them',
      {
        keys: CLAIM_PATTERN,
        keyFix: 'a claim here has 1 to 256 printable characters without spaces',
        examples: [{ email_verified: true }],
      },
    ),
  ),
  type: Type.Optional(
    either<string[]>(
      [
        string('A type', { maxLength: 128 }),
        list(string('A type', { maxLength: 128 }), 'Several', { minItems: 1, maxItems: 16 }),
      ],
      "What the token's header has as typ: at+jwt for access tokens by RFC 9068. Left out: it is not looked at",
      { wrap: true, examples: ['at+jwt'] },
    ),
  ),
  leeway: scalar('duration', "How far the issuer's clock and this one may be apart, for exp, nbf and iat", {
    default: '60s',
    least: 0,
    most: 600_000,
  }),
}
const tokenHeader = {
  header: scalar(
    'header',
    'The header that holds the token: of authorization behind "Bearer", of any other the token itself',
    { default: 'authorization' },
  ),
}
const Issuer = object(issuerKeys, 'An issuer, its keys, and what makes a token of its good')
const Issuers = object(
  {
    ...tokenHeader,
    issuers: list(Issuer, 'Who issues tokens; the claim iss says which of them it is', {
      minItems: 1,
      maxItems: 64,
    }),
  },
  'By a token of one of several issuers',
)
const OneIssuer = object({ ...tokenHeader, ...issuerKeys }, 'By a token of one issuer')
const JwtConsumer = object(
  {
    jwt: either<Static<typeof Issuers> | Static<typeof OneIssuer>>(
      [Issuers, OneIssuer],
      'By a signed token: the settings of one issuer, or issuers with a list of them',
    ),
  },
  'Callers known by a token (JWT) that an issuer signed',
)

const FORMS = [
  ApiKeyConsumer,
  ClientCertificateConsumer,
  HeaderConsumer,
  JwtConsumer,
  SignatureConsumer,
  IpConsumer,
]

export const Consumers = list(
  either<Static<(typeof FORMS)[number]>>(
    FORMS,
    'One way to know a caller: api_key, client_certificate, header, jwt, signature or ip',
  ),
  'How callers are known; tried in order, the first that fits wins',
  { default: [{ ip: {} }], minItems: 1 },
)

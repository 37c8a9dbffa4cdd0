import type { Static } from '@sinclair/typebox'
import type { CredentialKindName } from '../values/credential-kinds.js'
import { CLAIM_PATTERN } from '../values/scalar-credentials.js'
import { TOKEN_ALGORITHMS } from '../values/token-algorithms.js'
import {
  boolean,
  choice,
  duration,
  either,
  list,
  named,
  object,
  oneOrMore,
  scalar,
  string,
  switchable,
  timer,
} from './define.js'
import { ForwardConsumer } from './forward.js'
import { hashedOrPlain, owner } from './key-owner.js'
import { SignatureConsumer } from './signature.js'

/** Schema of how clients are identified. */

const KeysOfStore = object(
  {
    enabled: boolean('Accept keys of the store', { default: true }),
    grace: duration(
      'How long known keys still work while the store is unavailable. After that the answer is 503',
      [0, 365 * 86_400_000],
      { default: '24h' },
    ),
  },
  'Keys of the store with settings',
)

const ApiKeyConsumer = object(
  {
    api_key: object(
      {
        header: scalar('header', 'Header with the key', { default: 'x-api-key' }),
        keys: list(
          hashedOrPlain('key', 'ACME_KEY', owner, 'A key by its sha256 or in plain text, with its consumer'),
          'Keys in this file. An unknown key gets 401',
          { default: [] },
        ),
        store: switchable(
          'Accept keys of the store',
          KeysOfStore,
          'true, or a mapping with settings: accept keys made with tidegate key. They live in the store and in the memory of every gateway',
          { default: false },
        ),
      },
      'By a key in a header',
    ),
  },
  'Consumers with an API key',
)
const HeaderConsumer = object(
  {
    header: object(
      {
        name: scalar('header', 'Header with the id of the consumer', { examples: ['x-user-id'] }),
        'tenant?': scalar(
          'header',
          'Header with the tenant of the consumer, for limits by tenant. Without it, each consumer is its own tenant',
          { examples: ['x-tenant-id'] },
        ),
        'from?': oneOrMore(
          scalar('believed', 'An address, a CIDR block, or anyone'),
          1000,
          'Addresses that may set the header. From any other address the gateway ignores it. Default: trusted_proxies if there are any, otherwise anyone if the gateway listens on loopback only',
          { examples: [['10.0.0.0/8'], 'anyone'] },
        ),
      },
      'By a header that something in front of the gateway sets, and that clients cannot set',
    ),
  },
  'Consumers named by a trusted header',
)
const IpConsumer = object(
  { ip: object({}, 'Takes no settings: write {}') },
  'Consumers by address: IPv4 as it is, IPv6 by its /64',
)
const ExtensionConsumer = object(
  { extension: scalar('name', 'Name of an extension with the hook identify') },
  'Consumers that an extension identifies',
)
const ClientCertificateConsumer = object(
  {
    client_certificate: object(
      {
        id: choice(
          ['subject_cn', 'san_dns', 'san_uri', 'san_email', 'fingerprint'],
          'Part of the certificate that is the id: the common name of the subject, the first alternative name of a kind, or the SHA-256 of the certificate in hex',
          { default: 'subject_cn' },
        ),
      },
      'By a certificate of a CA in server.tls.client_ca',
    ),
  },
  'Consumers with a client certificate',
)

/** Keys of one issuer, with the conditions that make its tokens valid. */
const issuerKeys = {
  issuer: string('Issuer of the tokens: their claim iss', {
    maxLength: 1024,
    examples: ['https://id.example.com'],
  }),
  'audience?': oneOrMore(
    string('A name of this API', { maxLength: 1024 }),
    64,
    'Names of this API. The claim aud must contain one of them. Default: tokens made for another API are accepted, too',
    { examples: ['api'] },
  ),
  'jwks_url?': scalar(
    'url',
    'Address of the public keys of the issuer (JWKS). Give one of jwks_url, public_key and secret',
    { examples: ['https://id.example.com/jwks.json'] },
  ),
  refresh: timer('Time between two fetches of jwks_url', '10m', 60_000),
  'public_key?': oneOrMore(
    scalar('public_key', 'A public key'),
    8,
    'Public key or certificate (PEM) of the issuer: a file, or the text itself. Give several while one replaces another',
    { examples: ['/etc/tidegate/issuer.pem'] },
  ),
  'secret?': string(
    'Shared secret of issuer and gateway, for HS256, HS384 and HS512; best from the environment',
    {
      secret: true,
      minLength: 32,
      maxLength: 4096,
    },
  ),
  'algorithms?': list(
    choice(TOKEN_ALGORITHMS, 'An algorithm'),
    'Accepted signature algorithms. Default: RS256, ES256 and EdDSA; with a secret HS256',
    { minItems: 1 },
  ),
  id: scalar('claim', 'Claim with the id of the consumer, or its path: org.id', { default: 'sub' }),
  'id_prefix?': string('Prefix of the id. It tells the users of several issuers apart', {
    maxLength: 64,
    examples: ['partner-'],
  }),
  'tier?': scalar('claim', 'Claim with the tier. A tier that is not in tiers counts as none'),
  'tenant?': scalar('claim', 'Claim with the tenant, for limits by tenant'),
  scopes: scalar('claim', 'Claim with the scopes: a list, or text separated by spaces', {
    default: 'scope',
  }),
  'required_scopes?': list(
    scalar('scope', 'A scope'),
    'Scopes that a token must all have. A token that lacks one gets 403',
    { minItems: 1, maxItems: 64 },
  ),
  'required_claims?': named(
    oneOrMore(
      scalar('claim_value', 'A value'),
      64,
      'The required value, or a list of allowed ones; "*": any',
    ),
    'Claims that a token must have, by name or path',
    {
      keys: CLAIM_PATTERN,
      keyFix: 'a claim here has 1 to 256 printable characters without spaces',
      examples: [{ email_verified: true }],
    },
  ),
  'type?': oneOrMore(
    string('A type', { maxLength: 128 }),
    16,
    "Required typ in the token's header: at+jwt for access tokens by RFC 9068. Default: typ is not checked",
    { examples: ['at+jwt'] },
  ),
  leeway: duration(
    "Tolerated difference between the issuer's clock and ours, for exp, nbf and iat",
    [0, 600_000],
    { default: '60s' },
  ),
}
const tokenHeader = {
  header: scalar(
    'header',
    'Header with the token. In authorization the token follows "Bearer"; any other header holds the token alone',
    { default: 'authorization' },
  ),
}
const Issuers = object(
  {
    ...tokenHeader,
    issuers: list(
      object(issuerKeys, 'An issuer, its keys, and what makes its tokens valid'),
      'Issuers of tokens. The claim iss tells which of them issued a token',
      { minItems: 1, maxItems: 64 },
    ),
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
  'Consumers with a token (JWT) that an issuer signed',
)

const FORMS = {
  api_key: ApiKeyConsumer,
  client_certificate: ClientCertificateConsumer,
  header: HeaderConsumer,
  jwt: JwtConsumer,
  signature: SignatureConsumer,
  extension: ExtensionConsumer,
  forward: ForwardConsumer,
  ip: IpConsumer,
} satisfies Record<CredentialKindName, unknown>

export const Consumers = list(
  either<Static<(typeof FORMS)[CredentialKindName]>>(
    Object.values(FORMS),
    `One way to identify consumers: ${Object.keys(FORMS)
      .join(', ')
      .replace(/, (\w+)$/, ' or $1')}`,
  ),
  'Ways to identify consumers. They are tried in order; the first whose credential is present decides',
  { default: [{ ip: {} }], minItems: 1 },
)

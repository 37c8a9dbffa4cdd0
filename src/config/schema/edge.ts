import { type Static, Type } from '@sinclair/typebox'
import type { AddressFile } from '../values/address-file.js'
import { boolean, choice, either, integer, list, object, scalar, string } from './define.js'

/** Schema of the clients that are turned away before anything else is done. */

const block = scalar('range', 'An address or a CIDR block', { examples: ['10.0.0.0/8'] })
const File = object(
  {
    file: scalar(
      'address_file',
      'File with one address or CIDR block a line, read again when it changes; # begins a comment',
      { examples: ['/etc/tidegate/addresses.txt'] },
    ),
  },
  'Addresses from a file',
)

export const TrustedProxies = list(
  either<string | { file: AddressFile }>([block, File], 'An address, a CIDR block, or a file of them'),
  'Proxies whose X-Forwarded-For is believed',
  { default: [] },
)

export const TrustedHeaders = list(
  scalar('field', 'Name of a header', { examples: ['x-ssl-client-verify'] }),
  'Headers that trusted_proxies write to tell backends who is calling, and that go on to these: ssl-client-*, x-ssl-*, x-client-*, x-consumer-*, x-amzn-mtls-*, x-original-*, x-arr-clientcert, remote-user. From everybody else they are removed, as those are that are not named here',
  { default: [], maxItems: 100, examples: [['x-ssl-client-verify', 'x-ssl-client-s-dn']] },
)

const Country = object(
  {
    country: list(
      scalar('country', 'Two letters or digits, as the CDN writes them'),
      'Countries, as the header of edge.cdn tells them',
      { minItems: 1, maxItems: 300, examples: [['KP', 'T1']] },
    ),
  },
  'By country',
)

const agent = (description: string, minLength = 1) =>
  string(description, { minLength, maxLength: 256, examples: ['sqlmap'] })
const UserAgent = object(
  {
    user_agent: either<{ exact: string } | { prefix: string } | { contains: string }>(
      [
        object({ exact: agent('All of it; empty: there is none', 0) }, 'The whole'),
        object({ prefix: agent('What it begins with') }, 'Its beginning'),
        object({ contains: agent('What is somewhere in its first 1,024 characters') }, 'A part'),
      ],
      'What the caller says it is, whatever the case of its letters: exact, prefix or contains',
    ),
  },
  'By User-Agent',
)

const Path = object(
  {
    path: scalar(
      'edge_path',
      'A path and all below it, or with * at its end whatever begins like it; upper and lower case are the same',
      { examples: ['/.env', '/wp-*'] },
    ),
  },
  'By path',
)

const BotScore = object(
  {
    bot_score_below: integer('A score of the CDN below this; the lower, the more like a robot', {
      minimum: 1,
      maximum: 100,
    }),
  },
  'By the score of the CDN',
)

type Rule =
  | string
  | Static<typeof File>
  | Static<typeof Country>
  | Static<typeof UserAgent>
  | Static<typeof Path>
  | Static<typeof BotScore>

const rules = (description: string) =>
  list(
    either<Rule>(
      [block, File, Country, UserAgent, Path, BotScore],
      'An address or CIDR block, or one of file, country, user_agent, path and bot_score_below',
    ),
    description,
    { default: [], maxItems: 10_000 },
  )

const PRESETS = ['cloudflare', 'cloudfront', 'fastly', 'gcp'] as const
export type CdnPreset = (typeof PRESETS)[number]

const Cdn = object(
  {
    preset: Type.Optional(choice(PRESETS, 'Whose headers they are')),
    address_header: Type.Optional(
      scalar('field', "The header with the client's address, in place of X-Forwarded-For", {
        examples: ['true-client-ip'],
      }),
    ),
    country_header: Type.Optional(
      scalar('field', "The header with the client's country", { examples: ['x-client-country'] }),
    ),
    bot_score_header: Type.Optional(
      scalar('field', 'The header with a score, 1 for a robot to 100 for a person', {
        examples: ['x-bot-score'],
      }),
    ),
  },
  'A preset, headers by name, or both',
)

const rate = (description: string, fallback?: string) =>
  scalar('per', description, fallback === undefined ? { examples: ['100/s'] } : { default: fallback })

const IpLimit = object(
  {
    rate: rate('How many requests of one address pass in the long run'),
    burst: Type.Optional(
      integer('How many at once; by default as many as in one window of the rate', {
        minimum: 1,
        maximum: 1_000_000,
      }),
    ),
    addresses: integer('How many addresses are remembered; 16 bytes each', {
      default: 131_072,
      minimum: 1024,
      maximum: 16_777_216,
    }),
  },
  'A limit by address, IPv6 by its /64, before anything is asked or charged; each process counts by itself',
)

const AutoBan = object(
  {
    after_denials: rate('More requests than this that end with 429 are too many', '100/min'),
    after_auth_failures: rate(
      'More requests than this whose credential is not good (401) are too many',
      '20/min',
    ),
    for: scalar('duration', 'How long the ban lasts', { default: '10m', least: 1000, most: 604_800_000 }),
    max: integer('How many there are at most; past that nobody is banned', {
      default: 10_000,
      minimum: 1,
      maximum: 100_000,
    }),
    share: boolean('Whether the gateways that share a store share these bans, too', { default: true }),
  },
  'Bans an address, IPv6 by its /64, that goes on after it was refused. Never one of trusted_proxies or edge.allow',
)

export const Edge = object(
  {
    cdn: Type.Optional(
      either<CdnPreset | Static<typeof Cdn>>(
        [choice(PRESETS, 'Whose headers they are'), Cdn],
        'What trusted_proxies tell of a client, and in which headers',
        { examples: ['cloudflare'] },
      ),
    ),
    deny: rules('Who is turned away, with 403'),
    allow: rules(
      'Who is not, though deny says so. An address here is not banned or limited at the edge either',
    ),
    action: choice(
      ['refuse', 'close'],
      'refuse: who is turned away is told so. close: the connection is closed without a word, unless it is one of a trusted proxy',
      { default: 'refuse' },
    ),
    ip_limit: Type.Optional(IpLimit),
    auto_ban: Type.Optional(AutoBan),
  },
  'Who is turned away before anything else is done',
  { default: {} },
)

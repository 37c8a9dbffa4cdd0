import type { Static } from '@sinclair/typebox'
import type { NamedFile } from '../values/read-file.js'
import { boolean, choice, duration, either, integer, list, object, scalar, string } from './define.js'

/** Schema of the clients that are turned away before anything else is done. */

const block = scalar('range', 'An address or a CIDR block', { examples: ['10.0.0.0/8'] })
const File = object(
  {
    file: scalar(
      'address_file',
      'File with one address or CIDR block per line; # begins a comment. The gateway reads it again when it changes',
      { examples: ['/etc/tidegate/addresses.txt'] },
    ),
  },
  'Addresses from a file',
)

export const TrustedProxies = list(
  either<string | { file: NamedFile }>(
    [scalar('proxy', 'An address, a CIDR block, or unix', { examples: ['10.0.0.0/8'] }), File],
    'An address, a CIDR block, or a file of them; unix: clients of the unix sockets in listen',
  ),
  'Proxies whose X-Forwarded-For the gateway trusts',
  { default: [] },
)

export const TrustedHeaders = list(
  scalar('field', 'Name of a header', { examples: ['x-ssl-client-verify'] }),
  'Headers by which trusted_proxies tell backends who the client is: ssl-client-*, x-ssl-*, x-client-*, x-consumer-*, x-amzn-mtls-*, x-original-*, x-arr-clientcert, remote-user. Those named here reach backends if a trusted proxy sends them. The gateway removes all others, and all from anyone else',
  { default: [], maxItems: 100, examples: [['x-ssl-client-verify', 'x-ssl-client-s-dn']] },
)

const Country = object(
  {
    country: list(
      scalar('country', 'Two letters or digits, as the CDN writes them'),
      'Countries, as in the header of edge.cdn',
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
        object({ exact: agent('All of the text. Empty: the header is missing', 0) }, 'The whole'),
        object({ prefix: agent('Beginning of the text') }, 'Its beginning'),
        object({ contains: agent('Text within the first 1,024 characters') }, 'A part'),
      ],
      'Value of User-Agent, in upper or lower case: exact, prefix or contains',
    ),
  },
  'By User-Agent',
)

const Path = object(
  {
    path: scalar(
      'edge_path',
      'A path and everything below it. With * at the end, every path that begins like it. Case does not matter',
      { examples: ['/.env', '/wp-*'] },
    ),
  },
  'By path',
)

const BotScore = object(
  {
    bot_score_below: integer(
      'A bot score of the CDN below this. The lower the score, the more likely a bot',
      [1, 100],
    ),
  },
  'By the bot score of the CDN',
)

const RULES = [block, File, Country, UserAgent, Path, BotScore]
const rules = (description: string) =>
  list(
    either<Static<(typeof RULES)[number]>>(
      RULES,
      'An address or CIDR block, or one of file, country, user_agent, path and bot_score_below',
    ),
    description,
    { default: [], maxItems: 10_000 },
  )

const PRESETS = ['cloudflare', 'cloudfront', 'fastly', 'gcp'] as const
export type CdnPreset = (typeof PRESETS)[number]

const Cdn = object(
  {
    'preset?': choice(PRESETS, 'CDN whose headers these are'),
    'address_header?': scalar('field', "Header with the client's address, instead of X-Forwarded-For", {
      examples: ['true-client-ip'],
    }),
    'country_header?': scalar('field', "Header with the client's country", {
      examples: ['x-client-country'],
    }),
    'bot_score_header?': scalar('field', 'Header with a score from 1 (bot) to 100 (person)', {
      examples: ['x-bot-score'],
    }),
  },
  'A preset, headers by name, or both',
)

const rate = (description: string, fallback?: string) =>
  scalar('per', description, fallback === undefined ? { examples: ['100/s'] } : { default: fallback })

const IpLimit = object(
  {
    rate: rate('Average rate at which the requests of one address pass'),
    'burst?': integer(
      'Requests that pass at once. Default: as many as in one window of the rate',
      [1, 1_000_000],
    ),
    addresses: integer('Addresses that are remembered, 16 bytes each', [1024, 16_777_216], {
      default: 131_072,
    }),
  },
  'A limit by address, IPv6 by its /64. It comes before credentials and quota. Each process counts by itself',
)

const AutoBan = object(
  {
    after_denials: rate('Rate of requests with 429 above which an address is banned', '100/min'),
    after_auth_failures: rate(
      'Rate of requests with an invalid credential (401) above which an address is banned',
      '20/min',
    ),
    for: duration('Length of a ban', [1000, 604_800_000], { default: '10m' }),
    max: integer('Bans at once. Beyond that, no further address is banned', [1, 100_000], {
      default: 10_000,
    }),
    share: boolean('Share these bans with all gateways of the store', { default: true }),
  },
  'Bans an address, IPv6 by its /64, that goes on after it was refused. Addresses in trusted_proxies and edge.allow are never banned',
)

export const Edge = object(
  {
    'cdn?': either<CdnPreset | Static<typeof Cdn>>(
      [choice(PRESETS, 'CDN whose headers these are'), Cdn],
      'Headers in which trusted_proxies describe the client: a preset, or a mapping',
      { examples: ['cloudflare'] },
    ),
    deny: rules('Clients that get 403'),
    allow: rules('Exceptions from deny. An address here is neither banned nor limited at the edge'),
    action: choice(
      ['refuse', 'close'],
      'refuse: a denied client gets an error. close: the gateway closes its connection without a response, unless a trusted proxy opened it',
      { default: 'refuse' },
    ),
    'ip_limit?': IpLimit,
    'auto_ban?': AutoBan,
  },
  'Clients that are turned away before anything else is done',
  { default: {} },
)

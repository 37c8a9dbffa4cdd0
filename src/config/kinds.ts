import { createHash } from 'node:crypto'
import { METHODS } from 'node:http'
import { type AddressFile, readAddressFile, showAddressFile } from './address-file.js'
import { formatListen, type ListenAddress, parseListen, parseRange } from './addresses.js'
import { nearest } from './nearest.js'
import { type PemFile, readPemFile, showPemFile } from './pem.js'
import { readPlanUrl, readPostgresUrl } from './plan-address.js'
import { readPublicKey } from './public-key.js'
import {
  DURATION_PATTERN,
  formatDuration,
  formatRate,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
  RATE_PATTERN,
  SIZE_PATTERN,
} from './quantities.js'
import { readClusterNode, readRedisAddress } from './redis-address.js'
import {
  type Fail,
  readDnsName,
  readEdgePath,
  readHost,
  readHttpUrl,
  readOrigin,
  readRoutePath,
  readStripPrefix,
  readUpstream,
} from './targets.js'
import { readTemplate, showTemplate, type Template } from './template.js'

/**
 * What a scalar of the file can be beyond JSON's types: how its text is read, what editors are told, and how it is
 * shown when it has changed.
 */
interface Kind<T> {
  /** What it is called in the reference. */
  readonly label: string
  /** What YAML may take it for; `integer` is any number. */
  readonly types: readonly ('string' | 'integer' | 'boolean')[]
  /** For editors. Looser than `read` where a pattern cannot say it. */
  readonly pattern: string
  read(text: string, fail: Fail, bounds: Bounds): T | undefined
  show(value: T): string
}

/** Both ends included, in the unit that the kind is read into. */
export interface Bounds {
  readonly least?: number
  readonly most?: number
}

/** Names of services, tiers and limits: they go into Redis keys, labels and header fields as they are. */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9_-]{0,62}$'
// A token (RFC 9110 §5.6.2) but for `_`: backends of the CGI family read it as `-`, so such a field is dropped as a twin.
const HEADER_PATTERN = "^[A-Za-z0-9!#$%&'*+.^`|~-]+$"

const STATUS_PATTERN = '^[2-5]([0-9][0-9]|xx)$'
/** It goes into keys of the store: no colon, and nothing that is not a name. */
const ZONE_PATTERN = '^[A-Za-z][A-Za-z0-9_+/-]{0,63}$'

/** Also those that are URLs, as of Auth0. */
export const CLAIM_PATTERN = '^[!-~]{1,256}$'

const SCOPE_PATTERN = '^[!#-\\[\\]-~]{1,256}$'

const SHARE_PATTERN = '^[0-9]*\\.?[0-9]+(e-[0-9]+)?$'

const CHANNEL_PATTERN = '^[a-z_][a-z0-9_]{0,62}$'
const MEMBER_PATTERN = '^[^.]+(\\.[^.]+)*$'

const MEDIA_PATTERN = '^([A-Za-z0-9.+-]+/([A-Za-z0-9.+-]+|\\*)|\\*\\+[A-Za-z0-9.-]+)$'

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

/** Every method that Node's parser knows, without the two that are never routed. */
export const ROUTABLE_METHODS: readonly string[] = METHODS.filter(
  (name) => name !== 'CONNECT' && name !== 'TRACE',
)

/** Headers that say how a message travels, or that a proxy writes: nobody is identified by them. */
const NOT_IDENTITY = new Set(
  `connection content-length expect forwarded host keep-alive proxy-authenticate proxy-authorization te trailer
   transfer-encoding upgrade via x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-request-id`.split(
    /\s+/,
  ),
)

/** What a signature can cover besides fields (RFC 9421 §2.2). */
const DERIVED = ['@method', '@authority', '@scheme', '@path', '@query', '@target-uri', '@request-target']
/** Fields that a gateway writes anew or that end here; what a caller signed of them is not to be seen. */
const NOT_COVERED = new Set(['signature', 'signature-input', 'keep-alive', 'proxy-connection'])

const text = (value: string) => value

function readHeaderName(value: string, fail: Fail, belongs: string, fix: string): string | undefined {
  if (!new RegExp(HEADER_PATTERN).test(value) || value.length > 64) {
    return fail('cannot be the name of a header here', `write one such as ${fix}, without "_"`)
  }
  const name = value.toLowerCase()
  return NOT_IDENTITY.has(name) ? fail(belongs, `take a header of your own, such as ${fix}`) : name
}

export const KINDS = {
  duration: {
    label: 'duration',
    types: ['string', 'integer'],
    pattern: DURATION_PATTERN,
    read: (value, fail, bounds) =>
      bounded(
        parseDuration(value),
        bounds,
        formatDuration,
        fail,
        'is not a duration',
        'write one such as 100ms, 5s or 1m',
      ),
    show: formatDuration,
  } satisfies Kind<number>,

  size: {
    label: 'size',
    types: ['string', 'integer'],
    pattern: SIZE_PATTERN,
    read: (value, fail, bounds) =>
      bounded(
        parseSize(value),
        bounds,
        formatSize,
        fail,
        'is not a size',
        'write one such as 512, 16KiB or 10MiB',
      ),
    show: formatSize,
  } satisfies Kind<number>,

  /** A part of a whole. */
  share: {
    label: '0 to 1',
    types: ['string', 'integer'],
    pattern: SHARE_PATTERN,
    read: (value, fail) => {
      const share = new RegExp(SHARE_PATTERN).test(value) ? Number(value) : Number.NaN
      return share <= 1 ? share : fail('is not a number from 0 to 1', 'write one such as 0.01')
    },
    show: String,
  } satisfies Kind<number>,

  rate: {
    label: 'limit',
    types: ['string'],
    pattern: RATE_PATTERN,
    read: (value, fail) =>
      parseRate(value) ??
      fail('is not a limit', 'write one such as 10/min, 5/s, 1000/h, 5000/day, 100/30s, or unlimited'),
    show: (value) => JSON.stringify(value),
  } satisfies Kind<{ amount: number; window: number }>,

  switch: {
    label: 'true or false',
    types: ['boolean'],
    pattern: '^(true|false)$',
    read: (value, fail) =>
      value === 'true' || value === 'false'
        ? { enabled: value === 'true' }
        : fail('is neither true nor false', 'write true, false, or a mapping of settings'),
    show: (value) => String(value.enabled),
  } satisfies Kind<{ enabled: boolean }>,

  /** What upstreams are told of the caller, in the place of a mapping. */
  told: {
    label: '`headers`',
    types: ['string'],
    pattern: '^headers$',
    read: (value, fail) =>
      value === 'headers'
        ? { headers: true }
        : fail('is not known here', 'write headers, or a mapping with headers and jwt'),
    show: () => 'headers',
  } satisfies Kind<{ headers: boolean }>,

  listen: {
    label: 'host:port',
    types: ['string'],
    pattern: ':[0-9]{1,5}$',
    read: (value, fail) =>
      parseListen(value) ??
      fail(
        'is not an address to listen on',
        'write host:port, such as 0.0.0.0:8080, 127.0.0.1:8081 or [::]:8080',
      ),
    show: formatListen,
  } satisfies Kind<ListenAddress>,

  range: {
    label: 'address or CIDR block',
    types: ['string'],
    pattern: '^[0-9a-fA-F.:]+(/[0-9]{1,3})?$',
    read: (value, fail) => {
      const parsed = parseRange(value)
      if (parsed === undefined)
        return fail('is not an address block', 'write one such as 10.0.0.0/8, 192.0.2.7 or fd00::/8')
      return parsed.exact ? value : fail('has bits set behind its prefix', `write ${parsed.network}`)
    },
    show: text,
  } satisfies Kind<string>,

  upstream: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://',
    read: (value, fail) => {
      const address = readUpstream(value, fail)
      return address === undefined ? undefined : address.origin + address.basePath
    },
    show: text,
  } satisfies Kind<string>,

  /** A file that is read along with the configuration. */
  pem: {
    label: 'file',
    types: ['string'],
    pattern: '^.',
    read: readPemFile,
    show: showPemFile,
  } satisfies Kind<PemFile>,

  /** Such a file, too. */
  address_file: {
    label: 'file',
    types: ['string'],
    pattern: '^.',
    read: readAddressFile,
    show: showAddressFile,
  } satisfies Kind<AddressFile>,

  country: {
    label: 'country',
    types: ['string'],
    pattern: '^[A-Za-z0-9]{2}$',
    read: (value, fail) =>
      /^[A-Za-z0-9]{2}$/.test(value)
        ? value.toUpperCase()
        : fail(
            'is not a country',
            'write two letters, such as DE (ISO 3166), or what the CDN writes, such as T1',
          ),
    show: text,
  } satisfies Kind<string>,

  /** Of requests, without what a limit has beside it. */
  per: {
    label: 'N/s, N/min, N/h',
    types: ['string'],
    pattern: RATE_PATTERN,
    read: (value, fail) => {
      const rate = parseRate(value)
      const good = rate !== undefined && rate.amount >= 1 && rate.amount <= 1_000_000 && rate.window >= 1
      return good && rate.window <= 86_400_000
        ? rate
        : fail(
            'is not such a rate',
            'write one such as 100/s, 20/min or 50/10s, of 1,000,000 and a day at most',
          )
    },
    show: ({ amount, window }) => formatRate(amount, window),
  } satisfies Kind<{ amount: number; window: number }>,

  edge_path: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readEdgePath,
    show: text,
  } satisfies Kind<string>,

  public_key: {
    label: 'file or PEM',
    types: ['string'],
    pattern: '^.',
    read: readPublicKey,
    show: showPemFile,
  } satisfies Kind<PemFile>,

  /** The name of a claim of a token, or the way to it: `org.id`. */
  claim: {
    label: 'claim',
    types: ['string'],
    pattern: CLAIM_PATTERN,
    read: (value, fail) =>
      new RegExp(CLAIM_PATTERN).test(value)
        ? value
        : fail('is not the name of a claim', 'write one such as sub or org.id, without spaces'),
    show: text,
  } satisfies Kind<string>,

  /** RFC 6749 §3.3. */
  scope: {
    label: 'scope',
    types: ['string'],
    pattern: SCOPE_PATTERN,
    read: (value, fail) =>
      new RegExp(SCOPE_PATTERN).test(value)
        ? value
        : fail('is not a scope', 'write one such as orders:write, without spaces, quotes and backslashes'),
    show: text,
  } satisfies Kind<string>,

  /** A value of a claim, as it is compared: whatever YAML takes it for. */
  claim_value: {
    label: 'text, number, true or false',
    types: ['string', 'integer', 'boolean'],
    pattern: '^.{1,256}$',
    read: (value, fail) =>
      value !== '' && value.length <= 256
        ? value
        : fail('is empty or longer than 256 characters', 'write the value, or "*" for any'),
    show: text,
  } satisfies Kind<string>,

  dns_name: {
    label: 'name',
    types: ['string'],
    pattern: '^[A-Za-z0-9._-]+$',
    read: (value, fail) => readDnsName(value, fail),
    show: text,
  } satisfies Kind<string>,

  redis: {
    label: 'redis:// address',
    types: ['string'],
    pattern: '^rediss?(\\+sentinel)?://',
    read: (value, fail) => (readRedisAddress(value, fail) === undefined ? undefined : value),
    show: text,
  } satisfies Kind<string>,
  redis_node: {
    label: 'redis:// address',
    types: ['string'],
    pattern: '^rediss?://',
    read: (value, fail) => (readClusterNode(value, fail) === undefined ? undefined : value),
    show: text,
  } satisfies Kind<string>,
  url: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://',
    read: readHttpUrl,
    show: text,
  } satisfies Kind<string>,
  postgres: {
    label: 'postgres:// address',
    types: ['string'],
    pattern: '^postgres(ql)?://',
    read: readPostgresUrl,
    show: text,
  } satisfies Kind<string>,
  plan_url: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://.*\\{consumer\\}',
    read: readPlanUrl,
    show: text,
  } satisfies Kind<string>,

  /** A channel of PostgreSQL: an identifier, as it is written without quotes. */
  channel: {
    label: 'name',
    types: ['string'],
    pattern: CHANNEL_PATTERN,
    read: (value, fail) =>
      new RegExp(CHANNEL_PATTERN).test(value)
        ? value
        : fail(
            'is not the name of a channel here',
            'use a-z, 0-9 and "_", beginning with a letter, 63 characters at most',
          ),
    show: text,
  } satisfies Kind<string>,

  /** Where something stands in JSON: names of members, the outer ones first, with a dot between them. */
  member: {
    label: 'path',
    types: ['string'],
    pattern: MEMBER_PATTERN,
    read: (value, fail) =>
      new RegExp(MEMBER_PATTERN).test(value) && value.length <= 256
        ? value
        : fail('is not the path of a member', 'write one such as plan or subscription.plan'),
    show: text,
  } satisfies Kind<string>,

  host: {
    label: 'host',
    types: ['string'],
    pattern: '^[^:/]+$|^\\[',
    read: readHost,
    show: text,
  } satisfies Kind<string>,
  path: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readRoutePath,
    show: text,
  } satisfies Kind<string>,
  prefix: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: readStripPrefix,
    show: text,
  } satisfies Kind<string>,

  method: {
    label: 'method',
    types: ['string'],
    pattern: `^(${ROUTABLE_METHODS.join('|')})$`,
    read: (value, fail) => {
      if (ROUTABLE_METHODS.includes(value)) return value
      if (ROUTABLE_METHODS.includes(value.toUpperCase()))
        return fail('is not in capitals', `write ${value.toUpperCase()}`)
      if (value === 'CONNECT' || value === 'TRACE') return fail('is never passed on', 'remove it')
      return fail('is not a method that the gateway can receive', 'write methods such as GET or POST')
    },
    show: text,
  } satisfies Kind<string>,

  header: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      readHeaderName(
        value,
        fail,
        'belongs to the transport or to proxies and identifies nobody',
        'x-user-id',
      ),
    show: text,
  } satisfies Kind<string>,

  /** A header that identifies nobody. */
  field: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      readHeaderName(value, fail, 'belongs to the transport or to proxies', 'x-token-cost'),
    show: text,
  } satisfies Kind<string>,

  /** Any header, kept in lower case: what may not be meant is said where it is used. */
  any_field: {
    label: 'header name',
    types: ['string'],
    pattern: HEADER_PATTERN,
    read: (value, fail) =>
      new RegExp(HEADER_PATTERN).test(value) && value.length <= 64
        ? value.toLowerCase()
        : fail('cannot be the name of a header here', 'write one such as x-powered-by, without "_"'),
    show: text,
  } satisfies Kind<string>,

  /** What a signature has to cover. */
  component: {
    label: 'component',
    types: ['string'],
    pattern: '^@?[a-z0-9-]+$',
    read: (value, fail) => {
      const derived = value.startsWith('@')
      if (derived && !DERIVED.includes(value))
        return fail('is not known here', `write one of ${DERIVED.join(', ')}`)
      if (!derived && !/^[a-z0-9-]{1,64}$/.test(value))
        return fail('is not the name of a field in lower case', 'write one such as content-digest')
      const read = value === 'host' || value === 'content-length' || !NOT_IDENTITY.has(value)
      return read && !NOT_COVERED.has(value)
        ? value
        : fail('belongs to the transport, to proxies or to the signature itself', 'remove it')
    },
    show: text,
  } satisfies Kind<string>,

  template: {
    label: 'text',
    types: ['string', 'integer', 'boolean'],
    pattern: '^[^\\r\\n]+$',
    read: readTemplate,
    show: showTemplate,
  } satisfies Kind<Template>,

  media_type: {
    label: 'media type',
    types: ['string'],
    pattern: MEDIA_PATTERN,
    read: (value, fail) =>
      new RegExp(MEDIA_PATTERN).test(value)
        ? value.toLowerCase()
        : fail('is not a media type', 'write one such as application/json, text/* or *+json'),
    show: text,
  } satisfies Kind<string>,

  origin: {
    label: 'origin',
    types: ['string'],
    pattern: '^(\\*|null|[a-z][a-z0-9+.-]*://[^/?#]+)$',
    read: readOrigin,
    show: text,
  } satisfies Kind<string>,

  /** A status that a client may get, or a class of them. */
  status: {
    label: 'class or status',
    types: ['string', 'integer'],
    pattern: STATUS_PATTERN,
    read: (value, fail) =>
      new RegExp(STATUS_PATTERN).test(value)
        ? value
        : fail('is neither a status nor a class of them', 'write 5xx, or one such as 502, from 200 to 599'),
    show: text,
  } satisfies Kind<string>,

  /** A request target for a check of health: a path, perhaps with a query. */
  probe: {
    label: 'path',
    types: ['string'],
    pattern: '^/',
    read: (value, fail) =>
      /^\/[\x21-\x22\x24-\x7e]{0,1023}$/.test(value)
        ? value
        : fail(
            'is not a path that can be asked for',
            'write one such as /healthz or /status?deep=1, in ASCII without spaces and "#"',
          ),
    show: text,
  } satisfies Kind<string>,

  zone: {
    label: 'time zone',
    types: ['string'],
    pattern: ZONE_PATTERN,
    read: (value, fail) => {
      if (new RegExp(ZONE_PATTERN).test(value) && isTimeZone(value)) return value
      const zones = Intl.supportedValuesOf('timeZone')
      const meant = nearest(value, zones)
      return fail(
        'is not a time zone',
        meant === undefined
          ? 'write a name of the IANA database, such as Europe/Berlin or UTC'
          : `did you mean "${meant}"?`,
      )
    },
    show: text,
  } satisfies Kind<string>,

  name: {
    label: 'name',
    types: ['string'],
    pattern: NAME_PATTERN,
    read: (value, fail) => (new RegExp(NAME_PATTERN).test(value) ? value : fail('is not a name', NAME_FIX)),
    show: text,
  } satisfies Kind<string>,

  /** The name of a tier, in the place of the tier. */
  tier: {
    label: 'name',
    types: ['string'],
    pattern: NAME_PATTERN,
    read: (value, fail) =>
      new RegExp(NAME_PATTERN).test(value) ? { name: value } : fail('is not a name', NAME_FIX),
    show: (value) => value.name,
  } satisfies Kind<{ name: string }>,

  sha256: {
    label: '64 hex digits',
    types: ['string'],
    pattern: '^[0-9a-fA-F]{64}$',
    read: (value, fail) =>
      /^[0-9a-fA-F]{64}$/.test(value)
        ? value.toLowerCase()
        : fail('is not a SHA-256 in hex', 'make one by: printf %s THE-KEY | sha256sum'),
    show: text,
  } satisfies Kind<string>,

  /** A secret of which only the SHA-256 is kept. */
  hashed: {
    label: 'text',
    types: ['string'],
    pattern: '^.',
    read: (value, fail) => {
      if (value === '') return fail('is empty', 'give a key, or remove this entry')
      if (value.length > 256) return fail('is longer than 256 characters', 'give a shorter key')
      return createHash('sha256').update(value).digest('hex')
    },
    show: text,
  } satisfies Kind<string>,
} as const

export const NAME_FIX = 'use a-z, 0-9, "_" and "-", beginning with a letter or digit, 63 characters at most'

export type KindName = keyof typeof KINDS
/** What a kind is read into. */
export type KindValue<K extends KindName> = NonNullable<ReturnType<(typeof KINDS)[K]['read']>>

function bounded(
  value: number | undefined,
  { least = 0, most = Number.MAX_SAFE_INTEGER }: Bounds,
  format: (value: number) => string,
  fail: Fail,
  wrong: string,
  fix: string,
): number | undefined {
  if (value === undefined) return fail(wrong, fix)
  if (value < least) return fail(`is less than ${format(least)}`, `write ${format(least)} or more`)
  if (value > most) return fail(`is more than ${format(most)}`, `write ${format(most)} or less`)
  return value
}

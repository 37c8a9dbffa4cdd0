import { UNIX_PEER } from '../../net/address-key.js'
import { formatListen, type ListenAddress, parseListen } from '../../net/addresses.js'
import { createBlock, formatBlock, readBlock } from '../../net/parse-cidr.js'
import { readAddressFile } from './address-file.js'
import { type Fail, readDnsName, readHttpUrl, readUpstream } from './parse-url.js'
import { showFile } from './read-file.js'
import { readClusterNode, readRedisAddress } from './redis-address.js'
import { kindOf, patternKind, textKind } from './scalar-type.js'
import { readPostgresUrl, readTierSourceUrl } from './tier-source-url.js'

const LISTEN_FIX = 'write host:port, such as 0.0.0.0:8080, 127.0.0.1:8081 or [::]:8080'
const HTTPS = 443
const HTTP_URL = 'http(s):// address'

/** Kinds for addresses: of servers, files and clients. */
export const ADDRESSES = {
  listen: kindOf<ListenAddress>(
    'host:port',
    ':[0-9]{1,5}$',
    (value, fail) => parseListen(value) ?? fail('is not an address to listen on', LISTEN_FIX),
    formatListen,
  ),

  /** Port of the https address that requests are redirected to. */
  redirect: kindOf<number>(
    'https or https:port',
    '^https(:[0-9]{1,5})?$',
    (value, fail) => {
      const [, digits = String(HTTPS)] = /^https(?::([0-9]{1,5}))?$/.exec(value) ?? [value, '0']
      const port = Number(digits)
      return port > 0 && port < 65_536
        ? port
        : fail('is no target to redirect to', 'write https, or https:8443')
    },
    (port) => (port === HTTPS ? 'https' : `https:${port}`),
  ),

  /** Permissions of a file. */
  mode: kindOf<number>(
    'octal permissions',
    '^0?[0-7]{3}$',
    (value, fail) =>
      /^0?[0-7]{3}$/.test(value)
        ? Number.parseInt(value, 8)
        : fail('is not a file mode', 'write three octal digits, such as 0660'),
    (mode) => mode.toString(8).padStart(4, '0'),
    ['string', 'integer'],
  ),

  range: textKind('address or CIDR block', '^[0-9a-fA-F.:]+(/[0-9]{1,3})?$', (value, fail) =>
    readRange(value, fail, '10.0.0.0/8, 192.0.2.7 or fd00::/8'),
  ),

  proxy: textKind('address, CIDR block or unix', '^(unix|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$', (value, fail) =>
    value === UNIX_PEER ? value : readRange(value, fail, '10.0.0.0/8, 192.0.2.7 or fd00::/8'),
  ),

  /** Addresses whose headers are trusted. */
  believed: textKind(
    'address, CIDR block or anyone',
    '^(anyone|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$',
    (value, fail) => (value === 'anyone' ? value : readRange(value, fail, '10.0.0.0/8, or anyone')),
  ),

  country: textKind('country', '^[A-Za-z0-9]{2}$', (value, fail) =>
    /^[A-Za-z0-9]{2}$/.test(value)
      ? value.toUpperCase()
      : fail(
          'is not a country',
          'write two letters, such as DE (ISO 3166), or what the CDN writes, such as T1',
        ),
  ),

  /** File of addresses or blocks. */
  address_file: kindOf('file', '^.', readAddressFile, showFile),

  upstream: textKind(HTTP_URL, '^https?://', (value, fail) => {
    const address = readUpstream(value, fail)
    return address && address.origin + address.basePath
  }),
  url: textKind(HTTP_URL, '^https?://', readHttpUrl),
  dns_name: textKind('name', '^[A-Za-z0-9._-]+$', readDnsName),
  redis: textKind('redis:// address', '^rediss?(\\+sentinel)?://', (value, fail) =>
    readRedisAddress(value, fail) === undefined ? undefined : value,
  ),
  redis_node: textKind('redis:// address', '^rediss?://', (value, fail) =>
    readClusterNode(value, fail) === undefined ? undefined : value,
  ),
  postgres: textKind('postgres:// address', '^postgres(ql)?://', readPostgresUrl),

  /** PostgreSQL channel: an identifier, as it is written without quotes. */
  channel: patternKind('name', '^[a-z_][a-z0-9_]{0,62}$', [
    'is not the name of a channel here',
    'use a-z, 0-9 and "_", beginning with a letter, 63 characters at most',
  ]),
  plan_url: textKind(HTTP_URL, '^https?://.*\\{consumer\\}', readTierSourceUrl),

  /** Path of a value in JSON: names of members, the outer ones first, with a dot between them. */
  member: patternKind(
    'path',
    '^[^.]+(\\.[^.]+)*$',
    ['is not the path of a member', 'write one such as plan or subscription.plan'],
    256,
  ),
} as const

function readRange(text: string, fail: Fail, such: string): string | undefined {
  const block = createBlock()
  const fault = readBlock(text, block)
  if (fault === undefined) return text
  if (fault === 'malformed') return fail('is not an address block', `write one such as ${such}`)
  return fail('has bits set behind its prefix', `write ${formatBlock(block)}`)
}

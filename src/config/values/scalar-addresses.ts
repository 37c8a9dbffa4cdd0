import { formatListen, type ListenAddress, parseListen } from '../../net/addresses.js'
import { createBlock, formatBlock, readBlock } from '../../net/parse-cidr.js'
import { type AddressFile, readAddressFile, showAddressFile } from './address-file.js'
import { type Fail, readDnsName, readHttpUrl, readUpstream } from './parse-url.js'
import { readClusterNode, readRedisAddress } from './redis-address.js'
import { asText, type Kind } from './scalar-type.js'
import { readPlanUrl, readPostgresUrl } from './tier-source-url.js'

const CHANNEL_PATTERN = '^[a-z_][a-z0-9_]{0,62}$'

const MEMBER_PATTERN = '^[^.]+(\\.[^.]+)*$'

/** Kinds for addresses: of servers, files and clients. */
export const ADDRESSES = {
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
    read: (value, fail) => readRange(value, fail, '10.0.0.0/8, 192.0.2.7 or fd00::/8'),
    show: asText,
  } satisfies Kind<string>,

  /** Addresses whose headers are trusted. */
  believed: {
    label: 'address, CIDR block or anyone',
    types: ['string'],
    pattern: '^(anyone|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$',
    read: (value, fail) => (value === 'anyone' ? value : readRange(value, fail, '10.0.0.0/8, or anyone')),
    show: asText,
  } satisfies Kind<string>,

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
    show: asText,
  } satisfies Kind<string>,

  /** File of addresses or blocks. */
  address_file: {
    label: 'file',
    types: ['string'],
    pattern: '^.',
    read: readAddressFile,
    show: showAddressFile,
  } satisfies Kind<AddressFile>,

  upstream: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://',
    read: (value, fail) => {
      const address = readUpstream(value, fail)
      return address === undefined ? undefined : address.origin + address.basePath
    },
    show: asText,
  } satisfies Kind<string>,

  url: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://',
    read: readHttpUrl,
    show: asText,
  } satisfies Kind<string>,

  dns_name: {
    label: 'name',
    types: ['string'],
    pattern: '^[A-Za-z0-9._-]+$',
    read: (value, fail) => readDnsName(value, fail),
    show: asText,
  } satisfies Kind<string>,

  redis: {
    label: 'redis:// address',
    types: ['string'],
    pattern: '^rediss?(\\+sentinel)?://',
    read: (value, fail) => (readRedisAddress(value, fail) === undefined ? undefined : value),
    show: asText,
  } satisfies Kind<string>,

  redis_node: {
    label: 'redis:// address',
    types: ['string'],
    pattern: '^rediss?://',
    read: (value, fail) => (readClusterNode(value, fail) === undefined ? undefined : value),
    show: asText,
  } satisfies Kind<string>,

  postgres: {
    label: 'postgres:// address',
    types: ['string'],
    pattern: '^postgres(ql)?://',
    read: readPostgresUrl,
    show: asText,
  } satisfies Kind<string>,

  /** PostgreSQL channel: an identifier, as it is written without quotes. */
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
    show: asText,
  } satisfies Kind<string>,

  plan_url: {
    label: 'http(s):// address',
    types: ['string'],
    pattern: '^https?://.*\\{consumer\\}',
    read: readPlanUrl,
    show: asText,
  } satisfies Kind<string>,

  /** Path of a value in JSON: names of members, the outer ones first, with a dot between them. */
  member: {
    label: 'path',
    types: ['string'],
    pattern: MEMBER_PATTERN,
    read: (value, fail) =>
      new RegExp(MEMBER_PATTERN).test(value) && value.length <= 256
        ? value
        : fail('is not the path of a member', 'write one such as plan or subscription.plan'),
    show: asText,
  } satisfies Kind<string>,
} as const

function readRange(text: string, fail: Fail, such: string): string | undefined {
  const block = createBlock()
  const fault = readBlock(text, block)
  if (fault === undefined) return text
  if (fault === 'malformed') return fail('is not an address block', `write one such as ${such}`)
  return fail('has bits set behind its prefix', `write ${formatBlock(block)}`)
}

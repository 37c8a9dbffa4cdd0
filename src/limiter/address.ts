export interface StoreServer {
  readonly host: string
  readonly port: number
}

/** Where a store is and how to log in. The password goes into a connection and nowhere else. */
export interface Address {
  /** One server, or the Sentinels. */
  readonly hosts: readonly StoreServer[]
  /** The name that Sentinel knows the primary by. */
  readonly sentinelPrimary: string | undefined
  readonly db: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: boolean
}

const FORM =
  /^(?<scheme>redis|rediss|redis\+sentinel):\/\/(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?(?<hosts>[^/?#@]+)(?<path>\/[^?#]*)?$/

/**
 * Reads `redis[s]://[user:password@]host[:port][/db]` or
 * `redis+sentinel://[user:password@]host[:port][,host[:port]…]/primary[/db]`. User and password may be percent-encoded.
 *
 * @throws Error that tells what is wrong without repeating the address, since it may hold a password
 */
export function parseAddress(text: string): Address {
  const groups = FORM.exec(text)?.groups
  if (groups === undefined) {
    throw new Error(
      'store.redis holds an address that is not of the form redis://[user:password@]host[:port][/db]; ' +
        'percent-encode what stands in user and password',
    )
  }
  const sentinel = groups.scheme === 'redis+sentinel'
  const path = (groups.path ?? '').split('/').filter((part) => part !== '')
  const sentinelPrimary = sentinel ? path.shift() : undefined
  if (sentinel && sentinelPrimary === undefined) {
    throw new Error(
      'store.redis names Sentinels but no primary; write redis+sentinel://host:26379,host2:26379/primary',
    )
  }
  const db = path.shift() ?? '0'
  if (!/^\d{1,4}$/.test(db) || path.length > 0) {
    throw new Error(
      'store.redis ends in something that is not a database number; write redis://host:6379/0, or leave it out',
    )
  }
  const hosts = groups.hosts!.split(',').map((host) => parseServer(host, sentinel ? 26379 : 6379))
  if (!sentinel && hosts.length > 1) {
    throw new Error(
      'store.redis has several hosts in one address; write a list of addresses for a Redis Cluster',
    )
  }
  return {
    hosts,
    sentinelPrimary,
    db: Number(db),
    username: decode(groups.user),
    password: decode(groups.password),
    tls: groups.scheme === 'rediss',
  }
}

function parseServer(text: string, defaultPort: number): StoreServer {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text)
  const host = parts?.[1] ?? parts?.[2]
  const port = parts?.[3] === undefined ? defaultPort : Number(parts[3])
  if (host === undefined || port < 1 || port > 65535) {
    throw new Error(
      'store.redis holds a host or port that is not valid; write host:6379, an IPv6 address in brackets',
    )
  }
  return { host, port }
}

function decode(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Error(
      'store.redis has a user or password that is not percent-encoded properly; write % itself as %25',
    )
  }
}

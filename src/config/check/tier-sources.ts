import { isExposedOnTheWay, isLoopback } from '../../net/addresses.js'
import {
  asList,
  type Draft,
  type DraftConfig,
  type Locate,
  present,
  type Report,
} from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import { CONSUMER } from '../values/tier-source-url.js'

/** Checks the sources of tiers beyond the schema. */

export function checkTierSources(
  { tier_sources: sources, consumers }: DraftConfig,
  error: Report,
  warning: Report,
  locate: Locate,
): void {
  const onlyByAddress = asList(consumers).every((source) => source !== undefined && 'ip' in source)
  if (asList(sources).length > 0 && onlyByAddress) {
    const wrong = 'never asked: all consumers are identified by address'
    warning(['tier_sources'], `${wrong}; add another source to consumers, or remove this`)
  }
  const names = new Map<string, number>()
  for (const [i, source] of present(sources)) {
    const kind = 'postgres' in source ? 'postgres' : 'http'
    const settings = 'postgres' in source ? source.postgres : 'http' in source ? source.http : undefined
    if (settings === undefined) continue
    const name = settings.name ?? kind
    const before = names.get(name)
    if (before !== undefined) {
      const at = Object.hasOwn(settings, 'name') ? ['tier_sources', i, kind, 'name'] : ['tier_sources', i]
      error(at, `has the name "${name}" of ${locate(['tier_sources', before], at)}; give each its own name`)
    } else names.set(name, i)
    // If headers are sent, one of them is usually a secret. The gateway cannot tell if the address holds one.
    const { url } = settings
    if ('headers' in settings && url !== undefined && isExposedOnTheWay(url.replaceAll(CONSUMER, 'id'))) {
      const wrong = 'anyone on the network path can read the headers, and put consumers on any tier'
      warning(['tier_sources', i, kind, 'url'], `${wrong}; use https, or a private network`)
    }
    if (kind === 'postgres' && url !== undefined && saysNothingOfTls(url)) {
      const wrong = 'without sslmode, anyone on the network path can read and change queries'
      const fix = 'add ?sslmode=verify-full, or sslmode=disable in a private network'
      warning(['tier_sources', i, kind, 'url'], `${wrong}; ${fix}`)
    }
    if (!('query' in settings) || settings.query === undefined) continue
    const path = ['tier_sources', i, kind, 'query']
    if (!/\$1(?!\d)/.test(settings.query)) {
      error(path, 'has no $1, so all consumers get the same tier; write WHERE consumer = $1')
    }
    if (/\$([2-9]|1\d)/.test(settings.query)) {
      error(path, 'uses more parameters than $1, which is the only one; remove the others')
    }
  }
}

/**
 * Returns true for a server on another machine whose URL leaves TLS open. `sslmode=disable` is explicit. The parameter
 * `host` may name a socket of this machine.
 */
function saysNothingOfTls(url: string): boolean {
  const { hostname, searchParams } = new URL(url)
  const host = searchParams.get('host') ?? hostname.replace(/^\[|\]$/g, '')
  return !searchParams.has('sslmode') && !host.startsWith('/') && !isLoopback(host)
}

/**
 * Returns true if a source may return the consumer's tenant. For a table, the query must mention the column `tenant`. A
 * part that could not be read may be the one.
 */
export function mayTellTenants(source: Draft<Config['tier_sources'][number]>): boolean {
  if ('postgres' in source) return /\btenant\b/i.test(source.postgres?.query ?? 'tenant')
  return 'http' in source ? source.http === undefined || Object.hasOwn(source.http, 'tenant') : true
}

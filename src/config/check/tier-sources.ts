import { isLoopback, isOpenToTheWay } from '../../net/addresses.js'
import { asList, type Draft, type DraftConfig, type Say } from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import { CONSUMER } from '../values/tier-source-url.js'

/** Checks the sources of tiers beyond the schema. */

export function checkPlans(
  { tier_sources: sources, consumers }: DraftConfig,
  error: Say,
  warning: Say,
): void {
  const onlyByAddress = asList(consumers).every((source) => source !== undefined && 'ip' in source)
  if (asList(sources).length > 0 && onlyByAddress) {
    warning(
      ['tier_sources'],
      'never asked: all consumers are known by their address; add another source to consumers, or remove this',
    )
  }
  const names = new Map<string, number>()
  for (const [i, source] of asList(sources).entries()) {
    if (source === undefined) continue
    const kind = 'postgres' in source ? 'postgres' : 'http'
    const settings = 'postgres' in source ? source.postgres : 'http' in source ? source.http : undefined
    if (settings === undefined) continue
    const name = settings.name ?? kind
    const before = names.get(name)
    if (before !== undefined) {
      const at = Object.hasOwn(settings, 'name') ? ['tier_sources', i, kind, 'name'] : ['tier_sources', i]
      error(at, `called "${name}", as tier_sources[${before}] is; give each a name of its own`)
    } else names.set(name, i)
    // If headers are sent, one of them is usually a secret. The gateway cannot tell if the address holds one.
    if ('headers' in settings && settings.url !== undefined) {
      if (isOpenToTheWay(settings.url.replaceAll(CONSUMER, 'id'))) {
        const wrong = 'who is on the way to it can read its headers, and put consumers on any tier'
        warning(['tier_sources', i, kind, 'url'], `${wrong}; take https, or a network that is yours alone`)
      }
    }
    if (kind === 'postgres' && settings.url !== undefined && saysNothingOfTls(settings.url)) {
      const wrong =
        'without sslmode nothing is encrypted: who is on the way can read and change what is asked'
      const fix = 'add ?sslmode=verify-full, or sslmode=disable in a network that is yours alone'
      warning(['tier_sources', i, kind, 'url'], `${wrong}; ${fix}`)
    }
    if (!('query' in settings) || settings.query === undefined) continue
    const path = ['tier_sources', i, kind, 'query']
    if (!/\$1(?!\d)/.test(settings.query)) {
      error(path, 'has no $1, so that all consumers get the same tier; write WHERE consumer = $1')
    }
    if (/\$([2-9]|1\d)/.test(settings.query)) {
      error(path, 'asks for more than $1, and there is nothing else to give; leave the others out')
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
 * Returns true if a source may return the consumer's tenant. For a table, the query must mention the column `tenant`.
 */
export function tellsTenants(source: Config['tier_sources'][number]): boolean {
  return 'postgres' in source ? /\btenant\b/i.test(source.postgres.query) : source.http.tenant !== undefined
}

/** Does the same for a source that could only be read in part. */
export function mayTellTenants(source: Draft<Config['tier_sources'][number]>): boolean {
  if ('postgres' in source) return /\btenant\b/i.test(source.postgres?.query ?? 'tenant')
  return 'http' in source ? source.http === undefined || Object.hasOwn(source.http, 'tenant') : true
}

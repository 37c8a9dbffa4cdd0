import { formatListen, isLoopback } from '../../net/addresses.js'
import {
  asList,
  type Draft,
  type DraftConfig,
  knownTier,
  named,
  type Path,
  present,
  type Report,
} from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import { headersOf } from '../values/credential-kinds.js'
import { addressesOf } from './listener.js'
import { mayTellTenants } from './tier-sources.js'
import { checkTokens, issuersOf } from './tokens.js'

/** Checks the sources of consumers beyond the schema. */

type HeaderSettings = Extract<Config['consumers'][number], { header: object }>['header']

export function checkConsumers(config: DraftConfig, error: Report, warning: Report): void {
  const { consumers, tiers } = config
  const headers = new Map<string, number>()
  const hashes = new Set<string>()
  let ip: number | undefined
  for (const [i, source] of present(consumers)) {
    if (ip !== undefined) {
      error(['consumers', i], `never reached: consumers[${ip}], ip, identifies every client; put ip last`)
    }
    if ('ip' in source && source.ip !== undefined) ip ??= i
    for (const [header] of headersOf(source)) {
      const before = headers.get(header.replaceAll('_', '-'))
      if (before !== undefined) {
        const wrong = `reads the header "${header}", as consumers[${before}] does`
        const both = 'jwt' in source ? 'list the issuers of both under one jwt: issuers' : 'join the two'
        error(['consumers', i], `${wrong}; ${both}, or take another`)
      } else headers.set(header.replaceAll('_', '-'), i)
    }
    if ('header' in source && source.header !== undefined)
      checkBelieved(source.header, config, ['consumers', i, 'header'], error, warning)
    if ('jwt' in source && source.jwt !== undefined)
      checkTokens(source.jwt, ['consumers', i, 'jwt'], error, warning)
    if (!('api_key' in source)) continue
    if (source.api_key?.keys?.length === 0 && source.api_key.store?.enabled === false) {
      const fix = 'give keys, or store: true for keys made with tidegate key'
      error(['consumers', i, 'api_key'], `has no keys, so every client gets 401; ${fix}`)
    }
    for (const [k, key] of present(source.api_key?.keys)) {
      const path = ['consumers', i, 'api_key', 'keys', k]
      knownTier(tiers, key.tier, [...path, 'tier'], error)
      if (key.sha256 === undefined) continue
      if (hashes.has(key.sha256)) error(path, 'this key is listed twice; a key belongs to one consumer')
      hashes.add(key.sha256)
    }
  }
}

/** Reports an identity header that every client could set, if clients connect from other machines. */
function checkBelieved(
  header: Draft<HeaderSettings>,
  config: DraftConfig,
  path: Path,
  error: Report,
  warning: Report,
): void {
  const { trusted_proxies: proxies } = config
  const open = addressesOf(config).find(({ host = 'localhost', serves }) => serves && !isLoopback(host))
  if (open?.host === undefined || open.port === undefined) return
  const where = formatListen({ host: open.host, port: open.port })
  const { name, from } = header
  if (named(from).some((block) => block === 'anyone' || block.endsWith('/0'))) {
    const wrong = `every client that reaches ${where} can choose its consumer`
    warning([...path, 'from'], `${wrong}; name the addresses that set ${name ?? 'it'}`)
  } else if (!Object.hasOwn(header, 'from') && proxies !== undefined && asList(proxies).length === 0) {
    const wrong = `does not say who may set ${name ?? 'the header'}, and other machines can reach ${where}`
    const fix = 'write from: with addresses, such as [10.0.0.0/8], or list them in trusted_proxies'
    error(path, `${wrong}; ${fix} (from: anyone lets every client choose)`)
  }
}

/** Warns about stored keys that a restart would lose. */
export function checkStoredKeys({ consumers, store }: DraftConfig, warning: Report): void {
  if (store === undefined || Object.hasOwn(store, 'redis')) return
  for (const [i, source] of present(consumers)) {
    if (!('api_key' in source) || source.api_key?.store?.enabled !== true) continue
    const wrong = 'without store.redis, the gateway keeps these keys in memory and loses them at its end'
    warning(['consumers', i, 'api_key', 'store'], `${wrong}; set store.redis to keep them`)
  }
}

/** Warns about a limit by tenant if no consumer has a tenant. */
export function checkTenants(
  { consumers, services, tier_sources: sources }: DraftConfig,
  warning: Report,
): void {
  const known = asList(consumers).some((source) => {
    if (source === undefined) return true
    if ('header' in source) return source.header === undefined || Object.hasOwn(source.header, 'tenant')
    if ('signature' in source)
      return asList(source.signature?.keys).some((key) => key === undefined || Object.hasOwn(key, 'tenant'))
    if ('forward' in source) return source.forward === undefined || Object.hasOwn(source.forward, 'tenant')
    if ('jwt' in source) return source.jwt === undefined || issuersOf(source.jwt).some(hasTenant)
    return (
      'api_key' in source &&
      (source.api_key?.store?.enabled !== false ||
        asList(source.api_key.keys).some((key) => key === undefined || Object.hasOwn(key, 'tenant')))
    )
  })
  if (known || consumers === undefined) return
  if (asList(sources).some((source) => source === undefined || mayTellTenants(source))) return
  for (const [name, service] of Object.entries(services ?? {})) {
    for (const [tier, limits] of Object.entries(service?.limits ?? {})) {
      if (limits === 'unlimited') continue
      const i = asList(limits).findIndex((limit) => limit?.by === 'tenant')
      if (i < 0) continue
      const wrong = 'no consumer has a tenant, so each counts as its own'
      const fix = 'give keys a tenant, or the header source a tenant header'
      warning(['services', name, 'limits', tier, i, 'by'], `${wrong}; ${fix}`)
    }
  }
}

function hasTenant(issuer: object | undefined): boolean {
  return issuer === undefined || Object.hasOwn(issuer, 'tenant')
}

import { mayTellTenants } from './check-plans.js'
import { checkTokens, issuersOf } from './check-tokens.js'
import { asList, type DraftConfig, headersOf, knownTier, type Say } from './draft.js'

/** What the schema cannot say of the ways in which callers are known. */

export function checkConsumers({ consumers, tiers }: DraftConfig, error: Say, warning: Say): void {
  const headers = new Map<string, number>()
  const hashes = new Set<string>()
  let ip: number | undefined
  for (const [i, source] of asList(consumers).entries()) {
    if (source === undefined) continue
    if (ip !== undefined) {
      error(['consumers', i], `never reached: consumers[${ip}], ip, knows every caller; put ip last`)
    }
    if ('ip' in source && source.ip !== undefined) ip ??= i
    for (const header of headersOf(source)) {
      const before = header === undefined ? undefined : headers.get(header.replaceAll('_', '-'))
      if (before !== undefined) {
        const wrong = `reads the header "${header}", as consumers[${before}] does`
        const both = 'jwt' in source ? 'list the issuers of both under one jwt: issuers' : 'join the two'
        error(['consumers', i], `${wrong}; ${both}, or take another`)
      } else if (header !== undefined) headers.set(header.replaceAll('_', '-'), i)
    }
    if ('jwt' in source && source.jwt !== undefined)
      checkTokens(source.jwt, ['consumers', i, 'jwt'], error, warning)
    if (!('api_key' in source)) continue
    if (source.api_key?.keys?.length === 0 && source.api_key.store?.enabled === false) {
      const fix = 'give keys, or store: true for those of tidegate key'
      error(['consumers', i, 'api_key'], `knows no key, so that it answers every caller with 401; ${fix}`)
    }
    for (const [k, key] of asList(source.api_key?.keys).entries()) {
      const path = ['consumers', i, 'api_key', 'keys', k]
      knownTier(tiers, key?.tier, [...path, 'tier'], error)
      if (key?.sha256 === undefined) continue
      if (hashes.has(key.sha256))
        error(path, 'the same key is given above already; a key belongs to one consumer')
      hashes.add(key.sha256)
    }
  }
}

/** Keys that a restart would make an end of. */
export function checkStoredKeys({ consumers, store }: DraftConfig, warning: Say): void {
  if (store === undefined || Object.hasOwn(store, 'redis')) return
  for (const [i, source] of asList(consumers).entries()) {
    if (source === undefined || !('api_key' in source) || source.api_key?.store?.enabled !== true) continue
    const wrong =
      'without store.redis, keys of tidegate key are in the memory of the gateway, and gone with it'
    warning(['consumers', i, 'api_key', 'store'], `${wrong}; set store.redis to keep them`)
  }
}

/** A limit by tenant where nobody has one. */
export function checkTenants(
  { consumers, services, tier_sources: sources }: DraftConfig,
  warning: Say,
): void {
  const known = asList(consumers).some((source) => {
    if (source === undefined) return true
    if ('header' in source) return source.header === undefined || Object.hasOwn(source.header, 'tenant')
    if ('signature' in source)
      return asList(source.signature?.keys).some((key) => key === undefined || Object.hasOwn(key, 'tenant'))
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
      if (limits === undefined || limits === 'unlimited') continue
      const i = asList(limits).findIndex((limit) => limit?.by === 'tenant')
      if (i < 0) continue
      const wrong = 'no consumer has a tenant, so that each counts as one'
      const fix = 'give keys a tenant, or the header source the header that holds it'
      warning(['services', name, 'limits', tier, i, 'by'], `${wrong}; ${fix}`)
    }
  }
}

function hasTenant(issuer: object | undefined): boolean {
  return issuer === undefined || Object.hasOwn(issuer, 'tenant')
}

import type { Config } from '../../config/schema/schema.js'
import type { ConsumerSource, SourceOf } from '../../config/snapshot/consumers.js'
import { type Door, doorsOf, formatAddress } from '../../config/snapshot/doors.js'
import type { Limit } from '../../config/snapshot/limit.js'
import { limitData, limitText } from '../../config/snapshot/limit.js'
import type { Policy } from '../../config/snapshot/policy.js'
import { routeData } from '../../config/snapshot/route-data.js'
import { mostSpecificFirst } from '../../config/snapshot/route-order.js'
import type { Route, Service, Snapshot } from '../../config/snapshot/snapshot.js'
import { readRedisAddress, redisHosts } from '../../config/values/redis-address.js'
import { formatListen } from '../../net/addresses.js'
import { describeResilience, resilienceData } from './describe-resilience.js'
import { describeTierSources, sourceName } from './describe-tier-sources.js'
import { upstreamRows } from './describe-upstreams.js'
import { counted, details, fits, rowsOf, table, wrapped } from './terminal.js'

/** Describes a valid configuration for a person. */
export function describeConfig(file: string, snapshot: Snapshot, columns?: number): string {
  const { config, tiers, services, routes } = snapshot
  const head = [
    ...doorsOf(config).map((door, i) => [i === 0 ? 'listen' : '', describeDoor(door, config.server)]),
    ['admin', `${formatListen(config.admin.listen)}${describeTokens(config.admin)}`],
    ['includes', (config.include ?? []).join(', ')],
    ['store', describeStore(config.store)],
    ['consumers', snapshot.consumers.map(describeConsumers).join(', then ')],
    ['extensions', (config.extensions ?? []).map(({ name, module }) => `${name} (${module})`).join(', ')],
    [
      'tiers',
      config.tier_sources.length === 0 ? '' : describeTierSources(config, tiers[snapshot.defaultTier]!),
    ],
  ]
  const lines = mostSpecificFirst(routes).map(({ route, host }) => [
    route.methods.length === 0 ? '*' : route.methods.join(','),
    host + route.path,
    describeDestination(config, route),
    [describeCost(config, route), describeShape(config, route)].filter((text) => text !== '').join(', '),
  ])
  const rows = upstreamRows(services)
  const upstreams = rows.length === 0 ? '' : rowsOf(rows, columns)
  return `${wrapped(`${file} is good, hash ${snapshot.hash}`, 0, columns)}

${details(head, columns)}

services, with their limits by tier
${tierTable(snapshot, columns)}
${upstreams === '' ? '' : `\nupstreams of services that have several, or check them\n${upstreams}\n`}${describeResilience(snapshot, columns)}
routes, the most specific first
${rowsOf(lines, columns)}

${counted(services.length, 'service')}, ${counted(tiers.length, 'tier')}, ${counted(routes.length, 'route')}`
}

/** Formats services by tier, with the limits as in the file. The default tier is marked. */
export function tierTable({ tiers, defaultTier, services }: Snapshot, columns?: number): string {
  const names = tiers.map((tier, i) => (i === defaultTier ? `${tier} (default)` : tier))
  const rows = services.flatMap((service) => {
    const cells = [[service.name], ...service.policies.map(describePolicy)]
    const lines = Math.max(...cells.map((cell) => cell.length))
    return Array.from({ length: lines }, (_, i) => cells.map((cell) => cell[i] ?? ''))
  })
  const whole = table([['', ...names], ...rows], 2)
  if (fits(whole, columns)) return whole
  return services
    .map(({ name, policies }) => {
      const limits = policies.map((policy, i) => [names[i]!, describePolicy(policy).join(', ')])
      return `  ${name}\n${details(limits, columns, 4)}`
    })
    .join('\n')
}

/** Width above which each limit has its own line. */
const CELL = 32

/** Returns true for a limit of the file. A share is described with the limit that it is a share of. */
const isWritten = ({ shareOf }: Limit) => shareOf === undefined

function describePolicy(policy: Policy | undefined): string[] {
  if (policy === undefined) return ['unlimited']
  const tried =
    policy.candidate?.limits.filter(isWritten).map((limit) => `candidate ${limitText(limit)}`) ?? []
  const limits = [...policy.limits.filter(isWritten).map(limitText), ...tried]
  const line = limits.join(', ')
  return line.length <= CELL ? [line] : limits
}

/** Describes the cost settings. Empty for the default: a cost of 1, whatever the result of the request. */
function describeCost(config: Config, { index, cost, costFrom, costHeader }: Route): string {
  const { refund_on: refundOn } = config.routes[index]!
  const parts: string[] = []
  if (cost !== 1 || costFrom !== undefined) parts.push(`cost ${cost}`)
  if (costFrom !== undefined) {
    const [first, ...others] = costFrom.consumers
    const whose = others.length === 0 ? first : `${first} and ${others.length} more`
    parts.push(`${costFrom.header} of ${whose} up to ${costFrom.max}`)
  }
  if (costHeader !== undefined) parts.push(`cost from ${costHeader} of the response`)
  if (refundOn !== undefined) parts.push(`refunded on ${refundOn.join(' ')}`)
  return parts.join(', ')
}

function describeDestination(config: Config, { index, service }: Route): string {
  const { split, sticky, respond } = config.routes[index]!
  if (respond !== undefined) return `responds with ${respond.status}`
  const shares = split?.map((share) => `${share.service} ${share.weight}`).join(', ')
  const name = shares === undefined ? service.name : sticky === undefined ? shares : `${shares} by ${sticky}`
  return service.maintenance === undefined || split !== undefined ? name : `${name} (in maintenance)`
}

/** Names what a route changes in messages. */
function describeShape(config: Config, { index }: Route): string {
  const { auth, use, rewrite, headers, cors, compress, mirror } = config.routes[index]!
  const parts: string[] = []
  if (auth !== undefined) parts.push(describeAuth(auth))
  if (use !== undefined) parts.push(`uses ${use.join(', ')}`)
  if (rewrite !== undefined) parts.push(`rewritten to ${rewrite}`)
  if (headers !== undefined) parts.push('changes headers')
  if (cors !== undefined) parts.push(`CORS for ${cors.origins.join(' ')}`)
  if (compress?.enabled === true) parts.push(`compressed by ${compress.encodings.join(' or ')}`)
  if (mirror !== undefined) parts.push(`mirrors ${mirror.share} % to ${mirror.service}`)
  return parts.join(', ')
}

function describeAuth({
  any_of: kinds,
  required,
  scopes,
  forward,
}: NonNullable<Config['routes'][number]['auth']>): string {
  const who = kinds === undefined ? 'a credential' : kinds.join(' or ')
  const may = scopes.length === 0 ? '' : ` with ${scopes.join(' ')}`
  const then = forward === undefined ? '' : `, ${new URL(forward.url).host} decides`
  return (required ? `requires ${who}${may}` : `accepts ${who} or none`) + then
}

function describeConsumers(source: ConsumerSource): string {
  switch (source.kind) {
    case 'api_key':
      return `API key in ${source.header} (${keysOf(source)})`
    case 'header':
      return source.tenant === undefined
        ? `id in ${source.header}`
        : `id in ${source.header} (tenant in ${source.tenant})`
    case 'client_certificate':
      return `client certificate (${source.id})`
    case 'signature':
      return `signed request (${source.keys.size} known)`
    case 'jwt':
      return `token in ${source.header} (${source.issuers.map(({ issuer }) => issuer).join(', ')})`
    case 'extension':
      return `extension ${source.extension}`
    case 'forward':
      return `${source.headers.join(' or ')} (${source.check.name} decides)`
    case 'ip':
      return 'address'
  }
}

function keysOf({ keys, storeGrace }: SourceOf<'api_key'>): string {
  const known = `${keys.size} known`
  if (storeGrace === undefined) return known
  return keys.size === 0 ? 'keys of the store' : `${known}, and keys of the store`
}

/** Describes an address. For plain text from any client, that is all. */
function describeDoor({ at, tls, redirect }: Door, { proxy_protocol: proxied }: Config['server']): string {
  const parts = [formatAddress(at)]
  if (proxied) parts.push('behind the PROXY protocol')
  if (redirect !== undefined)
    parts.push(`redirects to https${redirect === 443 ? '' : ` on port ${redirect}`}`)
  if (tls !== undefined) {
    const {
      min_version: oldest,
      certificates,
      client_ca: ca,
      client_certificate: mode = 'required',
    } = tls.settings
    parts.push(`${oldest} or later`, counted(certificates.length, 'certificate'))
    if (ca !== undefined) parts.push(`client certificates ${mode}`)
  }
  return parts.join(', ')
}

function describeTokens({ token, tokens, oidc }: Config['admin']): string {
  const count = tokens.length + (token === undefined ? 0 : 1)
  const own = count === 0 ? [] : [count === 1 ? 'a token' : `${count} tokens`]
  const all = oidc === undefined ? own : [...own, `tokens of ${oidc.issuer}`]
  return all.length === 0 ? '' : `, with ${all.join(' and ')}`
}

function describeStore({ redis, timeout, on_failure: onFailure }: Config['store']): string {
  if (redis === undefined) return 'in the memory of the process'
  // Shows the address only: the URL may hold a password.
  const hosts = (typeof redis === 'string' ? [redis] : redis).flatMap((url) => {
    const address = readRedisAddress(url, () => undefined)
    return address === undefined ? [] : redisHosts(address)
  })
  return `Redis at ${hosts.join(', ')}, timeout ${timeout} ms, ${onFailure} on failure`
}

/** Summarizes the configuration for a program, which gets no key that is undefined. Nothing in it is a secret. */
export function summarizeConfig({ hash, config, tiers, defaultTier, services, routes }: Snapshot): object {
  return {
    hash,
    listen:
      'host' in config.listen
        ? formatListen(config.listen)
        : doorsOf(config).map(({ at }) => formatAddress(at)),
    admin: formatListen(config.admin.listen),
    store: config.store.redis === undefined ? 'memory' : 'redis',
    tiers,
    default_tier: tiers[defaultTier],
    tier_sources: config.tier_sources.length === 0 ? undefined : config.tier_sources.map(sourceName),
    services: services.map((service) => ({
      name: service.name,
      upstreams: service.upstreams.map(({ origin, basePath }) => origin + basePath),
      on_failure: service.onFailure,
      limits: limitsByTier(service, tiers),
      ...resilienceData(service),
    })),
    routes: mostSpecificFirst(routes).map(({ route, host }) => ({
      host: host === '' ? undefined : host,
      ...routeData(config, route),
    })),
  }
}

function limitsByTier(service: Service, tiers: readonly string[]): object {
  const shown = (policy: Policy | undefined) =>
    policy === undefined
      ? 'unlimited'
      : [
          ...policy.limits.map(limitData),
          ...(policy.candidate?.limits ?? []).map((limit) => ({ ...limitData(limit), candidate: true })),
        ]
  return Object.fromEntries(tiers.map((tier, i) => [tier, shown(service.policies[i])]))
}

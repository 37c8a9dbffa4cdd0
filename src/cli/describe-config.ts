import { formatListen } from '../config/addresses.js'
import { formatRate } from '../config/quantities.js'
import { readRedisAddress, redisHosts } from '../config/redis-address.js'
import type { Config } from '../config/schema.js'
import type { ConsumerSource, Policy, Service, Snapshot } from '../config/snapshot.js'
import { mostSpecificFirst } from './route-order.js'
import { table } from './terminal.js'

/** What a good configuration holds, for a person. */
export function describeConfig(file: string, snapshot: Snapshot): string {
  const { config, tiers, services, routes } = snapshot
  const head = [
    ['listen', formatListen(config.listen)],
    [
      'admin',
      `${formatListen(config.admin.listen)}${config.admin.token === undefined ? '' : ', with a token'}`,
    ],
    ['store', describeStore(config.store)],
    ['consumers', snapshot.consumers.map(describeConsumers).join(', then ')],
  ]
  const lines = mostSpecificFirst(routes).map(({ route, host }) => [
    route.methods.length === 0 ? '*' : route.methods.join(','),
    host + route.path,
    route.service.name,
    route.cost === 1 ? '' : `cost ${route.cost}`,
  ])
  return `${file} is good, hash ${snapshot.hash}

${table(head, 2)}

services, and their limits for each tier
${tierTable(snapshot)}

routes, the most specific first
${table(lines, 2)}

${services.length} services, ${tiers.length} tiers, ${routes.length} routes`
}

/** Service by tier, with the limits as they stand in the file. The default tier is marked. */
export function tierTable({ tiers, defaultTier, services }: Snapshot): string {
  const head = ['', ...tiers.map((tier, i) => (i === defaultTier ? `${tier} (default)` : tier))]
  const rows = services.map((service) => [service.name, ...service.policies.map(describePolicy)])
  return table([head, ...rows], 2)
}

function describePolicy(policy: Policy | undefined): string {
  return policy?.limits.map(({ amount, windowMs }) => formatRate(amount, windowMs)).join(', ') ?? 'unlimited'
}

function describeConsumers(source: ConsumerSource): string {
  switch (source.kind) {
    case 'api_key':
      return `API key in ${source.header} (${source.keys.size} known)`
    case 'header':
      return `id in ${source.header}`
    case 'ip':
      return 'address'
  }
}

function describeStore({ redis, timeout, on_failure: onFailure }: Config['store']): string {
  if (redis === undefined) return 'in the memory of the process'
  // No more than the address: the URL may hold a password.
  const hosts = (typeof redis === 'string' ? [redis] : redis).flatMap((url) => {
    const address = readRedisAddress(url, () => undefined)
    return address === undefined ? [] : redisHosts(address)
  })
  return `Redis at ${hosts.join(', ')}, at most ${timeout} ms, ${onFailure} when it fails`
}

/** The same for a program. Nothing here is a secret. */
export function summarizeConfig({ hash, config, tiers, defaultTier, services, routes }: Snapshot): object {
  return {
    hash,
    listen: formatListen(config.listen),
    admin: formatListen(config.admin.listen),
    store: config.store.redis === undefined ? 'memory' : 'redis',
    tiers,
    default_tier: tiers[defaultTier],
    services: services.map((service) => ({
      name: service.name,
      upstreams: service.upstreams.map(({ origin, basePath }) => origin + basePath),
      on_failure: service.onFailure,
      limits: limitsByTier(service, tiers),
    })),
    routes: mostSpecificFirst(routes).map(({ route, host }) => ({
      ...(host === '' ? {} : { host }),
      path: route.path,
      methods: route.methods,
      service: route.service.name,
      cost: route.cost,
    })),
  }
}

function limitsByTier(service: Service, tiers: readonly string[]): object {
  const shown = (policy: Policy | undefined) =>
    policy?.limits.map(({ name, amount, windowMs }) => ({ name, amount, window_ms: windowMs })) ?? 'unlimited'
  return Object.fromEntries(tiers.map((tier, i) => [tier, shown(service.policies[i])]))
}

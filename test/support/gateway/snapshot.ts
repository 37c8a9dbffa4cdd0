import type { Config } from '../../../src/config/schema/schema.js'
import { NO_CDN } from '../../../src/config/snapshot/cdn.js'
import type { EdgeRules } from '../../../src/config/snapshot/edge.js'
import type { Limit } from '../../../src/config/snapshot/limit.js'
import { type Policy, policyOf } from '../../../src/config/snapshot/policy.js'
import type { ResilienceSettings } from '../../../src/config/snapshot/resilience.js'
import type { Route, Service, Snapshot } from '../../../src/config/snapshot/snapshot.js'
import type { Upstream, UpstreamSettings } from '../../../src/config/snapshot/upstream-settings.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'

/**
 * Makes a compiled snapshot by hand: two services on three tiers, three routes. For tests of code that reads snapshots, without a file to
 * load. `match` finds nothing: routing needs a compiled one.
 */
export function exampleSnapshot(
  changes: { readonly hash?: string; readonly loadedAt?: number } = {},
): Snapshot {
  const services = [
    service(
      0,
      'payments',
      ['http://127.0.0.1:9001', 'http://127.0.0.1:9011'],
      [
        policy(limit('minute', 10, 60_000)),
        policy(limit('second', 5, 1000), limit('minute', 100, 60_000)),
        policy(limit('minute', 1000, 60_000)),
      ],
    ),
    service(
      1,
      'marketing',
      ['https://marketing.internal'],
      [policy(limit('minute', 60, 60_000)), undefined, undefined],
    ),
  ]
  return {
    hash: changes.hash ?? '0123456789ab',
    fingerprint: changes.hash ?? '0123456789ab',
    loadedAt: changes.loadedAt ?? 1_760_000_000_000,
    config: {} as Config,
    tiers: ['free', 'pro', 'enterprise'],
    priorities: [0, 1, 2],
    classes: 3,
    defaultTier: 0,
    consumers: [
      {
        kind: 'api_key',
        header: 'x-api-key',
        headers: ['x-api-key'],
        keys: new Map([
          ['0'.repeat(64), { consumer: 'acme', tier: 1, tenant: undefined, scopes: undefined }],
        ]),
        storeGrace: undefined,
      },
      { kind: 'ip', headers: [] },
    ],
    identityHeaders: new Set(['x-api-key']),
    sentHeaders: new Set(),
    toldHeaders: new Set(['x-consumer-id', 'x-consumer-tier', 'x-consumer-tenant']),
    publicKeys: [],
    extensions: new Map(),
    isTrustedProxy: () => false,
    edge: NO_EDGE,
    services,
    routes: [
      route(0, '/payments/*', services[0]!, 1),
      route(1, '/payments/refunds', services[0]!, 5),
      route(2, '/marketing/*', services[1]!, 1),
    ],
    match: () => undefined,
  }
}

/** Upstream settings of a service when the file has none. */
export const PLAIN_UPSTREAMS: UpstreamSettings = {
  upstreams: [],
  balance: { kind: 'round_robin' },
  slowStart: 0,
  maxConnections: 128,
  maxTunnels: 1024,
  maxTunnelsPerClient: 256,
  maxWaiting: 1000,
  maxWait: 1000,
  health: undefined,
  outliers: undefined,
}

/** Settings of retries and the like when the file has none. */
export const PLAIN_RESILIENCE: ResilienceSettings = {
  retries: { budget: 0.1, attempts: 1 },
  circuitBreaker: undefined,
  concurrency: undefined,
}

function limit(name: string, amount: number, windowMs: number): Limit {
  return {
    name,
    algorithm: 'sliding',
    by: 'consumer',
    amount,
    windowMs,
    burst: amount,
    calendar: undefined,
    share: undefined,
    shareOf: undefined,
    changed: undefined,
    next: undefined,
  }
}

function policy(...limits: readonly Limit[]): Policy {
  return policyOf(limits, { refunds: false, candidate: undefined })
}

function service(
  index: number,
  name: string,
  origins: readonly string[],
  policies: readonly (Policy | undefined)[],
): Service {
  const upstreams = origins.map(
    (origin): Upstream => ({
      origin,
      host: new URL(origin).host,
      basePath: '',
      connectMs: 2_000,
      tls: undefined,
      protocol: 'http1',
      key: origin,
      weight: 1,
    }),
  )
  return {
    ...PLAIN_UPSTREAMS,
    ...PLAIN_RESILIENCE,
    index,
    name,
    upstreams,
    onFailure: 'open',
    policies,
    exempt: undefined,
    showDecidedBy: false,
    maintenance: undefined,
    identity: undefined,
  }
}

function route(index: number, path: string, of: Service, cost: number): Route {
  return {
    index,
    label: path,
    path,
    hosts: [],
    methods: [],
    service: of,
    quotaOf: of,
    split: undefined,
    auth: undefined,
    hooks: undefined,
    shape: undefined,
    mirror: undefined,
    stripPrefix: '',
    rewriteLocation: true,
    cost,
    costFrom: undefined,
    refundOn: undefined,
    costHeader: undefined,
    allowEncoded: false,
    preserveHost: false,
    bodyLimit: 1_048_576,
    accessLog: true,
    timeouts: { connect: 2_000, request: 60_000, total: 60_000, headers: 30_000, idle: 30_000 },
    websocket: { enabled: false, handshake: 10_000, idle: 60_000 },
  }
}

/** Returns an allowed decision of the store, with the given changes. */
export function exampleDecision(changes: Partial<Decision> = {}): Decision {
  return {
    allowed: true,
    decidedBy: 'store',
    reason: undefined,
    binding: 0,
    violated: 0,
    remaining: 9,
    resetMs: 30_000,
    retryMs: 0,
    at: 0,
    ...changes,
  }
}

/** Returns a successful GET of the first route by a free consumer, with the given changes. */
export function exampleRecord(snapshot: Snapshot, changes: Partial<RequestRecord> = {}): RequestRecord {
  const { route = snapshot.routes[0]!, tier = 0 } = changes
  return {
    snapshot,
    requestId: 'req-1',
    trace: undefined,
    method: 'GET',
    target: '/payments/1?card=4111',
    host: 'api.example.com',
    route,
    tier,
    tierFrom: 'default',
    tierSource: undefined,
    tierStale: false,
    tierUnchecked: false,
    limitsUnchecked: false,
    tierUntil: undefined,
    consumer: 'alice',
    identifiedBy: 'header',
    tenant: undefined,
    keyId: undefined,
    clientIp: '192.0.2.7',
    policy: route.quotaOf.policies[tier],
    decision: exampleDecision(),
    limitMs: 0.4,
    cost: undefined,
    status: 200,
    error: undefined,
    cause: undefined,
    upstream: route.service.upstreams[0],
    upstreamMs: 12.5,
    durationMs: 13.25,
    bytesIn: 0,
    bytesOut: 512,
    ...changes,
  }
}

/** The value when the file does not have the key. */
const NO_EDGE: EdgeRules = {
  active: false,
  cdn: NO_CDN,
  denied: undefined,
  allowed: undefined,
  deny: undefined,
  allow: undefined,
  silent: false,
  ipLimit: undefined,
  autoBan: undefined,
}

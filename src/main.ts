import { setTimeout as delay } from 'node:timers/promises'
import { parse } from 'yaml'
import { QUESTIONS } from './admin/server.js'
import { deferred } from './common/wait.js'
import { createExtensions, type Extensions } from './config/load/extension-instances.js'
import { type ConfigSource, openConfig, type ReloadEvent } from './config/load/reload.js'
import type { Config } from './config/schema/schema.js'
import { takesStoredKeys } from './config/snapshot/consumers.js'
import { createForwardAuth } from './credentials/forward-auth.js'
import { createSeenNonces } from './credentials/seen-nonces.js'
import { createTokens } from './credentials/tokens.js'
import { createKeyring } from './fleet/keyring.js'
import { openStore, type Store } from './fleet/open-store.js'
import { createOwnStatus } from './fleet/own-status.js'
import { type Ask, createAnswers } from './fleet/question.js'
import { buildDataPlane, buildGateway, type DataPlane } from './gateway/app.js'
import { createOverload } from './gateway/edge/overload.js'
import { createWatchdog } from './gateway/exchange/watchdog.js'
import { openDoors } from './gateway/listen/doors.js'
import { createHttp2Counts } from './gateway/listen/http2/server.js'
import { createConnectionCounts } from './gateway/listen/listener.js'
import { connectionCap } from './gateway/listen/open-files.js'
import type { TlsReload } from './gateway/listen/tls.js'
import { openMetering } from './metering/metering.js'
import { callerByAddress } from './net/address-key.js'
import { addressOf, listen } from './net/listen.js'
import { joinFleet, openAdmin } from './open-admin.js'
import { createShares } from './shares.js'
import { createKeptDecisions } from './telemetry/decisions/decision-store.js'
import { createLastSeen } from './telemetry/decisions/last-seen.js'
import { createExtensionMeters } from './telemetry/export/extension-meters.js'
import { readOtelEnvironment } from './telemetry/export/otel-environment.js'
import { createHistory } from './telemetry/history/history.js'
import type { AccessLog } from './telemetry/logs/access-log.js'
import { createLog, type EventLog } from './telemetry/logs/log.js'
import { logReload, logWarnings } from './telemetry/logs/log-reload.js'
import { openAccessLog } from './telemetry/logs/open-access-log.js'
import type { Reading } from './telemetry/metrics/process-counts.js'
import { createMetrics } from './telemetry/metrics.js'
import { telemetryOptions } from './telemetry/settings.js'
import { createTop } from './telemetry/top/top.js'
import type { Tracing, TracingOptions } from './telemetry/traces/tracing.js'
import { samplingOf } from './telemetry/traces/tracing-settings.js'
import { openTierSources } from './tier-sources/tier-sources.js'
import { createGuards } from './upstream/guard/guard.js'
import { createUpstreams } from './upstream/pool/pool.js'
import { readVersion } from './version.js'

/** How long a start waits for the store before it serves without it, in ms. */
const STORE_PATIENCE_MS = 1_000

export interface GatewayOptions {
  readonly configFile: string
  readonly env?: NodeJS.ProcessEnv
  /** Replaces the configured access log: the demo shows requests to a person. */
  readonly accessLog?: AccessLog
  /** Replaces the configured event log. */
  readonly events?: EventLog
  /** Set in one of several processes that serve together. */
  readonly member?: WorkerMember
  /**
   * Set where an application's own server takes requests and hands them over: nothing listens for them, and `server.tls` is
   * not read. Called once, when the gateway can take requests.
   */
  readonly mount?: (plane: DataPlane, log: Log) => Host
}

/** Application that hands requests over to the gateway. */
export interface Host {
  /** Resolves when every request that was handed over has ended. Called once, when no more of them come. */
  ended(): Promise<void>
  /** Ends at once those that are under way. */
  breakOff(): void
}

/** The parts that a worker process gets from its primary, which also has the admin server. */
export interface WorkerMember {
  /** Number of the worker from 1, for its log lines. */
  readonly place: number
  /** Id of the gateway, which all workers share. */
  readonly gateway: string
  openConfig(
    env: NodeJS.ProcessEnv,
    extensions: Extensions,
    onReload: (event: ReloadEvent) => void,
  ): Promise<ConfigSource>
  openStore(settings: Config['store'], log: Log): Store
}

export interface RunningGateway {
  /**
   * `http://host:port` as bound, with the real port when the config says 0; of a unix socket `unix:PATH`. Empty in an
   * application.
   */
  readonly address: string
  /** All addresses of `listen`: first those that serve requests, as `address`, then those that redirect. */
  readonly addresses: readonly string[]
  /** Address of the admin API. Empty in a worker, and in an application whose file does not set `admin`. */
  readonly adminAddress: string
  readonly config: ConfigSource
  /** Answers a question of the admin API: one of QUESTIONS, by its name. */
  answer(name: string, body: unknown): unknown
  /** Returns the metrics as data. */
  read(): Promise<Reading>
  /**
   * Drains: /readyz turns 503, in-flight requests finish, then everything is closed. Idempotent.
   *
   * @param delayMs replaces `server.shutdown_delay`: at Ctrl-C no load balancer has to notice first
   */
  close(delayMs?: number): Promise<void>
  /** Resolves when too little memory is left to go on. Close the gateway then, and let a supervisor start another. */
  readonly exhausted: Promise<void>
}

/**
 * Opens every socket and wires every part.
 *
 * @throws Error whose message is one line for the operator
 */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { configFile, env = process.env, member, mount } = options
  let onReload: (event: ReloadEvent) => void = () => {}
  const tell = (event: ReloadEvent) => onReload(event)
  const meters = createExtensionMeters()
  const extensions = createExtensions({ runs: true, meter: meters.meter })
  const config = await (member?.openConfig(env, extensions, tell) ??
    openConfig({ file: configFile, env, extensions, onReload: tell }))
  const settings = config.current().config
  const events = options.events ?? createLog({ level: settings.log.level, worker: member?.place })
  const { log } = events
  extensions.attach(log)
  const abandon = async (error: unknown): Promise<never> => {
    await Promise.allSettled([config.close(), events.close()])
    throw error
  }
  const { traces, ...telemetry } = await telemetryOptions(settings, env, log, member === undefined).catch(
    abandon,
  )
  const tracing = traces && (await openTracing({ ...traces, log }).catch(abandon))
  const counts = createConnectionCounts()
  const http2 = createHttp2Counts()
  let onTls: (result: TlsReload) => void = () => {}
  const onReloaded = (result: TlsReload) => onTls(result)
  const doors =
    mount === undefined
      ? await openDoors(settings, configFile, { log, onReload: onReloaded }).catch(abandon)
      : undefined
  const store =
    member?.openStore(settings.store, log) ??
    openStore(settings.store, log, { fleet: 'member', node: settings.instance })
  const accessLog = options.accessLog ?? openAccessLog(settings.log, log, member !== undefined)
  const metering =
    settings.metering &&
    (await openMetering({ settings: settings.metering, place: member?.place, log }).catch(abandon))
  const top = createTop()
  const shares = createShares({
    callerOf: callerByAddress((address) => config.current().isTrustedProxy(address)),
    onRefused: top.overShare,
  })
  const upstreams = createUpstreams(config.current(), { log, shares })
  const tierSources = openTierSources({ settings: settings.tier_sources, log, shares })
  const tokens = createTokens({ log, shares })
  tokens.prepare(config.current())
  const forwardAuth = createForwardAuth({ log, shares, lookup: upstreams.lookup })
  const watchdog = createWatchdog()
  const guards = createGuards()
  const { promise: exhausted, resolve: exhaust } = deferred()
  const overload = createOverload({
    settings: settings.server.shed,
    exhausted(heap) {
      log.fatal(
        { heap_percent: Math.round(heap) },
        `the heap is full: ${mount === undefined ? 'draining and exiting' : 'restart the application'}; give Node more memory (--max-old-space-size), or find what uses it`,
      )
      exhaust()
    },
  })
  const metrics = createMetrics({
    connections: () => counts,
    http2: () => http2,
    certificates: () => doors?.expiries() ?? [],
    storeState: () => store.limiter.state(),
    foreignKeys: () => store.limiter.foreignKeys(),
    storeProtocolErrors: store.protocolErrors,
    maps: store.maps,
    tierSources: tierSources.describe,
    upstreams: () => upstreams.health(),
    waiting: () => upstreams.waiting(),
    logLinesDropped: () => accessLog.dropped() + events.dropped(),
    logLinesLeftOut: accessLog.leftOut,
    guards: () => guards.describe(config.current()),
    shares: shares.all,
    tokens: tokens.readings,
    forwardAuth: forwardAuth.readings,
    bans: () => ({ ...store.bans.counts(), config: config.current().edge.denied?.size ?? 0 }),
    overload: () => overload.describe(),
    extensions: meters,
    ...telemetry,
    meter: metering?.state,
    spans: tracing?.counts,
    log,
  })
  metrics.loaded(config.current())
  onTls = metrics.certificatesReloaded
  onReload = (event) => {
    // Log rotation sends SIGHUP, too.
    if (event.trigger === 'signal') accessLog.reopen()
    metrics.reloaded(event.result, event.snapshot)
    if (event.result === 'applied') {
      upstreams.retain(event.snapshot)
      tierSources.use(event.snapshot.config.tier_sources)
      tokens.prepare(event.snapshot)
      tokens.retain(event.snapshot)
      forwardAuth.retain(event.snapshot)
      void keyring.hold(takesStoredKeys(event.snapshot.consumers))
    }
    tracing?.use(samplingOf(event.snapshot.config.telemetry, readOtelEnvironment(env)))
    if (member === undefined) logReload(log, event, config.status().changed)
    doors?.reload(event.snapshot.config)
    status.look()
  }

  const keyring = createKeyring({ store: () => store.keys })
  const keysReady = keyring.hold(takesStoredKeys(config.current().consumers))

  let phase: 'serving' | 'draining' | 'closed' = 'serving'
  const nonces = createSeenNonces()
  const parts = {
    snapshot: config.current,
    limiter: store.limiter,
    assignments: store.assignments,
    bans: store.bans,
    shareBan: store.bans.map.set,
    tierSources,
    tokens,
    forwardAuth,
    amounts: store.amounts,
    keyring,
    nonces,
    upstreams,
    shares,
    guards,
    overload,
    watchdog,
    metrics,
    top,
    tracing,
    decisions: createKeptDecisions({ keep: settings.decisions.keep }),
    seen: createLastSeen(),
    metering,
    accessLog,
    log,
    entrance: { ...doors?.entrance, counts, log },
    http2,
    draining: () => phase !== 'serving',
    mounted: mount !== undefined,
    place: member?.place,
    faults: () => [
      ...store.faults(),
      ...tierSources
        .describe()
        .filter(({ up }) => !up)
        .map(({ source }) => `the tier source ${source} does not answer: the last known tiers stay in force`),
      ...forwardAuth.down().map((name) => `the auth service ${name} does not answer: on_failure decides`),
      ...(keyring.loaded() ? [] : ['API keys are not loaded yet']),
    ],
  }
  const status = createOwnStatus({
    gateway: member?.gateway ?? store.fleet.id,
    worker: member?.place,
    version: readVersion(),
    config,
    draining: parts.draining,
    degraded: () => store.limiter.state() === 'degraded',
    faults: parts.faults,
    maps: store.maps,
    requests: metrics.requests,
    ready: store.ready,
    heartbeat: store.heartbeat,
  })
  const own = mount === undefined ? buildGateway(parts) : undefined
  const gateway = own ?? mounted(buildDataPlane(parts), mount!, log)
  const answer = createAnswers(QUESTIONS, { ...parts, status })
  const ask = (async ({ name }, body) => answer(name, body)) as Ask
  const history =
    member === undefined
      ? createHistory({
          read: metrics.traffic,
          reloads: () => config.status().reloads,
          version: readVersion(),
        })
      : undefined
  joinFleet(store, ask, history, log)
  // An application may hold several gateways: they would all have the same default.
  const hasAdmin = mount === undefined || Object.hasOwn(parse(config.source().text), 'admin')
  const admin =
    member === undefined && hasAdmin
      ? openAdmin({
          config,
          store: () => store,
          ask,
          tierSources,
          tokens,
          forwardAuth,
          nonces,
          metrics,
          history,
          phase: () =>
            phase === 'serving' ? { ready: true, reasons: [] } : { ready: false, reasons: ['shutting down'] },
          shares,
          log,
        })
      : undefined

  async function closeParts(): Promise<void> {
    status.close()
    history?.close()
    watchdog.close()
    tokens.close()
    doors?.close()
    forwardAuth.close()
    overload.close()
    await Promise.allSettled([gateway.close(), admin?.close(), config.close()])
    await keyring.close()
    await metering?.close()
    await Promise.allSettled([
      upstreams.close(),
      tierSources.close(),
      store.close(),
      metrics.close(),
      tracing?.close(),
    ])
    await Promise.allSettled([accessLog.close(), events.close()])
  }

  // The first requests should be counted, and their keys known. But a store that takes longer must not delay serving.
  await Promise.race([Promise.all([store.ready, keysReady]), delay(STORE_PATIENCE_MS)])
  try {
    if (own !== undefined) await doors?.listen(own)
    if (admin !== undefined) await listen(admin, settings.admin.listen, 'admin.listen', configFile)
  } catch (error) {
    await closeParts()
    throw error
  }
  const adminAddress = admin === undefined ? '' : addressOf(admin)
  const addresses = (own && doors?.addresses(own)) ?? []
  log.info(
    {
      ...(own === undefined
        ? { mounted: true }
        : { listen: addresses.length === 1 ? addresses[0] : addresses }),
      ...(admin === undefined ? {} : { admin: adminAddress }),
      config: configFile,
      hash: config.current().hash,
      // Fewer than configured if the process may not open as many files.
      ...(own === undefined ? {} : { max_connections: connectionCap(settings.server.max_connections) }),
    },
    'started',
  )
  if (member === undefined) logWarnings(log, config.status().warnings)

  let closing: Promise<void> | undefined
  async function drain(delayMs: number): Promise<void> {
    phase = 'draining'
    history?.note('draining', 'Shutting down')
    log.info({ delay_ms: delayMs, grace_ms: settings.server.shutdown_grace }, 'draining')
    // The gateway still accepts, and each response closes its connection: load balancers see /readyz fail and go elsewhere.
    await delay(delayMs)
    const patience = setTimeout(() => {
      log.warn({}, 'requests in flight did not finish in time; closing their connections')
      gateway.server.closeAllConnections()
    }, settings.server.shutdown_grace)
    // A response that began before the drain did not say `Connection: close`: its connection is closed once it is idle.
    const sweep = setInterval(() => gateway.server.closeIdleConnections(), 100)
    await gateway.close()
    clearInterval(sweep)
    clearTimeout(patience)
    phase = 'closed'
    log.info({}, 'stopped')
    await closeParts()
  }

  return {
    address: addresses[0] ?? '',
    addresses,
    adminAddress,
    config,
    answer,
    read: metrics.read,
    exhausted,
    close(delayMs = settings.server.shutdown_delay) {
      closing ??= drain(delayMs)
      return closing
    },
  }
}

type Log = ReturnType<typeof createLog>['log']

/** Returns the gateway in an application, in the form of a server of its own. */
function mounted(plane: DataPlane, mount: NonNullable<GatewayOptions['mount']>, log: Log) {
  const host = mount(plane, log)
  let closing: Promise<unknown> | undefined
  return {
    close() {
      closing ??= Promise.all([plane.leave(), host.ended()])
      return closing
    },
    server: { closeAllConnections: host.breakOff, closeIdleConnections() {} },
  }
}

/** Loads OpenTelemetry only if spans are sent: it takes an eighth of the CPU of a start. */
async function openTracing(options: TracingOptions): Promise<Tracing> {
  const { createTracing } = await import('./telemetry/traces/tracing.js')
  return createTracing(options)
}

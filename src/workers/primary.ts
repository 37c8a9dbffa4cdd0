import { createServer } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { createExtensions } from '../config/load/extension-instances.js'
import { type ConfigSource, openConfig, type ReloadEvent } from '../config/load/reload.js'
import type { Config } from '../config/schema/schema.js'
import { takesStoredKeys } from '../config/snapshot/consumers.js'
import { doorsOf } from '../config/snapshot/doors.js'
import { createForwardAuth } from '../credentials/forward-auth.js'
import { createTokens } from '../credentials/tokens.js'
import { openStore, type Store } from '../fleet/open-store.js'
import { callerByAddress } from '../net/address-key.js'
import { addressOf, listen, listening } from '../net/listen.js'
import { joinFleet, openAdmin } from '../open-admin.js'
import { createShares } from '../shares.js'
import { createHistory } from '../telemetry/history/history.js'
import { createLog } from '../telemetry/logs/log.js'
import { logReload, logWarnings } from '../telemetry/logs/log-reload.js'
import { trafficIn } from '../telemetry/metrics/overview.js'
import { telemetryOptions } from '../telemetry/settings.js'
import { createTop } from '../telemetry/top/top.js'
import { openTierSources } from '../tier-sources/tier-sources.js'
import { readVersion } from '../version.js'
import { createAllWorkers } from './all-workers.js'
import { createFigures } from './all-workers-metrics.js'
import { createAllTraffic } from './all-workers-traffic.js'
import { forkWorker, type Worker } from './fork.js'
import { createCountForAll } from './shared-counting.js'
import { createLeadingMaps } from './shared-maps.js'
import { createSupervisor } from './supervisor.js'

export interface PrimaryOptions {
  readonly configFile: string
  readonly workers: number
  readonly env?: NodeJS.ProcessEnv
}

/** Keys that only this process reads, at its start. */
const OWN_KEYS = /^(admin|telemetry|instance|log\.level)(\.|$)/

/**
 * Starts the process that serves only the admin API: it holds the configuration and merges the workers' metrics.
 * Rejects with an Error whose message is for the operator.
 */
export async function startPrimary(options: PrimaryOptions) {
  const { configFile, workers: count, env = process.env } = options
  let onReload: (event: ReloadEvent) => void = () => {}
  // Only checks extensions: workers run them.
  const extensions = createExtensions({ runs: false })
  const config = await openConfig({ file: configFile, env, extensions, onReload: (event) => onReload(event) })
  const settings = config.current().config
  const events = createLog({ level: settings.log.level })
  const { log } = events
  extensions.attach(log)
  const telemetry = await telemetryOptions(settings, env, log, true)
  const { instance } = settings
  function open(settings: Config['store']) {
    const told = settings.redis === undefined ? createLeadingMaps(all.put) : undefined
    const opened = openStore(settings, log, {
      decides: false,
      fleet: 'member',
      openMap: told?.open,
      node: instance,
    })
    joinFleet(opened, all.ask, history, log)
    return { ...opened, settings, told }
  }
  /** Only for the admin port, which no worker serves. */
  const top = createTop()
  const all = createAllWorkers(() => supervisor.members(), top, log)
  const { traffic, ended } = createAllTraffic(all.traffic)
  const history = createHistory({
    read: traffic,
    reloads: () => config.status().reloads,
    version: readVersion(),
  })
  let store = open(settings.store)
  /** Other gateways ask this process for the keys when the store has lost them. */
  const holdKeys = () => {
    if (takesStoredKeys(config.current().consumers)) store.keys.keys()
  }
  holdKeys()
  // The primary resolves tiers by itself for the admin API.
  const tierSources = openTierSources({ settings: settings.tier_sources, log })
  const counts = createCountForAll()
  counts.startWith(config.current())
  let started = config.current()
  let starting = good()

  const shares = createShares({
    callerOf: callerByAddress((address) => config.current().isTrustedProxy(address)),
    onRefused: top.overShare,
  })
  const figures = createFigures({
    read: all.readings,
    states: () => supervisor.members().map(({ state }) => state),
    logLinesDropped: events.dropped,
    shares: shares.all,
    ...telemetry,
    log,
  })
  figures.loaded(config.current())

  const supervisor = createSupervisor({
    count,
    fork: (place): Worker => {
      const worker = forkWorker({
        place,
        welcome: () => ({
          place,
          workers: count,
          gateway: store.fleet.id,
          file: configFile,
          started: starting,
          current: good(),
          maps: store.told?.all() ?? [],
          drained: all.drained(),
        }),
        answers: {
          take: (takes) => counts.take(takes, memory()),
          settle: (one) => counts.settle(one, memory()),
          async keysUsed({ ids, minute }) {
            await store.keys.lastUsed.touch(ids, minute)
            return null
          },
          farewell(reading) {
            all.farewell(worker.pid, reading)
            return null
          },
        },
      })
      return worker
    },
    log,
    graceMs: () => config.current().config.server.shutdown_grace,
    onEnded(member, reason) {
      const last = all.lastOf(member)
      figures.ended(reason, last)
      ended(member.child.pid, last && trafficIn(last.reading))
    },
  })

  /**
   * The store that workers without Redis count in: while a restart changes the store, that of the old or of the new
   * workers.
   */
  let counting: Pick<Store, 'limiter' | 'amounts'> = store
  const memory = () => counting

  function good() {
    const { fingerprint, loadedAt } = config.current()
    return { ...config.source(), hash: fingerprint, loadedAt, lastError: config.status().lastError }
  }

  /** The latest attempt to send the configuration in force to all workers. */
  let spreading: Promise<void> = Promise.resolve()
  onReload = (event) => {
    tokens.retain(event.snapshot)
    forwardAuth.retain(event.snapshot)
    counts.know(event.snapshot)
    if (event.result === 'applied') {
      tierSources.use(event.snapshot.config.tier_sources)
      holdKeys()
    }
    figures.reloaded(event.result, event.snapshot)
    logReload(log, event, config.status().changed)
    const reloaded = { ...good(), trigger: event.trigger, result: event.result }
    spreading = spreading.then(() => all.reload(reloaded))
  }
  async function reload(...by: Parameters<ConfigSource['reload']>) {
    const outcome = await config.reload(...by)
    await spreading
    return outcome
  }

  let phase: 'serving' | 'draining' = 'serving'
  const serving = () => supervisor.members().filter(({ state }) => state === 'serving').length
  // Only for explain: keys are fetched on demand.
  const tokens = createTokens({ log })
  const forwardAuth = createForwardAuth({ log })
  const admin = openAdmin({
    config: {
      current: config.current,
      status: () => ({
        ...config.status(),
        workers: supervisor.members().map(({ child, place, generation, state, startedAt }) => ({
          worker: place,
          pid: child.pid,
          generation,
          state,
          startedAt: new Date(startedAt).toISOString(),
          hash: child.hash() ?? null,
        })),
      }),
      reload,
    },
    store: () => store,
    ask: all.ask,
    tierSources,
    tokens,
    forwardAuth,
    metrics: { ...figures, traffic },
    history,
    phase() {
      const reasons = phase !== 'serving' ? ['shutting down'] : []
      if (phase === 'serving' && serving() < count) reasons.push(`${serving()} of ${count} workers serve`)
      return { ready: phase === 'serving' && serving() > 0, reasons }
    },
    shares,
    log,
  })

  async function closeParts(): Promise<void> {
    history.close()
    tokens.close()
    forwardAuth.close()
    await Promise.allSettled([admin.close(), config.close()])
    await Promise.allSettled([store.close(), tierSources.close(), figures.close()])
    await events.close()
  }

  try {
    await probe(settings, configFile)
    await listen(admin, settings.admin.listen, 'admin.listen', configFile)
    await supervisor.start()
  } catch (error) {
    await closeParts()
    throw error
  }
  const addresses = supervisor.members()[0]?.child.addresses() ?? []
  log.info(
    {
      listen: addresses.length === 1 ? addresses[0] : addresses,
      admin: addressOf(admin),
      config: configFile,
      hash: config.current().hash,
      workers: count,
    },
    'started',
  )
  logWarnings(log, config.status().warnings)

  let restarting = false
  /**
   * Replaces all workers. The new workers open the store that is configured now; so does this process, or it would read
   * another store.
   */
  async function restart(): Promise<boolean> {
    if (restarting) {
      log.warn({}, 'not restarting: a restart is in progress')
      return false
    }
    restarting = true
    // New workers load the present modules of extensions. This process reads their options.
    if (config.current().extensions.size > 0) {
      extensions.renew()
      await config.reload('signal')
    }
    const before = { store, started, starting }
    const wanted = config.current().config.store
    started = config.current()
    starting = good()
    counts.startWith(started)
    if (!isDeepStrictEqual(wanted, store.settings)) {
      store = open(wanted)
      holdKeys()
    }
    const next = store
    if (wanted.redis === undefined) counting = next
    const restarted = await supervisor.restart()
    if (restarted) config.restarted((key) => OWN_KEYS.test(key))
    else {
      ;({ store, started, starting } = before)
      counts.startWith(started)
    }
    counting = store
    if (next !== before.store) await (restarted ? before.store : next).close()
    restarting = false
    return restarted
  }

  let closing: Promise<void> | undefined
  async function close(delayMs: number): Promise<void> {
    phase = 'draining'
    history.note('draining', 'Shutting down')
    await supervisor.stop(delayMs)
    log.info({}, 'stopped')
    await closeParts()
  }

  return {
    /** Addresses that the workers have bound. */
    addresses,
    adminAddress: addressOf(admin),
    config: { current: config.current, reload },
    restart,
    /** Drains all workers at once, and closes. Idempotent. */
    close(delayMs = config.current().config.server.shutdown_delay): Promise<void> {
      closing ??= close(delayMs)
      return closing
    },
    /** Kills all workers at once, without grace. */
    kill(): void {
      for (const { child } of supervisor.members()) child.kill()
    },
  }
}

/** Checks that the workers will be able to listen: a fault found here costs no failed process. */
async function probe(settings: Config, file: string): Promise<void> {
  for (const { at, key } of doorsOf(settings)) {
    const server = createServer()
    await listen(listening(server), at, key, file)
    await new Promise((resolve) => server.close(resolve))
  }
}

import { createServer } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { createAccess } from '../admin/access/access.js'
import { createAudit } from '../admin/access/audit.js'
import type { AdminDeps, UpstreamControl } from '../admin/deps.js'
import { createAdmin } from '../admin/server.js'
import { type ConfigSource, openConfig, type ReloadEvent } from '../config/load/reload.js'
import type { Config } from '../config/schema/schema.js'
import { takesStoredKeys } from '../config/snapshot/consumers.js'
import { createTokens } from '../credentials/tokens.js'
import { createKeyring } from '../fleet/keyring.js'
import { forgottenReasons, type Store } from '../fleet/open-store.js'
import { addressOf, callerByAddress, createExplain, createStanding, listen } from '../main.js'
import { createShares } from '../shares.js'
import { createDecisionsOfAll, latestOf } from '../telemetry/decisions/all-gateways-decisions.js'
import { createSeenOfAll, latestSeen } from '../telemetry/decisions/all-gateways-seen.js'
import type { DecisionQuestion } from '../telemetry/decisions/decision-data.js'
import { createLog } from '../telemetry/logs/log.js'
import { logReload, logWarnings } from '../telemetry/logs/log-reload.js'
import type { Reading } from '../telemetry/metrics/process-counts.js'
import { telemetryOptions } from '../telemetry/settings.js'
import { createTopOfAll } from '../telemetry/top/all-gateways-top.js'
import { mergeTop } from '../telemetry/top/merge.js'
import { createTop, type TopQuestion } from '../telemetry/top/top.js'
import { createPlans } from '../tier-sources/tier-sources.js'
import { guardsOfAll } from './all-workers-guards.js'
import { createFigures } from './all-workers-metrics.js'
import { createDrained, upstreamsOfAll } from './all-workers-upstreams.js'
import { ProcessGone } from './channel.js'
import { forkWorker, type Worker } from './fork.js'
import type { Reloaded } from './messages.js'
import { createCountForAll } from './shared-counting.js'
import { openSharedStore } from './shared-store.js'
import { createSupervisor, type SupervisedWorker } from './supervisor.js'
import type { WorkerReading } from './totals.js'

export interface PrimaryOptions {
  readonly configFile: string
  readonly workers: number
  readonly env?: NodeJS.ProcessEnv
}

export interface RunningPrimary {
  /** Address that the workers have bound. */
  readonly address: string
  readonly adminAddress: string
  readonly config: Pick<ConfigSource, 'current' | 'reload'>
  /** Replaces all workers by new ones; no request is refused meanwhile. */
  restart(): Promise<boolean>
  /** Drains all workers at once, and closes. Idempotent. */
  close(delayMs?: number): Promise<void>
  /** Kills all workers at once, without grace. */
  kill(): void
}

/** Timeout in ms for a worker to apply a configuration or to report its metrics. A busy worker is late, not lost. */
const RELOAD_MS = 10_000
const READ_MS = 1000
/** Timeout in ms for a probe, whose client waits a second at most: a worker that is too busy to answer is left out. */
const PROBE_MS = 200
/** Keys that only this process reads, at its start. */
const OWN_KEYS = /^(admin|telemetry|log\.level)(\.|$)/

/**
 * Starts the process that serves only the admin API: it holds the configuration and merges the workers' metrics.
 * Rejects with an Error whose message is for the operator.
 */
export async function startPrimary(options: PrimaryOptions): Promise<RunningPrimary> {
  const { configFile, workers: count, env = process.env } = options
  let onReload: (event: ReloadEvent) => void = () => {}
  const config = await openConfig({ file: configFile, env, onReload: (event) => onReload(event) })
  const settings = config.current().config
  const events = createLog({ level: settings.log.level })
  const { log } = events
  const telemetry = await telemetryOptions(settings.telemetry, env, log, true)
  const open = (settings: Config['store']) =>
    openSharedStore(settings, { log, tell, top: ownTop, decisions: ownDecisions, seen: ownSeen })
  let store = open(settings.store)
  /** Other gateways ask this process for the keys when the store has lost them. */
  const holdKeys = () => {
    if (takesStoredKeys(config.current().consumers)) store.keys.keys()
  }
  holdKeys()
  // The primary resolves tiers by itself for the admin API.
  const plans = createPlans({ settings: settings.tier_sources, log })
  const counts = createCountForAll()
  counts.startWith(config.current())
  let started = config.current()
  let starting = good()

  /** Only for the admin port, which no worker serves. */
  const top = createTop()
  const shares = createShares({ callerOf: callerByAddress(config.current), onRefused: top.overShare })
  const figures = createFigures({
    read: readings,
    states: () => supervisor.members().map(({ state }) => state),
    logLinesDropped: events.dropped,
    shares: shares.all,
    ...telemetry,
    log,
  })
  figures.loaded(config.current())

  /** Counts of each worker as last reported. */
  const lastWords = new Map<number, Reading>()
  const supervisor = createSupervisor({
    count,
    fork: (place): Worker => {
      const worker = forkWorker({
        place,
        welcome: () => ({
          place,
          workers: count,
          file: configFile,
          started: starting,
          current: good(),
          maps: store.told?.all() ?? [],
          drained: drained.all(),
        }),
        answers: {
          take: (takes) => counts.take(takes, memory()),
          settle: (one) => counts.settle(one, memory()),
          async keysUsed({ ids, minute }) {
            await store.keys.lastUsed.touch(ids, minute)
            return null
          },
          farewell(reading) {
            lastWords.set(worker.pid, reading)
            return null
          },
        },
      })
      return worker
    },
    log,
    graceMs: () => config.current().config.server.shutdown_grace,
    onEnded(member, reason) {
      figures.ended(reason, readingOf(member))
      lastWords.delete(member.child.pid)
    },
  })

  async function tell(map: string, key: string, text: string | null): Promise<void> {
    const each = workers().map(({ worker }) => worker.channel.ask('put', { map, key, text }, READ_MS))
    for (const { status } of await Promise.allSettled(each)) {
      if (status === 'rejected') log.warn({ map, key }, 'a worker has not been told of a change in time')
    }
  }

  /**
   * The store that workers without Redis count in: while a restart changes the store, that of the old or of the new
   * workers.
   */
  let counting: Pick<Store, 'limiter' | 'amounts'> = store
  const memory = () => counting

  function good() {
    const { hash, loadedAt } = config.current()
    return { text: config.text(), hash, loadedAt }
  }

  function workers(): { member: SupervisedWorker; worker: Worker }[] {
    return supervisor.members().map((member) => ({ member, worker: member.child as Worker }))
  }

  function readingOf({ child, place }: SupervisedWorker): WorkerReading | undefined {
    const reading = lastWords.get(child.pid)
    return reading && { place, reading }
  }

  async function readings(): Promise<WorkerReading[]> {
    await Promise.all(
      workers().map(async ({ member, worker }) => {
        if (member.state === 'starting') return
        const reading = await worker.channel.ask('metrics', null, READ_MS).catch(() => undefined)
        // A busy worker counts with its last report; a worker that has ended meanwhile is already counted.
        if (reading !== undefined && supervisor.members().includes(member)) lastWords.set(worker.pid, reading)
      }),
    )
    return supervisor.members().flatMap((member) => readingOf(member) ?? [])
  }

  const drained = createDrained()
  async function ofAll<T>(ask: (worker: Worker) => Promise<T>): Promise<T[]> {
    const ready = workers().filter(({ member }) => member.state !== 'starting')
    const answers = await Promise.allSettled(ready.map(({ worker }) => ask(worker)))
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
  }
  const upstreams: UpstreamControl = {
    describe: async () =>
      upstreamsOfAll(await ofAll((worker) => worker.channel.ask('upstreams', null, READ_MS))),
    async setState(service, address, state) {
      const set = await ofAll((worker) =>
        worker.channel.ask('upstream', { service, address, state }, READ_MS),
      )
      const known = set.flatMap((one) => one ?? [])
      if (known.length === 0) return undefined
      drained.set(service, known[0]!.address, state)
      return upstreamsOfAll(known.map((one) => [one]))[0]
    },
  }

  async function ownTop(question: TopQuestion) {
    const told = await ofAll((worker) => worker.channel.ask('top', question, READ_MS))
    return mergeTop([top.read(question), ...told])
  }

  async function ownDecisions(question: DecisionQuestion) {
    const all = await ofAll((worker) => worker.channel.ask('decision', question, READ_MS))
    return latestOf(all, typeof question === 'string')
  }

  async function ownSeen(consumer: string) {
    return latestSeen(await ofAll((worker) => worker.channel.ask('seen', consumer, READ_MS))) ?? null
  }

  const guards: AdminDeps['guards'] = {
    describe: async () => guardsOfAll(await ofAll((worker) => worker.channel.ask('guards', null, READ_MS))),
  }

  /** The latest attempt to send the configuration in force to all workers. */
  let spreading: Promise<void> = Promise.resolve()
  async function spread(reloaded: Reloaded): Promise<void> {
    await Promise.all(
      workers().map(async ({ worker }) => {
        const told = await worker.channel
          .ask('reload', reloaded, RELOAD_MS)
          .catch((error: Error) => (error instanceof ProcessGone ? {} : { error: error.message }))
        if (!('error' in told)) return
        log.error(
          { worker: worker.place, pid: worker.pid, error: told.error },
          'a worker has not taken the configuration over',
        )
      }),
    )
  }
  onReload = (event) => {
    tokens.retain(event.snapshot)
    counts.know(event.snapshot)
    if (event.result === 'applied') {
      plans.use(event.snapshot.config.tier_sources)
      holdKeys()
    }
    figures.reloaded(event.result, event.snapshot)
    logReload(log, event, config.status().changed)
    const reloaded = { ...good(), trigger: event.trigger, result: event.result }
    spreading = spreading.then(() => spread(reloaded))
  }
  async function reload(trigger: Parameters<ConfigSource['reload']>[0]) {
    const outcome = await config.reload(trigger)
    await spreading
    return outcome
  }

  let phase: 'serving' | 'draining' = 'serving'
  let assignmentsLoaded = false
  const awaitAssignments = () => {
    assignmentsLoaded = false
    const { assignments } = store
    assignments.ready.then(() => {
      assignmentsLoaded ||= store.assignments === assignments
    })
  }
  awaitAssignments()
  const serving = () => supervisor.members().filter(({ state }) => state === 'serving').length
  // Only for explain: keys are fetched on demand.
  const tokens = createTokens({ log })
  const admin = createAdmin({
    config: {
      current: config.current,
      status: () => ({
        ...config.status(),
        workers: workers().map(({ member, worker }) => ({
          worker: member.place,
          pid: worker.pid,
          generation: member.generation,
          state: member.state,
          startedAt: new Date(member.startedAt).toISOString(),
          hash: worker.hash() ?? null,
        })),
      }),
      reload,
    },
    get limiter() {
      return store.limiter
    },
    get assignments() {
      return store.assignments
    },
    get bans() {
      return store.bans
    },
    standing: createStanding({
      snapshot: config.current,
      assignments: { get: (consumer) => store.assignments.get(consumer) },
      plans,
      keys: () => store.keys,
      seen: createSeenOfAll(() => store.fleet, ownSeen),
    }),
    get amounts() {
      return store.amounts
    },
    get keys() {
      return store.keys
    },
    maps: () => store.maps(),
    upstreams,
    guards,
    top: createTopOfAll(() => store.fleet, ownTop),
    decisions: createDecisionsOfAll(() => store.fleet, ownDecisions),
    explain: createExplain({
      snapshot: config.current,
      limiter: { preview: (...asked) => store.limiter.preview(...asked) },
      assignments: { get: (consumer) => store.assignments.get(consumer) },
      bans: {
        get size() {
          return store.banned.size
        },
        match: (family, words) => store.banned.match(family, words),
      },
      plans,
      tokens,
      amounts: { policyFor: (...asked) => store.amounts.policyFor(...asked) },
      keyring: createKeyring({ store: () => store.keys }),
      guards,
      upstreams,
    }),
    metrics: figures,
    async ready() {
      const reasons: string[] = []
      if (store.limiter.state() === 'degraded') reasons.push('the store is out of reach: deciding without it')
      if (!assignmentsLoaded) reasons.push('tier assignments are not loaded yet')
      reasons.push(...forgottenReasons(store.maps()))
      for (const told of await ofAll((worker) => worker.channel.ask('outOfOrder', null, PROBE_MS)))
        reasons.push(...told)
      if (phase !== 'serving') reasons.unshift('shutting down')
      else if (serving() < count) reasons.unshift(`${serving()} of ${count} workers serve`)
      return { ready: phase === 'serving' && serving() > 0, reasons: [...new Set(reasons)] }
    },
    audit: createAudit({ stream: () => store.audit, node: store.fleet.node, log }),
    access: createAccess({ settings: () => config.current().config.admin, log }),
    shares,
    log,
  })

  async function closeParts(): Promise<void> {
    tokens.close()
    await Promise.allSettled([admin.close(), config.close()])
    await Promise.allSettled([store.close(), plans.close(), figures.close()])
    await events.close()
  }

  try {
    await probe(settings.listen, configFile)
    await listen(admin, settings.admin.listen, 'admin.listen', configFile)
    await supervisor.start()
  } catch (error) {
    await closeParts()
    throw error
  }
  const address = workers()[0]?.worker.address() ?? ''
  log.info(
    {
      listen: address,
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
      log.warn({}, 'no second restart while one is under way')
      return false
    }
    restarting = true
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
    awaitAssignments()
    restarting = false
    return restarted
  }

  let closing: Promise<void> | undefined
  async function close(delayMs: number): Promise<void> {
    phase = 'draining'
    await supervisor.stop(delayMs)
    log.info({}, 'stopped')
    await closeParts()
  }

  return {
    address,
    adminAddress: addressOf(admin),
    config: { current: config.current, reload },
    restart,
    close(delayMs = config.current().config.server.shutdown_delay) {
      closing ??= close(delayMs)
      return closing
    },
    kill() {
      for (const { worker } of workers()) worker.kill()
    },
  }
}

/** Checks that the workers will be able to listen: a fault found here costs no failed process. */
async function probe(address: { readonly host: string; readonly port: number }, file: string): Promise<void> {
  const server = createServer()
  const bind = (at: object) =>
    new Promise<void>((resolve, reject) => server.once('error', reject).listen(at, resolve))
  await listen({ listen: bind }, address, 'listen', file)
  await new Promise((resolve) => server.close(resolve))
}

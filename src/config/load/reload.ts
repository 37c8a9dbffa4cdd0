import type { Config } from '../schema/schema.js'
import { prepareAddresses } from '../snapshot/edge.js'
import { compileSnapshot, type Snapshot } from '../snapshot/snapshot.js'
import { type ConfigText, namesLongFiles, readConfig, watchNamedFiles } from './config-files.js'
import { changesBetween } from './diff.js'
import { createExtensions, type Extensions } from './extension-instances.js'
import {
  firstLines,
  type Reload,
  type ReloadOutcome,
  type ReloadTrigger,
  withReload,
} from './recent-reloads.js'
import { signatureOf, watchFile } from './watch.js'

export type { ReloadOutcome, ReloadResult, ReloadTrigger } from './recent-reloads.js'

/** Status of the configuration, as `GET /config` shows it. */
export interface ConfigStatus {
  readonly file: string
  readonly hash: string
  /** When the configuration in force was loaded, in ISO 8601. */
  readonly loadedAt: string
  /** Why the last reload was rejected; null once the file is valid again. */
  readonly lastError: { readonly at: string; readonly messages: readonly string[] } | null
  /** Differences from the snapshot before: `services.payments.limits.free: 10/min -> 20/min`. Secrets are masked. */
  readonly changed: readonly string[]
  /** Warnings about the configuration in force: a service without a route, a change that waits for the next start. */
  readonly warnings: readonly string[]
  /** The latest reloads that changed something, or failed, or mended a failure, newest first. */
  readonly reloads: readonly Reload[]
}

export interface ReloadEvent extends ReloadOutcome {
  /** True if the attempt before was rejected and this one was not. */
  readonly repaired?: boolean
  readonly trigger: ReloadTrigger
  /** Snapshot now in force. */
  readonly snapshot: Snapshot
  readonly previous: Snapshot
  /** Time from the start of reading to the swap, in ms. */
  readonly durationMs: number
}

/** Holds the configuration in force, and reloads it. */
export interface ConfigSource {
  current(): Snapshot
  /** Returns the text that the snapshot was made from, and that of the files that it includes. */
  source(): ConfigText
  status(): ConfigStatus
  /**
   * Records that the serving processes were restarted with the configuration in force. Afterwards only changes of the
   * keys that `still` selects wait for the next start.
   */
  restarted(still: (key: string) => boolean): void
  /**
   * Reloads the file. Never rejects because of it: its errors are in the messages.
   *
   * @param who name of the token that asks for it
   */
  reload(trigger: ReloadTrigger, who?: string): Promise<ReloadOutcome>
  /** Stops watching, after a reload in progress. */
  close(): Promise<void>
}

export interface ConfigSourceOptions {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  /** Instances of extensions. Default: of its own. */
  readonly extensions?: Extensions
  /** Clock, in unix ms. */
  readonly now?: () => number
  /** Called after every reload, after the swap. */
  readonly onReload?: (event: ReloadEvent) => void
  /** Interval in ms between two polls of the file, for changes without an event. Default: 1000. */
  readonly pollMs?: number
  /** How long the file must be unchanged before it is read, in ms. Default: 150. */
  readonly stableMs?: number
}

/** Maximum number of changes reported. A file that was swapped for another one has thousands. */
const MAX_CHANGES = 200

/** Error of a failed first load, with every message on its own line. */
export class InvalidConfig extends Error {
  readonly messages: readonly string[]
  constructor(messages: readonly string[]) {
    super(messages.join('\n'))
    this.name = 'InvalidConfig'
    this.messages = messages
  }
}

/**
 * Loads a configuration file, and watches it from then on. An invalid file changes nothing: the last valid snapshot
 * stays in force. Reloads run one after the other.
 *
 * @throws InvalidConfig when the first load fails
 */
export async function openConfig(options: ConfigSourceOptions): Promise<ConfigSource> {
  const { file, env, now = Date.now, onReload, pollMs = 1000, stableMs = 150 } = options
  const { extensions = createExtensions({ runs: true }) } = options
  // Taken before the file is read, so that a change in between is detected.
  const known = await signatureOf(file)
  const first = await readConfig(file, env, extensions)
  if (!first.ok) throw new InvalidConfig(first.messages)

  const started = first.config
  /**
   * Configuration that the serving processes were started with, and the keys that these do not decide: see `restarted`.
   */
  let served = started
  let heldBack = (_key: string) => false
  let source = first.source
  let snapshot = compileSnapshot(first.config, now(), first.hashes, first.prepared.hooks)
  first.prepared.commit()
  let lastError: ConfigStatus['lastError'] = null
  let changed: readonly string[] = []
  let reloads: readonly Reload[] = []
  let ownWarnings = first.messages
  let warnings = ownWarnings

  /** Describes the changes that cannot take effect while the gateway runs. */
  const waiting = (next: Config): string[] => {
    const of = restartKeys(served, next)
    const ofStart = served === started ? of : restartKeys(started, next)
    const keys = [...of.filter((key) => !heldBack(key)), ...ofStart.filter(heldBack)]
    return keys.map((key) => `${key} changed: takes effect at the next start`)
  }
  const attempt = async (by: ReloadTrigger, who: string | undefined): Promise<ReloadOutcome> => {
    const previous = snapshot
    const began = performance.now()
    const rejected = lastError !== null
    const { changes = [], ...outcome } = await replace(previous)
    const repaired = rejected && lastError === null
    reloads = withReload(reloads, {
      ...outcome,
      repaired,
      by,
      at: now(),
      hash: snapshot.hash,
      who: who ?? null,
      changed: changes,
    })
    onReload?.({
      ...outcome,
      repaired,
      trigger: by,
      snapshot,
      previous,
      durationMs: performance.now() - began,
    })
    return outcome
  }
  const replace = async (previous: Snapshot): Promise<ReloadOutcome & { changes?: readonly string[] }> => {
    const next = await readConfig(
      file,
      env,
      extensions,
      await namesLongFiles(previous.config, source.included),
    )
    // Done before anything takes effect. Requests use the lists in force meanwhile.
    if (next.ok && next.hashes.fingerprint !== previous.fingerprint) await prepareAddresses(next.config.edge)
    if (!next.ok) {
      // A mistake may be in a file that is included only now: mending it must be noticed.
      if (next.included !== undefined) void named.watch(file, previous.config, next.included)
      lastError = { at: new Date(now()).toISOString(), messages: next.messages }
      return { result: 'rejected', messages: next.messages }
    }
    lastError = null
    const same = next.hashes.fingerprint === previous.fingerprint
    ownWarnings = next.messages
    warnings = [...ownWarnings, ...waiting(next.config)]
    if (same) {
      next.prepared.commit()
      source = next.source
      void named.watch(file, next.config, source.included)
      return { result: 'unchanged', messages: warnings }
    }
    try {
      snapshot = compileSnapshot(next.config, now(), next.hashes, next.prepared.hooks)
      source = next.source
      next.prepared.commit()
    } catch (error) {
      next.prepared.abandon()
      // The checks missed something. A running gateway must not go down because of it.
      const message = `cannot be compiled (${(error as Error).name}); please report this, with the file`
      lastError = { at: new Date(now()).toISOString(), messages: [`${file}:1:1: ${message}`] }
      return { result: 'rejected', messages: lastError.messages }
    }
    const changes = changesBetween(previous.config, next.config).map(({ text }) => text)
    changed = firstLines(changes, MAX_CHANGES)
    void named.watch(file, next.config, source.included)
    return { result: 'applied', messages: warnings, changes }
  }

  let running: Promise<ReloadOutcome> | undefined
  let queued: Promise<ReloadOutcome> | undefined
  const run = (trigger: ReloadTrigger, who: string | undefined): Promise<ReloadOutcome> => {
    const turn = attempt(trigger, who).finally(() => {
      if (running === turn) running = undefined
    })
    running = turn
    return turn
  }
  const reload = (trigger: ReloadTrigger, who?: string): Promise<ReloadOutcome> => {
    // The waiting reload has not read the file yet, so it serves all calls made meanwhile.
    if (queued !== undefined) return queued
    if (running === undefined) return run(trigger, who)
    queued = running
      .catch(() => undefined)
      .then(() => {
        queued = undefined
        return run(trigger, who)
      })
    return queued
  }

  const onChange = () => void reload('file')
  const watcher = watchFile(file, { known, pollMs, stableMs, onChange })
  const named = watchNamedFiles({ pollMs, stableMs, onChange })
  void named.watch(file, first.config, source.included)
  return {
    current: () => snapshot,
    source: () => source,
    restarted(still) {
      served = snapshot.config
      heldBack = still
      warnings = [...ownWarnings, ...waiting(snapshot.config)]
    },
    status: () => ({
      file,
      hash: snapshot.hash,
      loadedAt: new Date(snapshot.loadedAt).toISOString(),
      lastError,
      changed,
      warnings,
      reloads,
    }),
    reload,
    async close() {
      watcher.close()
      named.close()
      await Promise.allSettled([running, queued])
      extensions.close()
    },
  }
}

/** Returns the keys that differ and are only read at a start. */
function restartKeys(before: Config, after: Config): string[] {
  return [...new Set(changesBetween(before, after).flatMap(({ restart }) => restart ?? []))]
}

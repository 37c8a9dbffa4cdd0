import { type ConfigText, namesLongFiles } from '../config/load/config-files.js'
import {
  createExtensions,
  type Extensions,
  type PreparedExtensions,
} from '../config/load/extension-instances.js'
import { loadInThread } from '../config/load/in-thread.js'
import { formatError } from '../config/load/load.js'
import { loadWithExtensions } from '../config/load/load-with-extensions.js'
import type { ReloadOutcome, ReloadTrigger } from '../config/load/recent-reloads.js'
import { type ConfigSource, InvalidConfig, type ReloadEvent } from '../config/load/reload.js'
import { prepareAddresses } from '../config/snapshot/edge.js'
import { compileSnapshot, type Snapshot } from '../config/snapshot/snapshot.js'
import type { GoodConfig, Reloaded } from './messages.js'

/** The configuration of a worker: the one that the primary has accepted. */
export interface FollowedConfig extends ConfigSource {
  /**
   * Applies configurations of the primary, one after another. Rejects with InvalidConfig; the previous one then stays
   * in force.
   */
  follow(next: Reloaded): Promise<void>
}

export interface FollowOptions {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  /** Instances of extensions. Default: of its own. */
  readonly extensions?: Extensions
  readonly onReload: (event: ReloadEvent) => void
  /** Called with each snapshot before a request can see it. */
  readonly onNext: (snapshot: Snapshot) => void
}

/**
 * Starts with a configuration of the primary. Rejects with InvalidConfig when this process does not accept what the
 * primary does: it may be of another version.
 */
export async function followConfig(
  first: GoodConfig,
  { file, env, extensions = createExtensions({ runs: true }), onReload, onNext }: FollowOptions,
): Promise<FollowedConfig> {
  let { snapshot, prepared } = await compile(first, false)
  prepared.commit()
  let source = sourceOf(first)
  let lastError = first.lastError ?? null
  let latest: Promise<void> = Promise.resolve()

  async function compile(
    good: GoodConfig,
    large: boolean,
  ): Promise<{ snapshot: Snapshot; prepared: PreparedExtensions }> {
    const { text, included } = sourceOf(good)
    const loaded = await loadWithExtensions(
      text,
      { file, env, included: included.files },
      extensions,
      (text, options) => loadInThread(text, options, large),
    )
    if (!loaded.ok) throw new InvalidConfig(loaded.errors.map(formatError))
    await prepareAddresses(loaded.config.edge)
    const { config, hashes, prepared } = loaded
    return { snapshot: compileSnapshot(config, good.loadedAt, hashes, prepared.hooks), prepared }
  }

  function tell(trigger: ReloadTrigger, outcome: ReloadOutcome, previous: Snapshot, began: number): void {
    onReload({ ...outcome, trigger, snapshot, previous, durationMs: performance.now() - began })
  }

  async function takeOver(next: Reloaded): Promise<void> {
    const began = performance.now()
    const previous = snapshot
    lastError = next.lastError ?? null
    if (next.hash !== previous.fingerprint) {
      const compiled = await compile(
        next,
        await namesLongFiles(previous.config, sourceOf(next).included),
      ).catch((error: Error) => {
        lastError = { at: new Date().toISOString(), messages: error.message.split('\n') }
        throw error
      })
      onNext(compiled.snapshot)
      source = sourceOf(next)
      ;({ snapshot, prepared } = compiled)
      prepared.commit()
      tell(next.trigger, { result: 'applied', messages: [] }, previous, began)
      return
    }
    source = sourceOf(next)
    const result = next.result === 'applied' ? 'unchanged' : next.result
    tell(next.trigger, { result, messages: [] }, previous, began)
  }

  return {
    current: () => snapshot,
    source: () => source,
    follow(next) {
      const turn = latest.then(() => takeOver(next))
      latest = turn.catch(() => {})
      return turn
    },
    restarted() {},
    status: () => ({
      file,
      hash: snapshot.hash,
      loadedAt: new Date(snapshot.loadedAt).toISOString(),
      lastError,
      changed: [],
      warnings: [],
      reloads: [],
    }),
    // The primary detects changes of the file.
    reload: () => Promise.resolve({ result: 'unchanged', messages: [] }),
    async close() {
      extensions.close()
    },
  }
}

function sourceOf({ text, included = { patterns: [], files: [] } }: GoodConfig): ConfigText {
  return { text, included }
}

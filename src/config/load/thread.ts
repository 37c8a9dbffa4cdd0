import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Config } from '../schema/schema.js'
import { type ConfigHashes, configHashes } from '../snapshot/hash.js'
import type { Included } from './include.js'
import { type ConfigError, type LoadOptions, loadConfig } from './load.js'

/**
 * Entry of the thread that `loadApart` starts. `workerData` is a `ThreadQuestion`, and the only message a
 * `ThreadAnswer`.
 */

export interface ThreadQuestion extends LoadOptions {
  readonly text: string
}

export type ThreadAnswer =
  | {
      readonly config: Config
      readonly hashes: ConfigHashes
      /** Objects of the configuration without a prototype. A copy between threads gives them one. */
      readonly bare: readonly object[]
      readonly warnings: readonly ConfigError[]
      readonly included: Included
    }
  | {
      readonly errors: readonly ConfigError[]
      readonly warnings: readonly ConfigError[]
      readonly included: Included
      readonly missing: readonly string[]
    }

function answer({ text, ...options }: ThreadQuestion): ThreadAnswer {
  const loaded = loadConfig(text, options)
  const { warnings, included } = loaded
  if (!loaded.ok) return { errors: loaded.errors, warnings, included, missing: loaded.missing ?? [] }
  const { config } = loaded
  return { config, hashes: configHashes(config), bare: [...bareObjects(config)], warnings, included }
}

/**
 * Returns these objects. Sent in one message with the configuration, they stay references into it, so the receiver
 * finds them without a path.
 */
function bareObjects(value: unknown, found = new Set<object>(), seen = new Set<object>()): Set<object> {
  if (typeof value !== 'object' || value === null || seen.has(value)) return found
  seen.add(value)
  if (Object.getPrototypeOf(value) === null) found.add(value)
  for (const item of Object.values(value)) bareObjects(item, found, seen)
  return found
}

const port: MessagePort | null = parentPort
port?.postMessage(answer(workerData as ThreadQuestion))

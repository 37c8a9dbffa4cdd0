import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type ConfigHashes, configHashes } from '../snapshot/hash.js'
import { type LoadOptions, type LoadResult, loadConfig } from './load.js'

/**
 * Entry of the thread that `loadInThread` starts. `workerData` is a `ThreadQuestion`, and the only message a
 * `ThreadAnswer`.
 */

export interface ThreadQuestion extends LoadOptions {
  readonly text: string
}

export type LoadedInThread =
  | (Pick<Extract<LoadResult, { readonly ok: true }>, 'ok' | 'config' | 'warnings' | 'included'> & {
      readonly hashes: ConfigHashes
    })
  | Extract<LoadResult, { readonly ok: false }>

export interface ThreadAnswer {
  readonly loaded: LoadedInThread
  /** Objects of the configuration without a prototype. A copy between threads gives them one. */
  readonly bare: readonly object[]
}

function answer({ text, ...options }: ThreadQuestion): ThreadAnswer {
  const loaded = loadConfig(text, options)
  if (!loaded.ok) return { loaded, bare: [] }
  // Functions cannot be sent.
  const { ok, config, warnings, included } = loaded
  const hashes = configHashes(config)
  return { loaded: { ok, config, hashes, warnings, included }, bare: [...bareObjects(config)] }
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

import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import * as nodeModule from 'node:module'
import { pathToFileURL } from 'node:url'
import { withTimeout } from '../common/wait.js'
import type { Extension } from './define.js'

/** Loads the modules of extensions, each once a process: an ES module cannot be unloaded. */

export interface LoadedModule {
  readonly extension: Extension<unknown>
  /** Hash of the file when it was loaded. */
  readonly hash: string
}

/** Longest time that a module may take to load, and `create` to run, in ms. */
const PATIENCE_MS = 10_000

const loaded = new Map<string, LoadedModule>()
/** Number in the URL of an import. Node.js caches modules, and failures to load them, by URL. */
let renewals = 0

/** Returns true if this Node.js can load TypeScript. */
export function stripsTypes(): boolean {
  return 'typescript' in process.features && process.features.typescript !== false
}

/** Modules that this process has loaded, by absolute path. */
export const loadedModules: ReadonlyMap<string, LoadedModule> = loaded

/**
 * Loads a module, unless this process has done so already.
 *
 * @param file absolute path
 * @throws Error whose message says what is wrong and what to do
 */
export async function loadModule(file: string): Promise<LoadedModule> {
  const known = loaded.get(file)
  if (known !== undefined) return known
  if (file.endsWith('.ts') && !stripsTypes()) {
    throw new Error(
      `Node.js ${process.versions.node} cannot load TypeScript; update it to 22.18 or later, or compile the module to .js`,
    )
  }
  const hash = await hashOf(file)
  if (hash === undefined) throw new Error('the file cannot be read; correct the path, or make it readable')
  resolving ??= resolveToOurselves()
  await resolving
  const url = pathToFileURL(file).href
  process.once('exit', reportExit)
  try {
    const { default: extension } = await inTime(import(renewals === 0 ? url : `${url}?${renewals}`))
    if (typeof extension?.create !== 'function') {
      throw new Error('it exports no extension; write export default defineExtension({ … })')
    }
    const module = { extension, hash }
    loaded.set(file, module)
    return module
  } catch (error) {
    throw new Error(`cannot be loaded: ${describeError(error, url)}; correct the module`)
  } finally {
    process.off('exit', reportExit)
  }

  function reportExit(): void {
    process.exitCode = 1
    writeSync(
      2,
      `tidegate: the module ${file} ended the process while it was loaded; remove process.exit from it\n`,
    )
  }
}

/**
 * Resolves as the promise does.
 *
 * @throws Error if that takes longer than 10 s
 */
export function inTime<T>(promise: T | Promise<T>): Promise<T> {
  return withTimeout(promise, PATIENCE_MS, () => {
    throw new Error(`it took longer than ${PATIENCE_MS / 1000} s`)
  })
}

/**
 * Returns the file of the module that an exception comes from; undefined if it is none of an extension. Nothing but an
 * extension throws what is no error: then it is the first module.
 */
export function moduleBehind(thrown: unknown): string | undefined {
  const stack = thrown instanceof Error ? String(thrown.stack) : undefined
  return [...loaded.keys()].find(
    (file) => stack === undefined || stack.includes(file) || stack.includes(pathToFileURL(file).href),
  )
}

/** Forgets modules, so that their present files are loaded next. The old ones stay in memory. */
export function forgetModules(files: Iterable<string> = [...loaded.keys()]): void {
  for (const file of files) loaded.delete(file)
  renewals++
}

/** Returns true if the file of a loaded module has changed since. */
export async function isNewerOnDisk(file: string): Promise<boolean> {
  const before = loaded.get(file)?.hash
  const now = await hashOf(file)
  return before !== undefined && now !== undefined && now !== before
}

async function hashOf(file: string): Promise<string | undefined> {
  try {
    return createHash('sha256')
      .update(await readFile(file))
      .digest('base64')
  } catch {
    return undefined
  }
}

/** Describes an error of a module in one line, with the line of the module that threw it. Whatever was thrown, this does not throw. */
export function describeError(error: unknown, url: string): string {
  try {
    const { message, stack = '' } = error instanceof Error ? error : new Error(String(error))
    const at = stack.indexOf(url)
    const line = at < 0 ? undefined : /^[^:\s]*:(\d+)/.exec(stack.slice(at + url.length))?.[1]
    const text = message.split('\n', 1)[0]!
    return line === undefined ? text : `${text} (line ${line})`
  } catch {
    return 'it threw a value that cannot be shown'
  }
}

let resolving: Promise<void> | undefined

/** Makes `tidegate/extension` mean this package in all modules: they may lie where no `node_modules` has it. */
async function resolveToOurselves(): Promise<void> {
  const ours = { url: new URL('./define.js', import.meta.url).href, shortCircuit: true }
  const text = `export const resolve = (name, context, next) =>
    name === 'tidegate/extension' ? ${JSON.stringify(ours)} : next(name, context)`
  const hooks = `data:text/javascript,${encodeURIComponent(text)}`
  const { registerHooks } = nodeModule as unknown as { registerHooks?: (hooks: object) => void }
  // Before Node.js 22.15 such hooks run in a thread of their own, which loads them as a module.
  if (registerHooks === undefined) nodeModule.register(hooks)
  else registerHooks(await import(hooks))
}

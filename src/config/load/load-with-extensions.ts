import type { Extensions, PreparedExtensions } from './extension-instances.js'
import { knownModules, learnModule } from './extension-options.js'
import { type LoadOptions, type LoadResult, loadConfig } from './load.js'

type Loaded = Pick<Extract<LoadResult, { readonly ok: true }>, 'ok' | 'config' | 'warnings' | 'included'>
type Failed = Extract<LoadResult, { readonly ok: false }>

/**
 * Loads a configuration, the modules of its extensions, and their instances. The reader needs the schemas of the modules and
 * may run in a thread, so it reads again once a module that it met is loaded. A reload of known modules takes one pass.
 *
 * @param load reads the text: `loadConfig` or `loadInThread`
 */
export async function loadWithExtensions<T extends Loaded>(
  text: string,
  options: Omit<LoadOptions, 'modules'>,
  extensions: Extensions,
  load: (text: string, options: LoadOptions) => Promise<T | Failed> | T | Failed,
): Promise<(T & { readonly prepared: PreparedExtensions }) | Failed> {
  const modules = knownModules()
  let loaded = await load(text, { ...options, modules })
  if (!loaded.ok && loaded.missing !== undefined && loaded.missing.length > 0) {
    for (const file of loaded.missing) modules.set(file, await learnModule(file))
    loaded = await load(text, { ...options, included: loaded.included.files, modules })
  }
  if (!loaded.ok) return loaded
  const { warnings, included } = loaded
  const prepared = await extensions.prepare(loaded.config)
  if (prepared.problems.length === 0) return { ...loaded, prepared }
  prepared.abandon()
  // Read again, here: only the reader knows the places in the file.
  const read = loadConfig(text, { ...options, included: included.files, modules })
  const errors = read.ok ? prepared.problems.map(({ path, message }) => read.at(path, message)) : read.errors
  return { ok: false, errors, warnings, included }
}

import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { createNoopMeter, type Meter } from '@opentelemetry/api'
import {
  type Extension,
  type ExtensionContext,
  HOOKS,
  type HookName,
  type Hooks,
} from '../../extension/define.js'
import { describeError, forgetModules, isNewerOnDisk, loadedModules } from '../../extension/modules.js'
import type { Path } from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import type { InstanceHook, InstanceHooks } from '../snapshot/extensions.js'
import { deepFreeze } from '../snapshot/freeze.js'
import { suggest } from '../values/nearest-name.js'
import { parseSize } from '../values/quantities.js'

/** Longest time that `create` may take, in ms. */
const PATIENCE_MS = 10_000
/** Largest body that a hook may ask for, in bytes. */
const MAX_BODY = 1024 * 1024

type Settings = NonNullable<Config['extensions']>[number]

/** Extension that runs. */
interface Instance {
  readonly settings: Settings
  readonly hooks: InstanceHooks
  readonly end: AbortController
}

/** Instances for a configuration that is not in force yet. */
export interface PreparedExtensions {
  /** Hooks by the name of the extension. */
  readonly hooks: ReadonlyMap<string, InstanceHooks>
  readonly problems: readonly { readonly path: Path; readonly message: string }[]
  /** Ends the instances that are no longer in use. Call it after the swap. */
  commit(): void
  /** Ends the instances that were made for this configuration. Call it if there is no swap. */
  abandon(): void
}

export interface Extensions {
  /**
   * Makes the instances that a configuration needs: one for each name, kept while its module and options are the same. Never
   * rejects.
   */
  prepare(config: Config): Promise<PreparedExtensions>
  /** Returns a warning for each module that has changed on disk since it was loaded, and logs it once. */
  newer(config: Config): Promise<string[]>
  /** Makes all instances anew at the next `prepare`, from the present modules. */
  renew(): void
  /** Writes a warning to the log, as soon as there is one. */
  warn(fields: object, message: string): void
  /** Hands over the log, which begins after the first configuration is loaded. */
  attach(log: ExtensionLog): void
  /** Ends all instances. */
  close(): void
}

type ExtensionLog = Readonly<Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>>

/** Lines that are kept until there is a log. */
const EARLY_LINES = 100

/**
 * Creates the instances of this process.
 *
 * @param options.runs false to end each instance at once: this process only checks it
 * @param options.meter returns the meter of an extension. Default: one that records nothing
 */
export function createExtensions({
  runs,
  meter = createNoopMeter,
}: {
  readonly runs: boolean
  readonly meter?: (extension: string) => Meter
}): Extensions {
  const running = new Map<string, Instance>()
  let log: ExtensionLog | undefined
  let early: [keyof ExtensionLog, object, string][] = []
  const newerFiles = new Set<string>()

  function write(level: keyof ExtensionLog, fields: object, message: string): void {
    if (log !== undefined) log[level](fields, message)
    else if (early.length < EARLY_LINES) early.push([level, fields, message])
  }

  const logOf = (extension: string): ExtensionContext<unknown>['log'] => {
    const say = (level: keyof ExtensionLog) => (message: string, fields?: object) =>
      write(level, { ...fields, extension }, message)
    return { info: say('info'), warn: say('warn'), error: say('error') }
  }

  async function make(settings: Settings): Promise<Instance> {
    const end = new AbortController()
    const file = resolve(settings.module)
    const { name } = settings
    const { extension } = loadedModules().find((module) => module.file === file)!
    try {
      // Frozen with the configuration, too, but only later.
      const options = deepFreeze(settings.options)
      const context = { name, options, log: logOf(name), meter: meter(name), signal: end.signal }
      return { settings, hooks: await createInstance(extension, context), end }
    } catch (error) {
      end.abort()
      const why = describeError(error, pathToFileURL(file).href)
      throw new Error(`create failed: ${why}; correct the module or its options`)
    } finally {
      if (!runs) end.abort()
    }
  }

  return {
    async prepare(config) {
      const made: Instance[] = []
      const next = new Map<string, Instance>()
      const problems: { path: Path; message: string }[] = []
      for (const [i, settings] of (config.extensions ?? []).entries()) {
        const { name, module, options } = settings
        const before = running.get(name)
        if (before?.settings.module === module && isDeepStrictEqual(before.settings.options, options)) {
          next.set(name, before)
          continue
        }
        try {
          const instance = await make(settings)
          made.push(instance)
          next.set(name, instance)
        } catch (error) {
          problems.push({ path: ['extensions', i, 'module'], message: (error as Error).message })
        }
      }
      const hooks = new Map([...next].map(([name, instance]) => [name, instance.hooks]))
      if (problems.length === 0) problems.push(...misuses(config, hooks))
      return {
        hooks,
        problems,
        commit() {
          for (const [name, instance] of running) {
            if (next.get(name) !== instance) instance.end.abort()
          }
          running.clear()
          for (const [name, instance] of next) running.set(name, instance)
        },
        abandon() {
          for (const { end } of made) end.abort()
        },
      }
    },
    async newer({ extensions = [] }) {
      const messages: string[] = []
      for (const module of loadedModules()) {
        const name = extensions.find((one) => resolve(one.module) === module.file)?.name
        if (name === undefined || !(await isNewerOnDisk(module))) {
          newerFiles.delete(module.file)
          continue
        }
        const message = `the module of the extension ${name} has changed since it was loaded; it takes effect at the next start, or when SIGUSR2 replaces the workers`
        if (!newerFiles.has(module.file)) write('warn', { extension: name, module: module.file }, message)
        newerFiles.add(module.file)
        messages.push(message)
      }
      return messages
    },
    renew() {
      this.close()
      forgetModules()
    },
    warn: (fields, message) => write('warn', fields, message),
    attach(attached) {
      log = attached
      for (const [level, fields, message] of early) attached[level](fields, message)
      early = []
    },
    close() {
      for (const { end } of running.values()) end.abort()
      running.clear()
    },
  }
}

/**
 * Creates an instance, and returns its hooks.
 *
 * @throws Error if `create` throws, takes longer than 10 s or returns something else than hooks
 */
export async function createInstance(
  extension: Extension<unknown>,
  context: ExtensionContext<unknown>,
): Promise<InstanceHooks> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const wrong = new Error(`it took longer than ${PATIENCE_MS / 1000} s`)
    timer = setTimeout(() => reject(wrong), PATIENCE_MS)
  })
  try {
    return bindHooks(await Promise.race([extension.create(context), late]))
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Checks what `create` returned, and binds the functions to it.
 *
 * @throws Error that names the hook
 */
function bindHooks(made: Hooks): InstanceHooks {
  if (typeof made !== 'object' || made === null) throw new Error('it returned no hooks')
  const hooks: Partial<Record<HookName, InstanceHook>> = {}
  for (const name of Object.keys(made)) {
    if (!HOOKS.includes(name as HookName))
      throw new Error(`there is no hook "${name}"; ${suggest(name, HOOKS, 'hooks')}`)
  }
  for (const name of HOOKS) {
    const hook: unknown = made[name]
    if (hook === undefined) continue
    const full = (typeof hook === 'function' ? { run: hook } : hook) as Record<string, unknown>
    const { run, explain = false, body } = full ?? {}
    if (typeof run !== 'function') throw new Error(`${name} is neither a function nor { run }`)
    hooks[name] = {
      run: run.bind(made) as InstanceHook['run'],
      explain: explain === true,
      body: body === undefined ? undefined : bodyOf(name, body as Record<string, unknown>),
    }
  }
  return hooks
}

const FORMS = ['json', 'text', 'bytes'] as const

function bodyOf(name: HookName, { max, as = 'bytes' }: Record<string, unknown>): InstanceHook['body'] {
  if (name === 'identify' || name === 'onDenied') throw new Error(`${name} gets no body; remove body`)
  const size = parseSize(String(max).replace('kB', 'KiB').replace('MB', 'MiB'))
  if (size === undefined || size > MAX_BODY)
    throw new Error(`${name}: body.max must be a size up to 1MiB, such as 64kB`)
  if (!FORMS.includes(as as never)) throw new Error(`${name}: body.as must be json, text or bytes`)
  return { max: size, as: as as (typeof FORMS)[number] }
}

/** Returns the places where an extension is used for what it has no hook for. */
function misuses(
  { consumers, services, routes }: Config,
  hooks: ReadonlyMap<string, InstanceHooks>,
): { path: Path; message: string }[] {
  const found: { path: Path; message: string }[] = []
  const of = (name: string) => Object.keys(hooks.get(name) ?? {})
  for (const [i, source] of consumers.entries()) {
    if (!('extension' in source) || of(source.extension).includes('identify')) continue
    const message = `"${source.extension}" has no hook identify; add it to the module, or name the extension in use`
    found.push({ path: ['consumers', i, 'extension'], message })
  }
  const using = [
    ...Object.entries(services).map(([name, { use }]) => [['services', name], use] as const),
    ...routes.map(({ use }, i) => [['routes', i], use] as const),
  ]
  for (const [place, use] of using) {
    for (const [k, name] of (use ?? []).entries()) {
      if (of(name).some((hook) => hook !== 'identify')) continue
      const message = `"${name}" has no hook that runs here; name it in consumers, or add a hook to the module`
      found.push({ path: [...place, 'use', k], message })
    }
  }
  for (const { split } of routes) {
    for (const { service } of split ?? []) {
      for (const [k, name] of (services[service]?.use ?? []).entries()) {
        const path = ['services', service, 'use', k]
        if (!of(name).includes('onRequest') || found.some((one) => isDeepStrictEqual(one.path, path)))
          continue
        const wrong = `the onRequest of "${name}" runs before a split has chosen this service`
        found.push({ path, message: `${wrong}; name the extension in use of the route` })
      }
    }
  }
  return found
}

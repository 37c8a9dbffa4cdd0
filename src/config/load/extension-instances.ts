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
import {
  describeError,
  forgetModules,
  inTime,
  isNewerOnDisk,
  loadedModules,
} from '../../extension/modules.js'
import { usesOf } from '../check/extensions.js'
import type { Path } from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import type { InstanceHook, InstanceHooks } from '../snapshot/extensions.js'
import { deepFreeze } from '../snapshot/freeze.js'
import { suggest } from '../values/nearest-name.js'
import { parseSize } from '../values/quantities.js'

/** Largest body that a hook may ask for, in bytes. */
const MAX_BODY = 1024 * 1024

type Settings = NonNullable<Config['extensions']>[number]

/** Extension that runs. */
interface Instance {
  readonly settings: Settings
  readonly hooks: InstanceHooks
  readonly end: AbortController
}

interface Problem {
  readonly path: Path
  readonly message: string
}

/** Instances for a configuration that is not in force yet. */
export interface PreparedExtensions {
  /** Hooks by the name of the extension. */
  readonly hooks: ReadonlyMap<string, InstanceHooks>
  readonly problems: readonly Problem[]
  /** Ends the instances that are no longer in use. Call it after the swap. */
  commit(): void
  /** Ends the instances that were made for this configuration, and forgets their modules. Call it if there is no swap. */
  abandon(): void
}

/** Part of the warning about a module that is newer on disk. */
export const NEWER = 'has changed since it was loaded'

export type Extensions = ReturnType<typeof createExtensions>

type ExtensionLog = Readonly<Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>>
type OwnLog = ExtensionContext<unknown>['log']

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
  readonly meter?: (extension: string, log: OwnLog) => Meter
}) {
  let running: ReadonlyMap<string, Instance> = new Map()
  let log: ExtensionLog | undefined
  const early: [keyof ExtensionLog, object, string][] = []
  /** Names of extensions whose module has changed on disk. */
  const outdated = new Set<string>()

  function write(level: keyof ExtensionLog, fields: object, message: string): void {
    if (log !== undefined) log[level](fields, message)
    else if (early.length < EARLY_LINES) early.push([level, fields, message])
  }

  async function make(settings: Settings): Promise<Instance> {
    const end = new AbortController()
    const file = resolve(settings.module)
    const { name } = settings
    try {
      // Frozen with the configuration, too, but only later.
      const options = deepFreeze(settings.options)
      const log = logTo((level, message, fields) => write(level, { ...fields, extension: name }, message))
      const context = { name, options, log, meter: meter(name, log), signal: end.signal }
      return { settings, hooks: await createInstance(loadedModules.get(file)!.extension, context), end }
    } catch (error) {
      end.abort()
      const why = describeError(error, pathToFileURL(file).href)
      throw new Error(`create failed: ${why}; correct the module or its options`)
    } finally {
      if (!runs) end.abort()
    }
  }

  /** Runs these instances from now on, and ends those of `others` that are not among them. */
  function run(instances: typeof running, others: typeof running): void {
    for (const [name, instance] of others) if (instances.get(name) !== instance) instance.end.abort()
    running = instances
  }

  return {
    /**
     * Makes the instances that a configuration needs: one for each name, kept while its module and options are the same. Never
     * rejects.
     */
    async prepare(config: Config): Promise<PreparedExtensions> {
      const next = new Map<string, Instance>()
      const problems: Problem[] = []
      for (const [i, settings] of (config.extensions ?? []).entries()) {
        const { name, module, options } = settings
        const before = running.get(name)
        const same = before?.settings.module === module && isDeepStrictEqual(before.settings.options, options)
        try {
          next.set(name, same ? before : await make(settings))
        } catch (error) {
          problems.push({ path: ['extensions', i, 'module'], message: (error as Error).message })
        }
      }
      const hooks = new Map([...next].map(([name, instance]) => [name, instance.hooks]))
      if (problems.length === 0) problems.push(...misuses(config, hooks))
      return {
        hooks,
        problems,
        commit: () => run(next, running),
        abandon() {
          run(running, next)
          // A running instance keeps its module. Other modules may be corrected on disk, and are loaded again.
          const kept = new Set([...running.values()].map(({ settings }) => settings.module))
          const modules = (config.extensions ?? []).map(({ module }) => module)
          forgetModules(modules.filter((module) => !kept.has(module)).map((module) => resolve(module)))
        },
      }
    },
    /** Returns a warning for each module that has changed on disk since it was loaded, and logs it once. */
    async newer({ extensions = [] }: Config): Promise<string[]> {
      const messages: string[] = []
      for (const { name, module } of extensions) {
        if (!(await isNewerOnDisk(resolve(module)))) {
          outdated.delete(name)
          continue
        }
        const message = `the module of the extension ${name} ${NEWER}; it takes effect at the next start, or when SIGUSR2 replaces the workers`
        if (!outdated.has(name)) write('warn', { extension: name, module: resolve(module) }, message)
        outdated.add(name)
        messages.push(message)
      }
      return messages
    },
    /** Ends all instances and forgets the modules: the next `prepare` loads the present files. */
    renew(): void {
      this.close()
      forgetModules()
    },
    /** Hands over the log, which begins after the first configuration is loaded. */
    attach(attached: ExtensionLog): void {
      log = attached
      for (const line of early.splice(0)) write(...line)
    },
    /** Ends all instances. */
    close: (): void => run(new Map(), running),
  }
}

/** Returns a log for an extension that hands its lines to a function. */
export function logTo(
  write: (level: keyof OwnLog, message: string, fields: object | undefined) => void,
): OwnLog {
  const at = (level: keyof OwnLog) => (message: string, fields?: object) => write(level, message, fields)
  return { info: at('info'), warn: at('warn'), error: at('error') }
}

/**
 * Creates an instance, and returns its hooks.
 *
 * @throws Error if `create` throws, takes longer than 10 s or returns anything but hooks
 */
export async function createInstance(
  extension: Extension<unknown>,
  context: ExtensionContext<unknown>,
): Promise<InstanceHooks> {
  return bindHooks(await inTime(extension.create(context)))
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
function misuses(config: Config, hooks: ReadonlyMap<string, InstanceHooks>): Problem[] {
  const split = new Set(config.routes.flatMap((route) => (route.split ?? []).map(({ service }) => service)))
  return usesOf(config).flatMap(({ path, name }) => {
    const { identify, ...others } = hooks.get(name) ?? {}
    if (path[0] === 'consumers') {
      const message = `"${name}" has no hook identify; add it to the module, or name the extension in use`
      return identify === undefined ? [{ path, message }] : []
    }
    if (Object.keys(others).length === 0) {
      const message = `"${name}" has no hook that runs here; name it in consumers, or add a hook to the module`
      return [{ path, message }]
    }
    if (others.onRequest === undefined || path[0] !== 'services' || !split.has(String(path[1]))) return []
    const wrong = `the onRequest of "${name}" runs before a split has chosen this service`
    return [{ path, message: `${wrong}; name the extension in use of the route` }]
  })
}

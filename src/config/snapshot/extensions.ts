import { HOOKS, type HookName } from '../../extension/define.js'
import type { BoundHook, RouteHooks } from '../../extension/route-hooks.js'
import type { Config } from '../schema/schema.js'

/** Hook that `create` of an extension made. It outlives a snapshot. */
export type InstanceHook = Pick<BoundHook, 'run' | 'explain' | 'body'>

/** Hooks of one extension by kind. */
export type InstanceHooks = Readonly<Partial<Record<HookName, InstanceHook>>>

/** Extension of a snapshot. */
export interface CompiledExtension {
  readonly name: string
  /** Hooks by kind, with the settings of the extension. Empty where only the configuration is looked at. */
  readonly hooks: Readonly<Partial<Record<HookName, BoundHook>>>
}

/**
 * Compiles the extensions of a configuration.
 *
 * @param instances hooks by the name of the extension
 */
export function compileExtensions(
  { extensions = [] }: Config,
  instances: ReadonlyMap<string, InstanceHooks>,
): ReadonlyMap<string, CompiledExtension> {
  return new Map(
    extensions.map(({ name, timeout, on_error: onError }) => {
      const hooks: Partial<Record<HookName, BoundHook>> = {}
      for (const hook of HOOKS) {
        const made = instances.get(name)?.[hook]
        if (made === undefined) continue
        // Written out: all hooks share one shape.
        hooks[hook] = {
          extension: name,
          hook,
          run: made.run,
          explain: made.explain,
          body: made.body,
          timeout,
          onError: hook === 'identify' ? 'deny' : onError,
        }
      }
      return [name, { name, hooks }]
    }),
  )
}

/** Compiles the hooks of a route from the names in `use`. Returns undefined if there are none. */
export function compileHooks(
  names: readonly string[],
  extensions: ReadonlyMap<string, CompiledExtension>,
): RouteHooks | undefined {
  const kinds: Partial<Record<HookName, BoundHook[]>> = {}
  for (const bound of names.flatMap((name) => Object.values(extensions.get(name)!.hooks))) {
    if (bound.hook !== 'identify') kinds[bound.hook] = [...(kinds[bound.hook] ?? []), bound]
  }
  return Object.keys(kinds).length === 0 ? undefined : (kinds as RouteHooks)
}

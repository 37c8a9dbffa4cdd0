import type { HookName } from '../../extension/define.js'
import type { BoundHook, RouteHooks } from '../../extension/route-hooks.js'
import type { Config } from '../schema/schema.js'

/** Hook that `create` of an extension made. It outlives a snapshot. */
export type InstanceHook = Pick<BoundHook, 'run' | 'explain' | 'body'>

/** Hooks of one extension by kind. */
export type InstanceHooks = Readonly<Partial<Record<HookName, InstanceHook>>>

/** Hooks of one extension by kind, with its settings. Empty where only the configuration is looked at. */
export type CompiledExtension = Readonly<Partial<Record<HookName, BoundHook>>>

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
    extensions.map(({ name, timeout, on_error }) => {
      const hooks = Object.entries(instances.get(name) ?? {}).map(([hook, made]) => {
        const onError = hook === 'identify' ? 'deny' : on_error
        return [hook, { ...made, extension: name, hook, timeout, onError }]
      })
      return [name, Object.fromEntries(hooks)]
    }),
  )
}

/** Compiles the hooks of a route from the names in `use`. Returns undefined if there are none. */
export function compileHooks(
  names: readonly string[],
  extensions: ReadonlyMap<string, CompiledExtension>,
): RouteHooks | undefined {
  const kinds: Partial<Record<HookName, BoundHook[]>> = {}
  for (const bound of names.flatMap((name) => Object.values(extensions.get(name)!))) {
    if (bound.hook !== 'identify') kinds[bound.hook] = [...(kinds[bound.hook] ?? []), bound]
  }
  return Object.keys(kinds).length === 0 ? undefined : (kinds as RouteHooks)
}

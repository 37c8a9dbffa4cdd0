import type { InstanceHook, InstanceHooks } from '../../../src/config/snapshot/extensions.js'
import { HOOKS, type HookName } from '../../../src/extension/define.js'
import { createHookRunner, type HookRunner } from '../../../src/gateway/extensions/runner.js'

/** Runs hooks, and forgets what fails. For tests of stages that run none. */
export const noHooks: HookRunner = createHookRunner({
  metrics: { extensionFailed() {} },
  log: { warn() {} },
})

type Run = (...args: never[]) => unknown

/** Returns extensions by name, as `compileSnapshot` takes them: hooks as functions, or with their settings. */
export function instances(
  extensions: Readonly<
    Record<string, Partial<Record<HookName, Run | (Partial<Omit<InstanceHook, 'run'>> & { run: Run })>>>
  >,
): ReadonlyMap<string, InstanceHooks> {
  return new Map(
    Object.entries(extensions).map(([name, hooks]) => {
      const made: Partial<Record<HookName, InstanceHook>> = {}
      for (const kind of HOOKS) {
        const hook = hooks[kind]
        if (hook === undefined) continue
        const full = typeof hook === 'function' ? { run: hook } : hook
        made[kind] = { explain: false, body: undefined, ...full, run: full.run as InstanceHook['run'] }
      }
      return [name, made]
    }),
  )
}

import { createNoopMeter } from '@opentelemetry/api'
import { createInstance, logTo } from './config/load/extension-instances.js'
import { readOptions } from './config/load/extension-options.js'
import type {
  DenialView,
  Extension,
  ExtensionRequest,
  ExtensionResponse,
  HookName,
  Hooks,
} from './extension/define.js'

/** Runs hooks of an extension without a gateway: `import { runHook } from 'tidegate/extension/testing'`. */

/** Request of a test. The default is `GET /` from `198.51.100.7`, without a consumer. */
export interface TestRequest extends Partial<Omit<ExtensionRequest, 'header'>> {
  readonly headers?: Readonly<Record<string, string>>
  /** For hooks that take the body: as they get it. */
  readonly body?: unknown
  /** For `onResponse`. */
  readonly response?: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> }
  /** For `onDenied`. */
  readonly denial?: Partial<DenialView>
}

/** Result of a hook. */
export type HookResult<K extends HookName> =
  Extract<NonNullable<Hooks[K]>, (...args: never[]) => unknown> extends (...args: never[]) => infer R
    ? Awaited<R>
    : never

/** Extension that runs in a test. */
export interface TestExtension {
  /**
   * Runs a hook. Rejects with what the hook throws.
   *
   * @throws Error if the extension has no such hook
   */
  run<K extends HookName>(hook: K, request?: TestRequest): Promise<HookResult<K>>
  /** Lines that the extension has logged. */
  readonly lines: readonly { readonly level: string; readonly message: string; readonly fields: object }[]
  /** Ends the extension: aborts its `signal`. */
  end(): void
}

/**
 * Starts an extension, so that several hooks or requests can use one instance.
 *
 * @param options as in the configuration file
 * @throws Error with the gateway's messages, if the options do not match their schema or `create` fails
 */
export async function startExtension(
  // biome-ignore lint/suspicious/noExplicitAny: whatever options the extension takes, its schema checks them
  extension: Extension<any>,
  options: object = {},
  name = 'test',
): Promise<TestExtension> {
  const lines: TestExtension['lines'][number][] = []
  const log = logTo((level, message, fields = {}) => void lines.push({ level, message, fields }))
  const end = new AbortController()
  const context = { name, options: readOptions(extension, options), log, meter: createNoopMeter() }
  const hooks = await createInstance(extension, { ...context, signal: end.signal })
  return {
    lines,
    async run(name, { headers, body, response, denial, ...given } = {}) {
      const hook = hooks[name]
      if (hook === undefined) throw new Error(`the extension has no hook ${name}`)
      const more: unknown[] = []
      if (name === 'onResponse')
        more.push({ status: 200, ...response, header: lookUp(response?.headers) } satisfies ExtensionResponse)
      if (name === 'onDenied') more.push({ ...DENIAL, ...denial })
      if (hook.body !== undefined) more.push(body)
      const request = { ...REQUEST, signal: end.signal, ...given, header: lookUp(headers) }
      return (await hook.run(Object.freeze(request), ...more)) as never
    },
    end: () => end.abort(),
  }
}

/** Starts an extension, runs one hook on one request, and ends it. */
export async function runHook<K extends HookName>(
  // biome-ignore lint/suspicious/noExplicitAny: as above
  extension: Extension<any>,
  hook: K,
  request: TestRequest = {},
  options: object = {},
): Promise<HookResult<K>> {
  const started = await startExtension(extension, options)
  return started.run(hook, request).finally(() => started.end())
}

const DENIAL: DenialView = { limit: 'minute', retryAfter: 1, remaining: 0, cost: 1 }
const REQUEST: Omit<ExtensionRequest, 'header' | 'signal'> = {
  id: 'test',
  method: 'GET',
  host: 'localhost',
  path: '/',
  query: '',
  address: '198.51.100.7',
  secure: false,
  route: '/*',
  params: {},
  service: undefined,
  consumer: undefined,
  tier: undefined,
  tenant: undefined,
  scopes: [],
  limits: [],
}

function lookUp(headers: Readonly<Record<string, string>> = {}): ExtensionRequest['header'] {
  const byName = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
  return (name) => byName.get(name.toLowerCase())
}

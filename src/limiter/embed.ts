import { loadConfig } from '../config/load/load.js'
import type { Limit } from '../config/snapshot/limit.js'
import { forTenant } from '../config/snapshot/policy.js'
import { compileSnapshot } from '../config/snapshot/snapshot.js'
import type { Log } from '../log-throttle.js'
import { addressKey } from '../net/address-key.js'
import {
  ASKED,
  type Asked,
  type AskedLevels,
  LEVELS,
  type LimiterSettings,
  SETTINGS,
  unknownNames,
} from './embed-settings.js'
import type { Charge, Decision, Levels, LimitUsage } from './limiter.js'
import { type OpenedCounts, openCounts } from './open-limiter.js'
import { LIBRARY_STATUS } from './redis/heartbeat.js'

export type {
  Asked,
  AskedLevels,
  Duration,
  FullLimit,
  LimiterSettings,
  LimitSetting,
  OnFailure,
  Rate,
  StoreSettings,
} from './embed-settings.js'
export { addressKey }

/** Embedded limiter, for use inside your own HTTP server: `import { openLimiter } from 'tidegate/limiter'`. */

/** Decision, with functions to settle it later. */
export interface Taken extends Decision {
  /** Binding limit; undefined on a tier without limits. */
  readonly limit: Limit | undefined
  /**
   * Gives back the slots of `concurrency` limits. Call it when the response is closed.
   *
   * @param quota integer to charge in addition, or below 0 to give back. Default: 0.
   * @throws RangeError on a quota that is not an integer
   */
  done(quota?: number): Promise<void>
  /** Holds the slots for another `lease`, for work that takes longer than one. */
  renew(): Promise<void>
}

export interface EmbeddedLimiter {
  /**
   * Decides a request. Never rejects because of the store.
   *
   * @throws RangeError on an unknown tier or setting, or a cost that is not an integer ≥ 1
   */
  take(tier: string, consumer: string, asked?: Asked): Promise<Taken>
  /** Returns the usage of every limit. Rejects when the store is unreachable. */
  usage(tier: string, consumer: string, levels?: AskedLevels): Promise<readonly LimitUsage[]>
  /** Forgets what the consumer has used. Rejects when the store is unreachable. */
  reset(consumer: string, levels?: Pick<AskedLevels, 'byAddress'>): Promise<void>
  /**
   * Resolves when the store has answered, or after 5 s: then with `degraded`, if decisions are made without the store.
   * Earlier decisions follow `on_failure`.
   */
  readonly ready: Promise<'up' | 'degraded'>
  close(): Promise<void>
}

const UNLIMITED: Decision = {
  allowed: true,
  decidedBy: 'store',
  reason: undefined,
  binding: 0,
  violated: 0,
  remaining: Number.POSITIVE_INFINITY,
  resetMs: 0,
  retryMs: 0,
  at: 0,
}
const QUIET: Log = { info() {}, warn() {} }
/** How long `ready` waits for the store, in ms. */
const READY_PATIENCE = 5000

/**
 * Opens a limiter.
 *
 * @throws Error that names every invalid setting, and what to do
 */
export function openLimiter(settings: LimiterSettings): EmbeddedLimiter {
  const { service: name = 'api', log = QUIET } = settings
  const snapshot = compile(settings, name)
  const service = snapshot.services[0]!
  const opened = openCounts(snapshot.config.store, log, true)
  opened.heartbeat?.setStatus(LIBRARY_STATUS)

  function policyOf(tier: string, tenant: string | undefined) {
    const index = snapshot.tiers.indexOf(tier)
    if (index < 0)
      throw new RangeError(`no tier ${JSON.stringify(tier)}; the tiers are ${snapshot.tiers.join(', ')}`)
    const policy = service.policies[index]
    return policy && forTenant(policy, tenant)
  }

  return {
    async take(tier, whose, asked = {}) {
      const { cost = 1, tenant } = checked(asked, ASKED)
      const policy = policyOf(tier, tenant)
      if (!Number.isInteger(cost) || cost < 1) throw new RangeError(`cost is ${cost}; give an integer from 1`)
      if (policy === undefined) {
        return { ...UNLIMITED, limit: undefined, done: async () => {}, renew: async () => {} }
      }
      const levels = levelsOf(asked)
      const consumer = idOf(whose, asked)
      const decision = await opened.limiter.take(service, policy, consumer, cost, levels)
      const { allowed, decidedBy, at, times } = decision
      const charge: Charge = { service, policy, consumer, levels, cost, decidedBy, at, slotAt: at, times }
      let open = allowed
      let renewing: Promise<void> | undefined
      return {
        ...decision,
        limit: policy.limits[decision.binding],
        async done(quota = 0) {
          if (!Number.isInteger(quota)) throw new RangeError(`quota is ${quota}; give an integer`)
          if (!open) return
          open = false
          // A renewal in progress changes what is to be given back.
          await renewing
          if (quota !== 0 || policy.slots) await opened.limiter.settle(charge, quota, 'release')
        },
        async renew() {
          if (!open || !policy.slots) return
          renewing = Promise.resolve(renewing).then(() => opened.limiter.settle(charge, 0, 'renew'))
          await renewing
        },
      }
    },
    async usage(tier, whose, asked) {
      const policy = policyOf(tier, checked(asked ?? {}, LEVELS).tenant)
      if (policy === undefined) return []
      const levels = asked === undefined ? undefined : levelsOf(asked)
      return opened.limiter.usage(service, policy, idOf(whose, asked ?? {}), levels)
    },
    async reset(whose, asked = {}) {
      const { byAddress } = checked(asked, ['byAddress'])
      await opened.limiter.reset(service, idOf(whose, asked), byAddress)
    },
    ready: readyOf(opened),
    close: opened.close,
  }
}

function readyOf({ ready, limiter }: Pick<OpenedCounts, 'ready' | 'limiter'>): Promise<'up' | 'degraded'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, READY_PATIENCE)
    timer.unref()
  })
  return Promise.race([ready, late]).then(() => {
    clearTimeout(timer)
    return limiter.state()
  })
}

/**
 * Checks the names of the settings.
 *
 * @throws RangeError on an unknown name
 */
function checked<T extends object>(asked: T, known: readonly string[]): T {
  const wrong = unknownNames(asked, known)
  if (wrong.length > 0) throw new RangeError(wrong.join('\n'))
  return asked
}

function levelsOf({ ip = '', tenant, route = '', byAddress }: AskedLevels): Levels {
  return { ip: addressKey(ip), tenant, route, byAddress }
}

const idOf = (consumer: string, { byAddress }: AskedLevels) =>
  byAddress === true ? addressKey(consumer) : consumer

/** Compiles the settings as a gateway's configuration: with the same words, defaults, checks and messages. */
function compile(settings: LimiterSettings, name: string) {
  const { limits = {}, store = {}, on_failure } = settings
  const wrong = unknownNames(settings, SETTINGS)
  const text = JSON.stringify({
    tiers: Object.keys(limits),
    store,
    services: { [name]: { upstreams: ['http://127.0.0.1:1'], limits, on_failure } },
    routes: [{ path: '/*', service: name }],
  })
  const loaded = loadConfig(text, { file: 'openLimiter', env: {} })
  if (!loaded.ok) wrong.push(...loaded.errors.map(({ message }) => message))
  if (!loaded.ok || wrong.length > 0) throw new Error(`openLimiter: ${wrong.join('\n')}`)
  return compileSnapshot(loaded.config, Date.now())
}

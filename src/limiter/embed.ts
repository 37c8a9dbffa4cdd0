import { loadConfig } from '../config/load/load.js'
import { compileSnapshot, forTenant, type Limit } from '../config/snapshot/snapshot.js'
import type { Log } from './degraded.js'
import type { Charge, Decision, Levels, LimitUsage } from './limiter.js'
import { openCounts } from './open-limiter.js'

/** The limiter by itself, for who has an HTTP server already: `import { openLimiter } from 'tidegate/limiter'`. */

/** In the words of the configuration file (docs/config.md). */
export interface LimiterSettings {
  /** Where counts live; left out: in this process. `{ redis: 'redis://127.0.0.1:6379', timeout: '100ms' }` */
  readonly store?: object
  /** By tier: `10/min`, `['5/s', '100/min']`, `{ amount: 5, algorithm: 'concurrency' }`, `unlimited` … */
  readonly limits: Readonly<Record<string, unknown>>
  /** open, local or closed: what to do while the store is away. */
  readonly on_failure?: string
  /** Whose counts they are in the store: limiters of one name, and a gateway's service of that name, share them. */
  readonly service?: string
  /** Hears that the store went away or came back, at most a line a second; left out: nobody does. */
  readonly log?: Log
}

export interface Asked extends Partial<Levels> {
  /** Integer ≥ 1; by default 1. */
  readonly cost?: number
}

/** A decision, and what may become of it later. */
export interface Taken extends Decision {
  /** The binding limit; undefined on a tier without limits. */
  readonly limit: Limit | undefined
  /**
   * When the response is closed: gives back the slots of `concurrency` limits.
   *
   * @param quota what to charge on top now, or, below 0, to give back; integer, 0 by default
   * @throws RangeError on a quota that is no integer
   */
  done(quota?: number): Promise<void>
  /** Holds the slots for another `lease`: for whatever takes longer than one. */
  renew(): Promise<void>
}

export interface EmbeddedLimiter {
  /** Never rejects for the store's sake. @throws RangeError on an unknown tier, or a cost that is no integer ≥ 1 */
  take(tier: string, consumer: string, asked?: Asked): Promise<Taken>
  /** Every limit as it stands. Rejects when the store is out of reach. */
  usage(tier: string, consumer: string, levels?: Levels): Promise<readonly LimitUsage[]>
  /** Forgets what the consumer has used. Rejects when the store is out of reach. */
  reset(consumer: string): Promise<void>
  /** Resolves when the store has answered for the first time; decisions before that are made without it. */
  readonly ready: Promise<void>
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
const NOBODY = { ip: '', tenant: undefined, route: '' }

/** @throws Error that names every setting that is wrong, and what to do */
export function openLimiter(settings: LimiterSettings): EmbeddedLimiter {
  const { limits, store = {}, on_failure, service: name = 'api', log = QUIET } = settings
  const snapshot = compile({ limits, store, on_failure, name })
  const service = snapshot.services[0]!
  const opened = openCounts(snapshot.config.store, log, true)

  function policyOf(tier: string, tenant: string | undefined) {
    const index = snapshot.tiers.indexOf(tier)
    if (index < 0)
      throw new RangeError(`no tier ${JSON.stringify(tier)}; the tiers are ${snapshot.tiers.join(', ')}`)
    const policy = service.policies[index]
    return policy && forTenant(policy, tenant)
  }

  return {
    async take(tier, consumer, { cost = 1, ...given } = {}) {
      const policy = policyOf(tier, given.tenant)
      if (!Number.isInteger(cost) || cost < 1)
        throw new RangeError(`cost is ${cost}; it is an integer from 1`)
      if (policy === undefined) {
        return { ...UNLIMITED, limit: undefined, done: async () => {}, renew: async () => {} }
      }
      const levels = { ...NOBODY, ...given }
      const decision = await opened.limiter.take(service, policy, consumer, cost, levels)
      const { allowed, decidedBy, at, times } = decision
      const charge: Charge = { service, policy, consumer, levels, cost, decidedBy, at, slotAt: at, times }
      let open = allowed
      let renewing: Promise<void> | undefined
      return {
        ...decision,
        limit: policy.limits[decision.binding],
        async done(quota = 0) {
          if (!Number.isInteger(quota)) throw new RangeError(`quota is ${quota}; it is an integer`)
          if (!open) return
          open = false
          // A renewal that is under way moves what is to be given back.
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
    async usage(tier, consumer, levels) {
      const policy = policyOf(tier, levels?.tenant)
      return policy === undefined ? [] : opened.limiter.usage(service, policy, consumer, levels)
    },
    reset: (consumer) => opened.limiter.reset(service, consumer),
    ready: opened.ready,
    close: opened.close,
  }
}

/** Through the gateway's own configuration: the same words, defaults, checks and messages. */
function compile({
  limits,
  store,
  on_failure,
  name,
}: Record<'limits' | 'store', object> & Record<'on_failure' | 'name', string | undefined>) {
  const text = JSON.stringify({
    tiers: Object.keys(limits),
    store,
    services: { [name!]: { upstreams: ['http://127.0.0.1:1'], limits, on_failure } },
    routes: [{ path: '/*', service: name }],
  })
  const loaded = loadConfig(text, { file: 'openLimiter', env: {} })
  if (!loaded.ok) throw new Error(`openLimiter: ${loaded.errors.map(({ message }) => message).join('\n')}`)
  return compileSnapshot(loaded.config, Date.now())
}

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyPluginAsync } from 'fastify'
import { isTime } from '../common/json.js'
import { loadConfig } from '../config/load/load.js'
import { forTenant, type Policy } from '../config/snapshot/policy.js'
import { compileSnapshot } from '../config/snapshot/snapshot.js'
import { parseDuration } from '../config/values/quantities.js'
import { createMemoryMap, type MapShape } from '../fleet/replicated-map.js'
import { createRedisMap } from '../fleet/replicated-map-redis.js'
import type { Charge, Decision, Levels, LimitUsage } from '../limiter/limiter.js'
import { type OpenedCounts, openCounts } from '../limiter/open-limiter.js'
import { LIBRARY_STATUS } from '../limiter/redis/heartbeat.js'
import type { Log } from '../log-throttle.js'
import { addressKey } from '../net/address-key.js'
import {
  ASKED,
  type Asked,
  type AskedLevels,
  type Duration,
  LEVELS,
  type LimiterSettings,
  SETTINGS,
  type Taken,
  unknownNames,
} from './limiter-settings.js'
import {
  createMiddleware,
  createPlugin,
  type MiddlewareOptions,
  type Next,
  type PluginOptions,
} from './middleware.js'

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
  Taken,
} from './limiter-settings.js'
export type { Exempt, LimitOptions, MiddlewareOptions, PluginOptions } from './middleware.js'
export { addressKey }

/** Embedded limiter, for use inside your own HTTP server: `import { openLimiter } from 'tidegate/limiter'`. */

export interface EmbeddedLimiter {
  /**
   * Decides a request. Never rejects because of the store.
   *
   * @throws RangeError on an unknown tier or setting, or a cost that is not an integer ≥ 1
   */
  take(tier: string, consumer: string, asked?: Asked): Promise<Taken>
  /**
   * Charges the consumer without asking, whether there is room or not. Lost if the store does not answer.
   *
   * @param quota integer from 1
   * @throws RangeError on any other quota, or an unknown tier or setting
   */
  charge(tier: string, consumer: string, quota: number, levels?: AskedLevels): Promise<void>
  /** Gives quota back to the present windows, as far as they have counted it. Otherwise the same as `charge`. */
  refund(tier: string, consumer: string, quota: number, levels?: AskedLevels): Promise<void>
  /**
   * Denies everything that the consumer asks, in every process that shares the store, for a time; '0' lifts that. Needs
   * the setting `blocks`. Rejects when the store is unreachable.
   */
  block(consumer: string, duration: Duration, levels?: Pick<AskedLevels, 'byAddress'>): Promise<void>
  /** Returns a middleware for Express 5 and node:http that takes for each request, or answers 429. */
  middleware<Q extends IncomingMessage = IncomingMessage, S extends ServerResponse = ServerResponse>(
    options?: MiddlewareOptions<Q, S>,
  ): (req: Q, res: S, next: Next) => void
  /** Fastify plugin that does the same: `app.register(limiter.plugin, options)`. */
  readonly plugin: FastifyPluginAsync<PluginOptions>
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

  const blocks = settings.blocks === true ? openBlocks(opened, name, log) : undefined

  async function charge(quota: number, tier: string, whose: string, asked: AskedLevels): Promise<void> {
    const policy = policyOf(tier, checked(asked, LEVELS).tenant)
    if (policy === undefined) return
    const now = Date.now()
    const consumer = idOf(whose, asked)
    const by = { service, policy, consumer, levels: levelsOf(asked) }
    await opened.limiter.settle({ ...by, cost: 0, decidedBy: 'store', at: now, slotAt: now }, quota, 'keep')
  }

  async function take(
    tier: string,
    whose: string,
    asked: Asked,
  ): Promise<readonly [Taken, Policy | undefined]> {
    const { cost = 1, tenant } = checked(asked, ASKED)
    const policy = policyOf(tier, tenant)
    if (!Number.isInteger(cost) || cost < 1) throw new RangeError(`cost is ${cost}; give an integer from 1`)
    const nothing = { done: async () => {}, renew: async () => {} }
    const until = blocks?.until(idOf(whose, asked), asked.byAddress)
    if (until !== undefined) {
      const left = until - Date.now()
      const blocked = {
        allowed: false,
        decidedBy: 'cache',
        remaining: 0,
        resetMs: left,
        retryMs: left,
      } as const
      return [
        {
          ...UNLIMITED,
          ...blocked,
          ...nothing,
          at: until - left,
          cost,
          blockedUntil: until,
          limit: undefined,
        },
        policy,
      ]
    }
    if (policy === undefined)
      return [{ ...UNLIMITED, ...nothing, cost, blockedUntil: undefined, limit: undefined }, policy]
    const levels = levelsOf(asked)
    const consumer = idOf(whose, asked)
    const decision = await opened.limiter.take(service, policy, consumer, cost, levels)
    const { allowed, decidedBy, at, times } = decision
    const charge: Charge = { service, policy, consumer, levels, cost, decidedBy, at, slotAt: at, times }
    let open = allowed
    let renewing: Promise<void> | undefined
    const taken: Taken = {
      ...decision,
      cost,
      blockedUntil: undefined,
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
    return [taken, policy]
  }

  const deciding = { service, tiers: snapshot.tiers, take }
  return {
    take: async (tier, whose, asked = {}) => (await take(tier, whose, asked))[0],
    charge: async (tier, whose, quota, asked = {}) => charge(counted(quota), tier, whose, asked),
    refund: async (tier, whose, quota, asked = {}) => charge(-counted(quota), tier, whose, asked),
    async block(whose, duration, asked = {}) {
      const { byAddress } = checked(asked, ['byAddress'])
      const ms = parseDuration(duration)
      if (ms === undefined) throw new RangeError(`${JSON.stringify(duration)} is no duration; write 10m`)
      if (blocks === undefined) throw new Error('block needs the setting blocks: true')
      await blocks.set(idOf(whose, asked), byAddress, ms)
    },
    middleware: (options = {}) => createMiddleware(deciding, options),
    plugin: createPlugin(deciding),
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
    async close() {
      await blocks?.close()
      await opened.close()
    },
  }
}

/** Blocks of consumers by service and consumer, with the unix ms until which each holds. */
const BLOCKS: MapShape<number> = {
  // Under the beginning of the bans, which the store's ACL names.
  name: 'ban:{blocks}',
  what: 'blocked consumers',
  keyName: 'consumer',
  parse(text) {
    const until = Number(text)
    return isTime(until) ? until : undefined
  },
  write: String,
  until: (until) => until,
  most: 200_000,
  longestKey: 600,
  longestValue: 16,
}

function openBlocks({ redis, heartbeat }: OpenedCounts, service: string, log: Log) {
  const map =
    redis === undefined ? createMemoryMap(BLOCKS) : createRedisMap(BLOCKS, { store: redis, heartbeat, log })
  const keyOf = (consumer: string, byAddress = false) => `${service} ${byAddress ? 'ip' : 'id'} ${consumer}`
  return {
    until: (consumer: string, byAddress: boolean | undefined) => map.get(keyOf(consumer, byAddress)),
    set: (consumer: string, byAddress: boolean | undefined, ms: number) =>
      map.set(keyOf(consumer, byAddress), ms === 0 ? undefined : Date.now() + ms),
    close: () => map.close(),
  }
}

/** @throws RangeError on a quota that is not an integer from 1 */
function counted(quota: number): number {
  if (!Number.isInteger(quota) || quota < 1) throw new RangeError(`quota is ${quota}; give an integer from 1`)
  return quota
}

function readyOf({ ready, limiter }: Pick<OpenedCounts, 'ready' | 'limiter'>): Promise<'up' | 'degraded'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, READY_PATIENCE).unref()
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

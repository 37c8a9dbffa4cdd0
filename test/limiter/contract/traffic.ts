import { setTimeout as delay } from 'node:timers/promises'
import type { OnFailure } from '../../../src/config/snapshot/snapshot.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import type { RedisLimiter } from '../../../src/limiter/redis/redis.js'
import { policyOf, serviceOf } from './build.js'

/** So large that nothing is denied, and all charges show. */
export const policy = policyOf([1_000_000, 86_400_000])

export function serviceWhich(onFailure: OnFailure) {
  return serviceOf('payments', [policy], onFailure)
}

export interface Timed {
  readonly decision: Decision
  readonly ms: number
}

/** Sends traffic of 20 callers for `ms`, each asking again 2 ms after its answer. */
export async function traffic(
  limiter: RedisLimiter,
  ms: number,
  onFailure: OnFailure = 'open',
): Promise<Timed[]> {
  const service = serviceWhich(onFailure)
  const until = performance.now() + ms
  const all: Timed[] = []
  async function caller(): Promise<void> {
    while (performance.now() < until) {
      const started = performance.now()
      const decision = await limiter.take(service, policy, 'alice', 1)
      all.push({ decision, ms: performance.now() - started })
      await delay(2)
    }
  }
  await Promise.all(Array.from({ length: 20 }, caller))
  return all
}

/**
 * Longest decision, in ms, that waits only for a timeout of 100 ms or for a lost connection. A quiet machine takes 150 ms. On a
 * busy one all are late; without the feature under test none would ever end.
 */
export const SLOWEST = 3000
/** Longest time until a recovered store counts again, in ms: half a second on a quiet machine. */
export const RECOVERY = 20_000
/** Longest wait for a healthy store on a busy machine, in ms. */
export const PATIENT = 5000

export const slowest = (all: readonly Timed[]) => Math.max(...all.map(({ ms }) => ms))

export const median = (all: readonly Timed[]) =>
  all.map(({ ms }) => ms).sort((a, b) => a - b)[all.length >> 1] ?? 0

/** Returns the charges that the store has for the consumer. */
export async function used(limiter: RedisLimiter, consumer: string): Promise<number> {
  return (await limiter.usage(serviceWhich('open'), policy, consumer))[0]!.used
}

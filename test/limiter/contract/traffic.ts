import { setTimeout as delay } from 'node:timers/promises'
import type { OnFailure } from '../../../src/config/snapshot/snapshot.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import type { RedisLimiter } from '../../../src/limiter/redis/redis.js'
import { policyOf, serviceOf } from './build.js'

/** So large that nothing is denied: what was charged can be read off. */
export const policy = policyOf([1_000_000, 86_400_000])

export function serviceWhich(onFailure: OnFailure) {
  return serviceOf('payments', [policy], onFailure)
}

export interface Timed {
  readonly decision: Decision
  readonly ms: number
}

/** Traffic of 20 callers until `ms` have passed, each asking again 2 ms after its answer. */
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
 * Ms, for decisions that wait for nothing but a timeout of 100 ms at most, or for a connection that is gone: on a quiet machine
 * 150 ms. On a busy one all are late, and without what is tested it is never.
 */
export const SLOWEST = 3000
/** Ms until a store that is there again is counted in: half a second on a quiet machine. */
export const RECOVERY = 20_000
/** Ms that a decision waits for a store which is well, and only late because the machine is busy. */
export const PATIENT = 5000

export const slowest = (all: readonly Timed[]) => Math.max(...all.map(({ ms }) => ms))

export const median = (all: readonly Timed[]) =>
  all.map(({ ms }) => ms).sort((a, b) => a - b)[all.length >> 1] ?? 0

/** What the store says was charged to the consumer. */
export async function used(limiter: RedisLimiter, consumer: string): Promise<number> {
  return (await limiter.usage(serviceWhich('open'), policy, consumer))[0]!.used
}

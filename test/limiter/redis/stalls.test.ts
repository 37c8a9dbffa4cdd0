import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Decision } from '../../../src/limiter/limiter.js'
import type { RedisLimiter } from '../../../src/limiter/redis/redis.js'
import { startRedis } from '../../support/redis/redis.js'
import { stall } from '../../support/stall.js'
import { openLimiter } from '../contract/open-limiter.js'
import { policy, serviceWhich, used } from '../contract/traffic.js'

/**
 * The store is never slow by itself here. A machine busy with other tests may keep Redis from running for longer than the
 * timeout, and then a degraded decision is correct. A design fault would show each time.
 */
const ATTEMPTS = 10
/** Longest wait of a decision, in ms: on a machine four times slower Redis has to get through 5,000 in that time. */
const TIMEOUT = 500

const service = serviceWhich('open')
/** All consumers differ, so no requests are merged. */
const consumers = Array.from({ length: 5000 }, (_, i) => `consumer-${i}`)

/**
 * Repeats until nothing was degraded, each time with a new limiter and Redis.
 *
 * @param askedFor how many consumers, each as often as the others
 */
async function degradesNone(
  t: Test,
  askedFor: number,
  run: (limiter: RedisLimiter) => Promise<readonly Decision[]>,
) {
  const found: number[] = []
  do {
    const { limiter } = openLimiter(t, (await startRedis(t)).url, TIMEOUT)
    await limiter.ready
    const decisions = await run(limiter)
    found.push(decisions.filter(({ decidedBy }) => decidedBy !== 'store').length)
    if (found.at(-1) !== 0) {
      // Waits, as what keeps the machine busy may be over then.
      await delay(500)
      continue
    }
    t.equal(limiter.state(), 'up')
    t.equal(await used(limiter, 'consumer-7'), decisions.length / askedFor, 'each is charged exactly once')
  } while (found.at(-1) !== 0 && found.length < ATTEMPTS)
  t.equal(found.at(-1), 0, `degraded, time after time: ${found}`)
}

t.test('a stall of three timeouts with 5,000 decisions in flight degrades none', async (t) => {
  await degradesNone(t, 5000, async (limiter) => {
    const deciding = consumers.map((consumer) => limiter.take(service, policy, consumer, 1))
    // Sent at the end of this turn. The replies, more than a socket holds, come before anybody looks.
    await turn()
    stall(3 * TIMEOUT)
    return Promise.all(deciding)
  })
})

t.test('constant short stalls degrade no decision', async (t) => {
  await degradesNone(t, 50, async (limiter) => {
    const deciding: (Decision | Promise<Decision>)[] = []
    for (let i = 0; i < 6; i++) {
      for (const consumer of consumers.slice(0, 50)) {
        deciding.push(limiter.take(service, policy, consumer, 1))
      }
      await turn()
      stall(1.1 * TIMEOUT)
    }
    return Promise.all(deciding)
  })
})

t.test('5,000 concurrent decisions in one process degrade none', async (t) => {
  await degradesNone(t, 5000, async (limiter) => {
    const all: Decision[] = []
    let slowest = 0
    for (let i = 0; i < 3; i++) {
      const started = performance.now()
      all.push(
        ...(await Promise.all(consumers.map((consumer) => limiter.take(service, policy, consumer, 1)))),
      )
      slowest = Math.max(slowest, performance.now() - started)
    }
    t.comment(`the slowest of three times 5,000 took ${slowest.toFixed(1)} ms`)
    return all
  })
})

// Tests src/limiter/redis/script-arguments.ts
import t, { type Test } from 'tap'
import { consumerPart, limitKey } from '../../../src/limiter/key.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { createRedisLimiter } from '../../../src/limiter/redis/redis.js'
import { startRedis } from '../../support/redis/redis.js'
import { contract, type Subject } from '../contract/contract.js'
import { changeContract } from '../contract/contract-changes.js'
import { shareContract } from '../contract/contract-shares.js'

const DAY = 86_400_000
const quiet = { info() {}, warn() {} }

/** Removes every key that expires before ARGV[1], Unix ms. It is one command, as the properties call it thousands of times. */
const EXPIRE = `
  for _, key in ipairs(redis.call('KEYS', 'rl:*')) do
    if tonumber(ARGV[1]) > redis.call('PEXPIRETIME', key) then redis.call('DEL', key) end
  end
`
const redis = await startRedis(t)

const open = async (t: Test, ownConnection = true) => {
  await redis.client.flushdb()
  const store = connectStore({ redis: redis.url }, quiet)
  const limiter = createRedisLimiter({
    store,
    timeoutMs: 5000,
    log: quiet,
    ownConnection,
    now: () => subject.clock,
  })
  t.teardown(async () => {
    await limiter.close()
    store.disconnect()
  })
  await limiter.ready
  const subject: Subject = {
    limiter,
    // Ahead of the real clock, so that Redis itself expires nothing.
    clock: (Math.floor(Date.now() / DAY) + 100) * DAY,
    async expire() {
      await redis.client.eval(EXPIRE, 0, subject.clock)
    },
    async state(service, consumer, keyPart) {
      const key = limitKey(service, consumerPart(consumer), keyPart)
      const [dump, expires] = await Promise.all([
        redis.client.dumpBuffer(key),
        redis.client.call('PEXPIRETIME', key),
      ])
      return `${dump?.toString('hex')} until ${expires}`
    },
    windowsBack: 7,
  }
  return subject
}
contract(t, 'redis', open)
changeContract(t, 'redis', open)
shareContract(t, 'redis', open)
contract(t, 'redis, without own_connection', (t) => open(t, false))

import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer, ownRedis } from '../../support/redis/redis.js'
import { type OpenLimiter, openLimiter } from '../contract/open-limiter.js'
import { policy, SLOWEST, serviceWhich, slowest, traffic, used } from '../contract/traffic.js'

const skip = hasRedisServer ? false : 'needs a redis-server of its own'
const service = serviceWhich('open')

t.jobs = 4

/** Sends traffic while the server answers with errors, and measures how long until it counts again after `end`. */
async function refused(t: Test, { limiter, log }: OpenLimiter, why: RegExp, end: () => Promise<unknown>) {
  const during = await traffic(limiter, 400)
  await eventually('the log tells why', () => why.test(JSON.stringify(log)))
  t.ok(during.every(({ decision }) => decision.allowed && decision.decidedBy === 'open'))
  t.ok(slowest(during) < SLOWEST, `no decision takes long: ${slowest(during).toFixed(1)} ms`)
  t.match(JSON.stringify(log), why, 'the log tells why')
  t.notMatch(JSON.stringify(log), /secret/)
  await end()
  const back = performance.now()
  while ((await limiter.take(service, policy, 'bob', 1)).decidedBy !== 'store') await delay(5)
  t.comment(
    `slowest ${slowest(during).toFixed(1)} ms; counting again after ${(performance.now() - back).toFixed(0)} ms`,
  )
  t.equal(await used(limiter, 'alice'), 0, 'nothing was charged')
}

t.test(
  'a server that asks for a password that is not configured: requests fail open',
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    await redis.client.config('SET', 'requirepass', 'secret')
    const opened = openLimiter(t, redis.url)
    await refused(t, opened, /NOAUTH/, async () => {
      await redis.client.auth('secret')
      await redis.client.config('SET', 'requirepass', '')
    })
  },
)

t.test('a user without the right to run scripts: requests fail open', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.call('ACL', 'SETUSER', 'gateway', 'on', '>secret', '~*', '+@all', '-@scripting')
  const opened = openLimiter(t, `redis://gateway:secret@127.0.0.1:${redis.port}`)
  await refused(t, opened, /NOPERM/, () => redis.client.call('ACL', 'SETUSER', 'gateway', '+@scripting'))
})

t.test('a right that is revoked under load: requests fail open until it is back', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.call('ACL', 'SETUSER', 'gateway', 'on', '>secret', '~*', '+@all')
  const opened = openLimiter(t, `redis://gateway:secret@127.0.0.1:${redis.port}`)
  await opened.limiter.ready
  await redis.client.call('ACL', 'SETUSER', 'gateway', '-set', '-get', '-incrby')
  await refused(t, opened, /NOPERM|permissions/, () =>
    redis.client.call('ACL', 'SETUSER', 'gateway', '+@all'),
  )
})

t.test('a server that is loading its data: requests fail open until it has loaded', { skip }, async (t) => {
  const redis = await ownRedis(t, [
    ...['--enable-debug-command', 'yes', '--loading-process-events-interval-bytes', '1024'],
  ])
  await redis.client.call('DEBUG', 'POPULATE', 20_000)
  const opened = openLimiter(t, redis.url)
  await opened.limiter.ready
  // Microseconds a key: all would take 40 s, and the test spares it the rest at the end.
  await redis.client.config('SET', 'key-load-delay', 2000)
  // A client without ioredis' ready check, as the server is loading.
  const other = redis.client.duplicate({ enableReadyCheck: false })
  t.teardown(() => other.disconnect())
  await other.ping()
  const loading = redis.client.call('DEBUG', 'RELOAD')
  await eventually('it loads', async () => /loading:1/.test(await other.info('persistence')))
  await refused(t, opened, /LOADING/, async () => {
    await other.config('SET', 'key-load-delay', 0)
    await loading
  })
})

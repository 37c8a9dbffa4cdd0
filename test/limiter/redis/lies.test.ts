import { once } from 'node:events'
import t from 'tap'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { createHeartbeat } from '../../../src/limiter/redis/heartbeat.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf } from '../../support/gateway/gateway.js'
import { lyingRedis } from '../../support/redis/lying-redis.js'
import { openLimiter } from '../contract/open-limiter.js'

const NOW = `:${Date.now()}\r\n`
const YAML = `
tiers: [plain, mixed]
services:
  api:
    upstreams: ['http://a']
    on_failure: closed
    limits: { plain: [2/s, 10/min], mixed: { amount: 10, window: 1m, algorithm: token_bucket } }
routes: [{ path: /*, service: api }]
`

t.test('an impossible reply of the store is logged, and on_failure decides instead', async (t) => {
  const service = snapshotOf(YAML).services[0]!
  const lies: [what: string, reply: string, tier?: number][] = [
    ['no list', ':1\r\n'],
    ['nothing', '$-1\r\n'],
    ['an empty list', '*0\r\n'],
    ['text', `*5\r\n${NOW}$1\r\n1\r\n:1\r\n:1\r\n:0\r\n`],
    ['less than a decision', `*3\r\n${NOW}:1\r\n:1\r\n`],
    ['more than a decision', `*6\r\n${NOW}:1\r\n:1\r\n:1000\r\n:0\r\n:5\r\n`],
    ['more left than is allowed', `*5\r\n${NOW}:1\r\n:3\r\n:1000\r\n:0\r\n`],
    ['less than nothing left', `*5\r\n${NOW}:1\r\n:-1\r\n:1000\r\n:0\r\n`],
    ['a limit that there is not', `*5\r\n${NOW}:5\r\n:1\r\n:1000\r\n:0\r\n`],
    ['allowed, and denied by a limit', `*5\r\n${NOW}:17\r\n:1\r\n:1000\r\n:0\r\n`],
    ['denied, and by none', `*7\r\n${NOW}:0\r\n:0\r\n:1000\r\n:500\r\n:0\r\n:0\r\n`],
    ['a reset that was', `*5\r\n${NOW}:1\r\n:1\r\n:-1\r\n:0\r\n`],
    ['more granted than asked', `*6\r\n${NOW}:2\r\n:1\r\n:1\r\n:1000\r\n:0\r\n`, 1],
    ['less granted than none', `*6\r\n${NOW}:-1\r\n:1\r\n:1\r\n:1000\r\n:0\r\n`, 1],
  ]
  await Promise.all(
    lies.map(async ([what, reply, tier = 0]) => {
      const store = await lyingRedis(t)
      const { limiter, log } = openLimiter(t, store.url, 1000)
      await limiter.ready
      store.say(reply)
      const decision = await limiter.take(service, service.policies[tier]!, 'alice', 1)
      t.match(decision, { allowed: false, decidedBy: 'closed', reason: 'error' }, what)
      t.ok(
        log.some(({ message }) => message === 'the store sent a reply that is not a decision'),
        `${what}: is in the log`,
      )
    }),
  )
  const store = await lyingRedis(t)
  const { limiter } = openLimiter(t, store.url, 1000)
  await limiter.ready
  store.say(`*5\r\n${NOW}:3\r\n:2\r\n:1000\r\n:0\r\n`)
  const decision = await limiter.take(service, service.policies[0]!, 'alice', 1)
  t.match(
    decision,
    { allowed: true, decidedBy: 'store', binding: 1, remaining: 2 },
    'and the truth is believed',
  )
})

t.test('a store whose reply to the probe has no time is not up', async (t) => {
  await Promise.all(
    [':5\r\n', '$-1\r\n', '*0\r\n', '*1\r\n$1\r\nx\r\n'].map(async (reply) => {
      const store = await lyingRedis(t)
      const { limiter, log } = openLimiter(t, store.url)
      await limiter.ready
      await store.misleads(reply)
      await eventually('it is refused', () =>
        log.some(({ fields }) => /not a time/.test(String(fields.error))),
      )
      await eventually('it is up again once it tells the time', () => limiter.state() === 'up')
    }),
  )
})

t.test('an invalid number of gateways is ignored', async (t) => {
  const liar = await lyingRedis(t)
  const store = connectStore({ redis: liar.url }, { info() {}, warn() {} })
  t.teardown(() => store.disconnect())
  await once(store, 'ready')
  const BEAT = '*7\r\n:7\r\n:7\r\n:1\r\n:2\r\n:0\r\n:3\r\n$0\r\n\r\n'
  for (const reply of ['+x\r\n', '$-1\r\n', '*0\r\n', ':7\r\n', BEAT.replace(':1', '$1\r\n1'), BEAT]) {
    liar.say(reply)
    const nodes = createHeartbeat(store)
    // Sent right after, so its reply comes after the other.
    await store.ping()
    t.equal(nodes.count(), reply === BEAT ? 7 : 1, reply)
    await nodes.close()
  }
})

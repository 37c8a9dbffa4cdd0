import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { startBackend } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { hasRedisServer, ownRedis } from '../support/redis/redis.js'

const LIMIT = 30
const GATEWAYS = 3
const skip = hasRedisServer ? false : 'needs a redis-server of its own to kill'

t.test(
  'three gateways without Redis together admit the limit, give or take one request each',
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    const backend = await startBackend(t)
    const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", on_failure: local, timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: ${LIMIT}/day } } }
routes: [{ path: /*, service: api }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
    const gateways = await Promise.all(Array.from({ length: GATEWAYS }, () => startWhole(t, yaml)))
    const ask = async (gateway: number, user: string) => {
      const { statusCode, headers, body } = await request(gateways[gateway]!.address, {
        headers: { 'x-user-id': user },
      })
      await body.dump()
      return { passed: statusCode === 200, status: statusCode, counted: headers.ratelimit !== undefined }
    }
    const askAll = async (user: string, each: number) => {
      let passed = 0
      for (let i = 0; i < each; i++) {
        for (let gateway = 0; gateway < GATEWAYS; gateway++) if ((await ask(gateway, user)).passed) passed++
      }
      return passed
    }

    await t.test('the gateways know of each other', async (t) => {
      const announced = async () => {
        const entries = await redis.client.zrange('nodes:{gateways}', '0', '-1', 'WITHSCORES')
        return entries.filter((_, i) => i % 2 === 1).map(Number)
      }
      while ((await announced()).length < GATEWAYS) await delay(20)
      const latest = Math.max(...(await announced()))
      while (!(await announced()).every((at) => at > latest)) await delay(20)
      t.equal((await announced()).length, GATEWAYS)
    })

    t.equal(await askAll('seen', 4), 12, 'twelve of thirty, counted in the store')
    await redis.stop()
    const seen = await askAll('seen', LIMIT)
    t.ok(
      12 + seen <= LIMIT + GATEWAYS,
      `12 before and ${seen} during the outage: the bound is ${LIMIT} + ${GATEWAYS}`,
    )
    t.ok(12 + seen >= LIMIT - GATEWAYS, 'no share was too small')
    t.equal(await askAll('fresh', LIMIT), LIMIT, 'a new consumer gets the limit, in three shares')

    await redis.restart()
    for (let gateway = 0; gateway < GATEWAYS; gateway++) {
      while (!(await ask(gateway, 'probe')).counted) await delay(20)
    }
    const back = []
    for (let gateway = 0; gateway < GATEWAYS; gateway++) back.push((await ask(gateway, 'fresh')).status)
    t.same(back, [200, 200, 429], 'each charges its ten to the empty store, once, before it asks')
    t.same([(await ask(0, 'fresh')).status, (await ask(1, 'fresh')).status], [429, 429])
  },
)

import t from 'tap'
import { deployedRedis, recordsIn, writeRecords } from '../support/deployed-redis.js'
import { hasRedisServer } from '../support/redis.js'

const skip = hasRedisServer ? false : 'no redis-server on the PATH'
const KILLS = 20

t.test(`${KILLS} kill -9 of the Redis of docs/deploy.md under writes lose no record`, { skip }, async (t) => {
  const redis = await deployedRedis(t)
  const taken = new Map<string, Set<string>>()
  for (let kill = 0; kill < KILLS; kill++) {
    const writer = await writeRecords(redis.gateway, `w${'x'.repeat(kill)}`)
    await new Promise((resolve) => setTimeout(resolve, 500 + 77 * kill))
    await redis.stop()
    await redis.restart()
    await writer.stop()
    for (const [map, keys] of writer.taken) {
      taken.set(map, new Set([...(taken.get(map) ?? []), ...keys]))
    }
    const after = await recordsIn(redis.client)
    for (const [map, keys] of taken) {
      const records = new Set((after.get(map) ?? []).map((text) => text.split(',')[0]))
      const lost = [...keys].filter((key) => !records.has(key))
      t.equal(lost.length, 0, `${map} after kill ${kill + 1}: of ${keys.size}`)
    }
  }
  for (const [map, { size }] of taken) t.comment(`${map}: ${size} records`)
})

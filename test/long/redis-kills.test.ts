import t from 'tap'
import { eventually } from '../support/eventually.js'
import { deployedRedis, openGatewayStore, recordsIn, writeRecords } from '../support/redis/deployed-redis.js'
import { hasRedisServer } from '../support/redis/redis.js'

const skip = hasRedisServer ? false : 'no redis-server on the PATH'
const KILLS = 20
const AUDIT = 'audit:{log}'

t.test(
  `${KILLS} kill -9 during writes lose no record, but for the latest of the audit log`,
  { skip },
  async (t) => {
    const redis = await deployedRedis(t)
    const gateway = await openGatewayStore(redis.gateway)
    t.teardown(() => gateway.close())
    await gateway.keys.keys().ready
    const taken = new Map<string, Set<string>>()

    /** Returns the keys that Redis has lost, by map. */
    async function lost(): Promise<ReadonlyMap<string, readonly string[]>> {
      const all = await recordsIn(redis.client)
      return new Map(
        [...taken].map(([map, keys]) => {
          const records = new Set((all.get(map) ?? []).map((text) => text.split(',')[0]!))
          return [map, [...keys].filter((key) => !records.has(key))]
        }),
      )
    }

    for (let kill = 1; kill <= KILLS; kill++) {
      const writer = await writeRecords(redis.gateway, `w${'x'.repeat(kill)}`)
      await new Promise((resolve) => setTimeout(resolve, 500 + 77 * kill))
      await redis.stop()
      await redis.restart()
      await writer.stop()
      for (const [map, keys] of writer.taken) taken.set(map, new Set([...(taken.get(map) ?? []), ...keys]))
      // A busy disk may keep the latest records from Redis's file. The gateways still have them, except for the audit log.
      for (const [map, missing] of await lost()) {
        if (missing.length > 0) t.comment(`kill ${kill}: Redis lost the latest ${missing.length} of ${map}`)
        if (map === AUDIT) for (const key of missing) taken.get(AUDIT)!.delete(key)
      }
      for (const map of gateway.maps()) {
        const looked = () =>
          map.look().then(
            () => true,
            () => false,
          )
        await eventually('the gateway has looked', looked)
        if (map.history().forgottenAt !== undefined) await map.restore()
      }
      for (const [map, missing] of await lost()) t.equal(missing.length, 0, `${map} after kill ${kill}`)
    }
    for (const [map, { size }] of taken) t.comment(`${map}: ${size} records`)
  },
)

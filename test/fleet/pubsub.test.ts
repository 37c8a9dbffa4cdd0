import t from 'tap'
import { openSubscriber } from '../../src/fleet/pubsub.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { startRedis } from '../support/redis/redis.js'

t.test('a listener that ends leaves the other channels as they are', async (t) => {
  const redis = await startRedis(t)
  let broken = 0
  const store = connectStore({ redis: redis.url }, { info() {}, warn() {} }, () => broken++)
  const subscriber = openSubscriber(store)
  t.teardown(() => {
    subscriber.close()
    store.disconnect()
  })
  const heard: string[] = []
  const silence = subscriber.listen('nodes:a', (message) => heard.push(`a ${message}`))
  subscriber.listen('nodes:b', (message) => heard.push(`b ${message}`))
  await eventually('both are heard', () => subscriber.hears('nodes:a') && subscriber.hears('nodes:b'))
  silence()
  await redis.client.publish('nodes:a', '1')
  await redis.client.publish('nodes:b', '2')
  await eventually('b is heard', () => heard.length > 0)
  t.same(heard, ['b 2'])
  t.equal(broken, 0, 'the connection was kept')
  subscriber.listen('nodes:a', (message) => heard.push(`again ${message}`))
  await redis.client.publish('nodes:a', '3')
  await eventually('it comes', () => heard.includes('again 3'))
})

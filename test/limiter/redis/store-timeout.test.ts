import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { askStore } from '../../../src/limiter/redis/store-timeout.js'
import { startRedis } from '../../support/redis/redis.js'
import { stall } from '../../support/stall.js'

t.test('an answer that came while the event loop stood still counts', async (t) => {
  const { client } = await startRedis(t)
  await client.set('x', '1')
  const answer = askStore(200, client.get('x'))
  // Timers come next, before anything is read.
  await setImmediate()
  stall(500)
  t.equal(await answer, '1')
})

t.test('a store that does not answer is given up after the time', async (t) => {
  await t.rejects(askStore(20, new Promise(() => {})), { message: 'the store did not answer within 20 ms' })
})

t.test('the error of a lost connection is said in words for an operator', async (t) => {
  const lost = (message: string) => askStore(1000, Promise.reject(new Error(message)))
  await t.rejects(lost('Connection is closed.'), { message: 'there is no connection to the store' })
  await t.rejects(lost('Reached the max retries per request limit'), {
    message: 'the connection to the store was lost',
  })
  await t.rejects(lost('WRONGTYPE x'), { message: 'WRONGTYPE x' })
})

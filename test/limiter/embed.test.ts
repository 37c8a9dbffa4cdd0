import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { openLimiter } from '../../src/limiter/embed.js'
import { startRedis } from '../support/redis.js'

const page = readFileSync(new URL('../../docs/limiter-library.md', import.meta.url), 'utf8')
const example = /```js\n(.*?)```/s.exec(page)![1]!
/** A Redis that waits for a busy machine is not out of reach. */
const patient = example.replace(
  '{ redis: process.env.REDIS_URL }',
  "{ redis: process.env.REDIS_URL, timeout: '5s' }",
)

t.test('the example of the docs runs, in memory and on Redis', async (t) => {
  t.ok(example.trim().split('\n').length <= 20, 'and has 20 lines')
  t.not(patient, example)
  const redis = await startRedis(t)
  const file = `${t.testdir({ 'server.mjs': patient })}/server.mjs`
  const runs = [{}, { REDIS_URL: redis.url }].map(async (env) => {
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, REDIS_URL: undefined, PORT: '0', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    const [address] = (await once(child.stdout, 'data')).map(String)
    const ask = async (key = '') => {
      const { statusCode, headers, body } = await request(address!.trim(), { headers: { 'x-api-key': key } })
      return { status: statusCode, retry: headers['retry-after'], text: await body.text() }
    }
    t.match(await ask(), { status: 200, text: '2 left' })
    t.match(await ask(), { status: 200, text: '1 left' })
    t.match(await ask(), { status: 200, text: '0 left' })
    t.match(await ask(), { status: 429, retry: /^\d+$/, text: /^minute is used up/ })
    t.match(await ask('secret'), { status: 200, text: 'hello acme' })
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  })
  await Promise.all(runs)
})

t.test('slots are given back once, and a quota with them', async (t) => {
  const limiter = openLimiter({ limits: { free: ['10/min', { amount: 1, algorithm: 'concurrency' }] } })
  t.teardown(limiter.close)
  await limiter.ready
  const first = await limiter.take('free', 'alice')
  t.match(await limiter.take('free', 'alice'), { allowed: false, limit: { name: 'concurrent' } })
  await first.renew()
  await first.done(4)
  await first.done()
  const second = await limiter.take('free', 'alice')
  t.match(second, { allowed: true })
  t.match(await limiter.usage('free', 'alice'), [{ used: 6 }, { used: 1 }])
  await second.done(-1)
  t.match(await limiter.usage('free', 'alice'), [{ used: 5 }, { used: 0 }])
  await limiter.reset('alice')
  t.match(await limiter.usage('free', 'alice'), [{ used: 0 }, { used: 0 }])
})

t.test('a slot is given back though its renewal is under way', async (t) => {
  const redis = await startRedis(t)
  const limiter = openLimiter({
    limits: { free: { amount: 1, algorithm: 'concurrency', lease: '5s' } },
    store: { redis: redis.url },
  })
  t.teardown(limiter.close)
  await limiter.ready
  const taken = await limiter.take('free', 'alice')
  // Into the next tenth of the lease, where a renewal moves the slot to.
  await delay(600)
  await Promise.all([taken.renew(), taken.renew(), taken.done()])
  t.match(await limiter.usage('free', 'alice'), [{ used: 0 }])
})

t.test('says what is wrong with settings, tiers and costs', async (t) => {
  t.throws(() => openLimiter({ limits: { free: '10/fortnight', pro: { amount: 0, window: '1m' } } }), {
    message: /limits\.free.*\n.*limits\.pro/,
  })
  const limiter = openLimiter({ limits: { free: '10/min', staff: 'unlimited' } })
  await t.rejects(limiter.take('gold', 'alice'), { message: /no tier "gold"; the tiers are free, staff/ })
  await t.rejects(limiter.take('free', 'alice', { cost: 0.5 }), { message: /cost is 0.5/ })
  const taken = await limiter.take('free', 'alice')
  await t.rejects(taken.done(1.5), { message: /quota is 1.5/ })
  await t.rejects(taken.done(Number.NaN), { message: /quota is NaN/ })
  t.match(await limiter.usage('free', 'alice'), [{ used: 1 }])
  t.match(await limiter.take('staff', 'alice'), { allowed: true, limit: undefined })
  t.same(await limiter.usage('staff', 'alice'), [])
})

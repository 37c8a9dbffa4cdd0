// Tests src/embed/limiter-settings.ts
// Tests src/limiter/open-limiter.ts
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { addressKey, openLimiter } from '../../src/embed/limiter.js'
import { freePort } from '../support/free-port.js'
import { startRedis } from '../support/redis/redis.js'

const page = readFileSync(new URL('../../docs/limiter-library.md', import.meta.url), 'utf8')
const example = /```js\n(.*?)```/s.exec(page)![1]!
/** Long, so that a Redis on a busy machine does not count as unreachable. */
const patient = example.replace('{ redis }', "{ redis, timeout: '5s' }")

t.test('the example of the docs runs in memory and on Redis', async (t) => {
  t.ok(example.trim().split('\n').length <= 20, 'and has 20 lines')
  t.not(patient, example)
  const redis = await startRedis(t)
  const file = `${t.testdir({ 'server.mjs': patient })}/server.mjs`
  const runs = [{}, { REDIS_URL: redis.url }].map(async (env) => {
    const port = await freePort()
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, REDIS_URL: undefined, PORT: String(port), ...env },
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

t.test('a slot is given back only once, and so is its quota', async (t) => {
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

t.test('a slot is given back even while its renewal is under way', async (t) => {
  const redis = await startRedis(t)
  const limiter = openLimiter({
    limits: { free: { amount: 1, algorithm: 'concurrency', lease: '5s' } },
    store: { redis: redis.url },
  })
  t.teardown(limiter.close)
  await limiter.ready
  const taken = await limiter.take('free', 'alice')
  // Into the next tenth of the lease, to which a renewal moves the slot.
  await delay(600)
  await Promise.all([taken.renew(), taken.renew(), taken.done()])
  t.match(await limiter.usage('free', 'alice'), [{ used: 0 }])
})

t.test('invalid settings, tiers and costs are errors that say what is wrong', async (t) => {
  const bad = { limits: { free: '10/fortnight', pro: { amount: 0, window: '1m' } } }
  t.throws(() => openLimiter(bad as never), {
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

t.test('an unknown setting is an error', async (t) => {
  const limits = { free: '10/min' }
  for (const [settings, message] of [
    [{ limits, onFailure: 'closed' }, /unknown setting "onFailure"; did you mean "on_failure"\?/],
    [{ limits, on_failuer: 'closed' }, /unknown setting "on_failuer"; did you mean "on_failure"\?/],
    [{ limits, stor: {}, servce: 'x' }, /unknown setting "stor".*\n.*unknown setting "servce"/],
    [{ limits, store: { redsi: 'redis://127.0.0.1' } }, /unknown key "redsi"; did you mean "redis"\?/],
    [{ limits: { free: { amount: 1, windw: '1m' } } }, /unknown key "windw"; did you mean "window"\?/],
    [{}, /tiers/],
  ] as const) {
    t.throws(() => openLimiter(settings as never), { message })
  }
  const limiter = openLimiter({ limits: { free: '10/min' } })
  const wrong = (asked: object) => asked as never
  await t.rejects(limiter.take('free', 'alice', wrong({ cots: 3 })), {
    message: 'unknown setting "cots"; did you mean "cost"?',
  })
  await t.rejects(limiter.usage('free', 'alice', wrong({ tennant: 'acme' })), {
    message: /did you mean "tenant"/,
  })
  await t.rejects(limiter.reset('alice', wrong({ byAdress: true })), { message: /did you mean "byAddress"/ })
  t.match(await limiter.usage('free', 'alice'), [{ used: 0 }], 'nothing was taken')
})

t.test('an address counts as it does in a gateway', async (t) => {
  const limiter = openLimiter({ limits: { free: [{ amount: 3, window: '1m', by: 'ip' }, '100/min'] } })
  const left = async (ip: string) => (await limiter.take('free', 'any', { ip })).remaining
  t.same([await left('192.0.2.1'), await left('::ffff:192.0.2.1'), await left('::ffff:c000:201')], [2, 1, 0])
  t.same([await left('2001:db8::1'), await left('2001:db8::2'), await left('2001:db8:0:1::1')], [2, 1, 2])
  t.equal(addressKey('::ffff:192.0.2.1'), '192.0.2.1')
  t.equal(addressKey('2001:db8::1'), '2001:db8:0:0::/64')

  const own = openLimiter({ limits: { free: '2/min' } })
  const by = { byAddress: true }
  t.equal((await own.take('free', '2001:db8::1', by)).remaining, 1)
  t.equal((await own.take('free', '2001:db8::2', by)).remaining, 0)
  t.equal((await own.take('free', '2001:db8:0:0::/64')).remaining, 1, 'a consumer of that name is another')
  t.match(await own.usage('free', '2001:db8::3', by), [{ used: 2 }])
  await own.reset('2001:db8::3', by)
  t.match(await own.usage('free', '2001:db8::3', by), [{ used: 0 }])
  t.match(await own.usage('free', '2001:db8:0:0::/64'), [{ used: 1 }])
})

t.test('ready resolves whether or not the store answers', async (t) => {
  const redis = await startRedis(t)
  const limits = { free: '10/min' } as const
  const up = openLimiter({ limits, store: { redis: redis.url, timeout: '5s' } })
  t.equal(await up.ready, 'up')
  await up.close()
  t.equal(await openLimiter({ limits }).ready, 'up', 'in memory')
  const began = performance.now()
  const away = openLimiter({ limits, store: { redis: 'redis://127.0.0.1:1' } })
  t.teardown(away.close)
  t.equal(await away.ready, 'degraded')
  t.ok(performance.now() - began > 4_000)
})

import { hostname } from 'node:os'
import t, { type Test } from 'tap'
import {
  ANSWER_BYTES,
  createFleet,
  type Fleet,
  LONE_FLEET,
  QUESTION_BYTES,
} from '../../src/fleet/gateway-rpc.js'
import { openSubscriber } from '../../src/fleet/pubsub.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { createHeartbeat } from '../../src/limiter/redis/heartbeat.js'
import { eventually } from '../support/eventually.js'
import { hasRedisServer, ownRedis, startRedis, type TestRedis } from '../support/redis/redis.js'
import { startRedisCluster } from '../support/redis/redis-cluster.js'

const quiet = { info() {}, warn() {} }
const skip = hasRedisServer ? false : 'needs a redis-server of its own'
const SELF = `${hostname()}:${process.pid}`

/** Opens a gateway's place in the fleet, on connections of its own. */
function openFleet(t: Test, redis: string | readonly string[], member = true): Fleet {
  const store = connectStore({ redis }, quiet)
  const subscriber = openSubscriber(store)
  const heartbeat = createHeartbeat(store)
  const fleet = createFleet({ store, subscriber, member, heartbeat })
  t.teardown(async () => {
    await Promise.all([fleet.close(), heartbeat.close()])
    subscriber.close()
    store.disconnect()
  })
  return fleet
}

// Each test has a server of its own, and mostly waits.
t.jobs = 4

const members = (redis: TestRedis) => redis.client.zrangebyscore('nodes:{fleet}', '-inf', '+inf')

/** Resolves when that many gateways hear questions. One may be listed before: questions come on another connection. */
async function hearers({ client, url }: TestRedis): Promise<number> {
  const [, count] = await client.pubsub('NUMSUB', `nodes:ask:${new URL(url).pathname.slice(1) || '0'}`)
  return Number(count)
}

const are = (redis: TestRedis, count: number, listening = count) =>
  eventually(
    `${count} gateways`,
    async () => (await members(redis)).length === count && (await hearers(redis)) >= listening,
  )

/** Timeout of a question that is answered, so long that an answer is not missed on a busy machine. */
const PATIENT = { timeoutMs: 10_000 }

t.test('all other gateways answer, and a tool that only asks is not asked', async (t) => {
  const redis = await startRedis(t)
  const [a, b, c] = [openFleet(t, redis.url), openFleet(t, redis.url), openFleet(t, redis.url)]
  const tool = openFleet(t, redis.url, false)
  for (const [i, fleet] of [a, b, c].entries()) fleet.answer('count', (body) => ({ asked: body, i }))
  await are(redis, 3)

  const { answers, silent, problem } = await tool.ask<{ i: number }>('count', { of: 'payments' }, PATIENT)
  t.same(answers.map(({ answer }) => answer.i).sort(), [0, 1, 2])
  t.same(new Set(answers.map(({ node }) => node)), new Set([SELF]))
  t.same(answers[0]!.answer, { asked: { of: 'payments' }, i: answers[0]!.answer.i })
  t.same([silent, problem], [[], undefined])

  const two = await a.ask<{ i: number }>('count', null, PATIENT)
  t.same(two.answers.map(({ answer }) => answer.i).sort(), [1, 2], 'not itself')

  const first = await a.ask<{ i: number }>('count', null, { ...PATIENT, enough: () => true })
  t.equal(first.answers.length, 1, 'one is enough when the asker says so')

  const asked: string[] = []
  for (const [name, fleet] of Object.entries({ a, b, c })) fleet.answer('one', () => asked.push(name))
  const one = await tool.ask('one', null, { ...PATIENT, onlyOne: true })
  t.same([one.answers.length, one.silent, one.problem], [1, [], undefined])
  await tool.ask('count', null, PATIENT)
  t.equal(asked.length, 1, 'no other gateway was asked')
  for (const { member, answer } of answers) {
    const again = await tool.ask<{ i: number }>('count', null, { ...PATIENT, to: member })
    t.same(
      again.answers.map((one) => one.answer.i),
      [answer.i],
      'only the named gateway is asked',
    )
  }

  await c.close()
  await are(redis, 2)
  t.equal(
    (await a.ask('count', null, PATIENT)).answers.length,
    1,
    'a gateway that has left is not listed as silent',
  )
})

t.test('a gateway that hangs, fails, answers too much or does not know the question is silent', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openFleet(t, redis.url), openFleet(t, redis.url)]
  b.answer('hang', () => new Promise(() => {}))
  b.answer('fail', () => Promise.reject(new Error('no')))
  b.answer('much', () => 'x'.repeat(ANSWER_BYTES))
  b.answer('nothing', () => undefined)
  await are(redis, 2)
  const unanswered = ['hang', 'fail', 'much', 'unknown'].map(async (kind) => {
    const { answers, silent, problem } = await a.ask(kind, null, { timeoutMs: 1500 })
    t.same([answers, silent, problem], [[], [SELF], undefined], kind)
  })
  await Promise.all(unanswered)
  const { answers, silent } = await a.ask('nothing', null, PATIENT)
  t.match([answers, silent], [[{ node: SELF, answer: null }], []], 'nothing to say is an answer')
  t.match((await a.ask('nothing', 'x'.repeat(QUESTION_BYTES))).problem, /too long/)
})

t.test('foreign messages break nothing, and floods of questions are not all answered', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [openFleet(t, redis.url), openFleet(t, redis.url)]
  let handled = 0
  b.answer('count', () => ++handled)
  let long = 0
  b.answer('long', () => `${++long}${'x'.repeat(ANSWER_BYTES - 1_000)}`)
  await are(redis, 2)
  const [db] = /\d+$/.exec(new URL(redis.url).pathname) ?? ['0']
  const [name] = await members(redis)
  for (const text of ['', 'null', '[]', '{"id":1}', '{"id":"x","from":1}', 'x'.repeat(QUESTION_BYTES + 1)]) {
    await redis.client.publish(`nodes:ask:${db}`, text)
    await redis.client.publish(`nodes:answer:${name}:${db}`, text)
  }
  t.equal((await a.ask('count', null, PATIENT)).answers.length, 1)

  async function flood(kind: string, count: number): Promise<number> {
    const question = JSON.stringify({ id: 1, from: 'nobody', kind, body: null })
    const started = performance.now()
    for (let i = 0; i < count; i++) void redis.client.publish(`nodes:ask:${db}`, question)
    await redis.client.ping()
    // Sent on the same connection after all of them.
    await a.ask(kind, null, { timeoutMs: 200 })
    return 2 + Math.floor((performance.now() - started) / 1000)
  }
  const seconds = await flood('count', 3000)
  t.ok(handled >= 400 && handled <= 1 + 500 * seconds, `${handled} of 3002 handled in ${seconds} s`)
  const more = await flood('long', 300)
  t.ok(long <= 51 * more, `${long} of 301 long ones handled in ${more} s`)

  // Of 30, ten in one second, and ten more if the next second begins meanwhile.
  const asked = await Promise.all(Array.from({ length: 30 }, () => a.ask('count', null, { timeoutMs: 10 })))
  t.ok(asked.filter(({ problem }) => problem === 'too many questions in one second').length >= 10)
})

t.test('who answers for others fills no memory, and counts once for each name', async (t) => {
  const redis = await startRedis(t)
  const [a] = [openFleet(t, redis.url), openFleet(t, redis.url)]
  await are(redis, 2)
  const [db] = /\d+$/.exec(new URL(redis.url).pathname) ?? ['0']
  const said = 'x'.repeat(ANSWER_BYTES - 1000)
  let asked = 0
  async function answers(senders: number, body: string) {
    const question = a.ask('silence', null, { timeoutMs: 5000, enough: (answer) => answer === 'enough' })
    asked++
    const say = (from: string, body: string) =>
      redis.client.publish(`nodes:answer:${a.id}:${db}`, JSON.stringify({ id: asked, from, body }))
    for (let i = 0; i < 300; i++) await say(`gw-${i % senders}~1`, body)
    await say('last~1', 'enough')
    return (await question).answers.length
  }
  t.equal(await answers(3, 'hello'), 4)
  const most = await answers(300, said)
  t.ok(most > 100 && most <= 256, `${most} of 300 long answers`)
})

t.test('without a store no gateway can be asked, and the answer says so', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const [a, b] = [openFleet(t, redis.url), openFleet(t, redis.url)]
  b.answer('count', () => 1)
  await are(redis, 2)
  t.equal((await a.ask('count', null, PATIENT)).answers.length, 1)
  await redis.stop()
  const { answers, problem } = await a.ask('count', null, { timeoutMs: 50 })
  t.same(answers, [])
  t.match(
    problem,
    /^(there is no connection to the store|the store is out of reach|the store did not answer|the connection to the store was lost)/,
  )
  await redis.restart()
  await are(redis, 2)
  t.equal((await a.ask('count', null, PATIENT)).answers.length, 1, 'and again when it is back')
})

t.test('the problem tells a store that is away from a user that may not subscribe', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.call('ACL', 'SETUSER', 'deaf', 'on', '>pw', '~*', '+@all', 'resetchannels')
  const deaf = openFleet(t, redis.url.replace('://', '://deaf:pw@'))
  const hearing = openFleet(t, redis.url)
  await are(redis, 2, 1)
  await eventually('it says so', async () => {
    const { problem } = await deaf.ask('count', null, { timeoutMs: 50 })
    return problem === 'the Redis user may not subscribe to the channels nodes:*'
  })
  await redis.stop()
  const { problem } = await openFleet(t, redis.url).ask('count', null, { timeoutMs: 50 })
  t.equal(problem, 'the store is out of reach')
  t.notMatch((await hearing.ask('count', null, { timeoutMs: 50 })).problem, /listen/)
})

t.test('in a Cluster a question reaches gateways on any of its nodes', { skip }, async (t) => {
  const nodes = await startRedisCluster(t, 2)
  const addresses = nodes.map(({ proxy }) => `redis://127.0.0.1:${proxy.port}`)
  const [a, b] = [openFleet(t, addresses), openFleet(t, addresses.slice(1))]
  a.answer('which', () => 'a')
  b.answer('which', () => 'b')
  await eventually('both are known', async () => {
    const known = await Promise.all(
      nodes.map(({ redis }) => members(redis).catch((error: Error) => /^MOVED/.test(error.message) && [])),
    )
    const hear = await Promise.all(nodes.map(({ redis }) => hearers(redis)))
    return known.flat().length === 2 && hear[0]! + hear[1]! === 2
  })
  t.match((await a.ask('which', null, PATIENT)).answers, [{ node: SELF, answer: 'b' }])
  t.match((await b.ask('which', null, PATIENT)).answers, [{ node: SELF, answer: 'a' }])
})

t.test('a gateway with counts in its own memory is alone', async (t) => {
  t.equal(LONE_FLEET.node, SELF)
  t.same(await LONE_FLEET.ask('count', null), { answers: [], silent: [], problem: undefined })
})

import t from 'tap'
import { Agent, request } from 'undici'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcess, startProcessOn, tally } from '../support/gateway/process.js'
import { startRedis } from '../support/redis/redis.js'

/** The windows are hours: one of a minute would end within a test too often. */
function config(redis: string, payments: string, marketing: string): string {
  return `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro, enterprise]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  payments:
    upstreams: [${payments}]
    limits: { free: 10/h, pro: 100/h, enterprise: 1000/h }
  marketing:
    upstreams: [${marketing}]
    limits: { free: 60/h, pro: 600/h, enterprise: unlimited }
routes:
  - { path: /payments/*, service: payments, strip_prefix: /payments }
  - { path: /marketing/*, service: marketing, strip_prefix: /marketing }
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
}

// All tests share two gateways, so each has users of its own.
const redis = await startRedis(t)
const payments = await startBackend(t)
const marketing = await startBackend(t)
const first = await startProcess(t, config(redis.url, payments.origin, marketing.origin))
const gateways = [first, await startProcessOn(t, first.configFile)]
const agent = new Agent({ connections: 32 })
t.teardown(() => agent.destroy())

let turn = 0
/** Sends requests to the two gateways in turn. */
async function ask(path: string, user: string) {
  const { address } = gateways[turn++ % 2]!
  const answer = await request(address + path, { headers: { 'x-user-id': user }, dispatcher: agent })
  await answer.body.dump()
  return answer
}

async function statuses(path: string, user: string, count: number): Promise<number[]> {
  return Promise.all(Array.from({ length: count }, async () => (await ask(path, user)).statusCode))
}

function chargesOf(user: string): number {
  return payments.requests.filter(({ headers }) => headers['x-user-id'] === user).length
}

/** Windows begin by the clock: waits until the current one lasts long enough for the test. */
await eventually('an hour begins', () => 3_600_000 - (Date.now() % 3_600_000) > 60_000, 90_000)

t.test('scenario A: each of 100 free users gets exactly 10 payments an hour over two gateways', async (t) => {
  const users = Array.from({ length: 100 }, (_, i) => `user-${i}`)
  const answers = await Promise.all(users.map((user) => statuses('/payments/charge', user, 13)))
  for (const [i, got] of answers.entries()) {
    t.strictSame(tally(got), { 200: 10, 429: 3 }, `user-${i}`)
  }
  t.equal(payments.requests.length, 1_000, 'the backend saw what was allowed and nothing else')

  const denied = await ask('/payments/charge', 'user-0')
  t.equal(denied.statusCode, 429)
  t.equal(denied.headers['ratelimit-policy'], '"hour";q=10;w=3600')
  t.match(denied.headers.ratelimit, /^"hour";r=0;t=\d+$/)
  t.match(denied.headers['retry-after'], /^[1-9]\d{0,3}$/)
})

t.test(
  'scenario B: after the CLI sets a user to enterprise, both gateways allow 1,000 within a second',
  async (t) => {
    t.strictSame(tally(await statuses('/payments/charge', 'ada', 12)), { 200: 10, 429: 2 })
    t.equal((await ask('/payments/charge', 'ada')).statusCode, 429)

    const set = await tidegate(['tier', 'ada', 'enterprise', '--config', first.configFile])
    t.equal(set.code, 0, set.stderr)
    const changed = Date.now()
    // Two successes in a row, as the gateways take turns. The product promises a second; the rest is for a busy machine.
    let used = 10
    for (let passed = 0; passed < 2; ) {
      passed = (await ask('/payments/charge', 'ada')).statusCode === 200 ? passed + 1 : 0
      if (passed > 0) used++
      if (Date.now() - changed > 10_000) throw new Error('the new tier does not hold after 10 s')
    }
    t.comment(`held after ${Date.now() - changed} ms`)

    const more = tally(await statuses('/payments/charge', 'ada', 1_100))
    t.equal(more[200], 1_000 - used, 'requests of the free user count: 1,000 in all')
    t.equal(more[429], 1_100 - (1_000 - used))
    t.strictSame(
      tally(await statuses('/payments/charge', 'bob', 11)),
      { 200: 10, 429: 1 },
      'others stay free',
    )
  },
)

t.test('a spike on marketing takes no quota from payments', async (t) => {
  const spike = tally(await statuses('/marketing/mail', 'eve', 500))
  t.strictSame(spike, { 200: 60, 429: 440 })
  t.strictSame(tally(await statuses('/payments/charge', 'eve', 10)), { 200: 10 })
})

t.test('one consumer that hammers both gateways gets exactly its limit', async (t) => {
  const got = tally(await statuses('/payments/charge', 'mallory', 1_500))
  t.strictSame(got, { 200: 10, 429: 1_490 })
  t.equal(chargesOf('mallory'), 10)
})

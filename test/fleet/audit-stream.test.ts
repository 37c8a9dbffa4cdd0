import t, { type Test } from 'tap'
import {
  type AuditStream,
  createMemoryAuditStream,
  createRedisAuditStream,
} from '../../src/fleet/audit-stream.js'
import { connectStore } from '../../src/limiter/redis/connect.js'
import { eventually } from '../support/eventually.js'
import { hasRedisServer, ownRedis, startRedis, type TestRedis } from '../support/redis/redis.js'

const quiet = { info() {}, warn() {} }
const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop'
const ALL = { since: 0, count: 1000 }

async function openOn(t: Test, redis: TestRedis) {
  const store = connectStore({ redis: redis.url }, quiet)
  t.teardown(() => store.disconnect())
  await eventually('connected', () => store.status === 'ready')
  return createRedisAuditStream(store)
}

const texts = async (stream: AuditStream, range = ALL) => (await stream.read(range)).map(({ text }) => text)

for (const [name, open] of [
  ['memory', async () => createMemoryAuditStream()],
  ['redis', async (t: Test) => openOn(t, await startRedis(t))],
] as const) {
  t.test(`${name}: entries are read newest first, page by page`, async (t) => {
    const stream = await open(t)
    t.same(await stream.read(ALL), [], 'nothing yet')
    const written = ['a', 'b', 'c', 'd', '{"é":"🌊\\n"}']
    for (const text of written) await stream.append(text, 100)
    t.same(await texts(stream), written.toReversed())
    const first = await stream.read({ since: 0, count: 2 })
    t.same(
      first.map(({ text }) => text),
      ['{"é":"🌊\\n"}', 'd'],
    )
    const second = await stream.read({ since: 0, count: 2, before: first[1]!.id })
    t.same(
      second.map(({ text }) => text),
      ['c', 'b'],
    )
    t.match(first[0]!.id, /^\d+-\d+$/)
    const at = Number.parseInt(first[0]!.id, 10)
    t.same(await texts(stream, { since: at + 1, count: 10 }), [], 'nothing since later')
  })

  t.test(`${name}: about as many entries as configured are kept, the newest ones`, async (t) => {
    const stream = await open(t)
    await Promise.all(Array.from({ length: 500 }, (_, i) => stream.append(String(i), 100)))
    const kept = await texts(stream)
    t.equal(kept[0], '499')
    t.ok(kept.length >= 100 && kept.length <= 200, `${kept.length} are kept`)
  })
}

t.test('memory: entries within a millisecond, or after the clock went back, keep their order', async (t) => {
  let now = 5000
  const stream = createMemoryAuditStream(() => now)
  await stream.append('a', 10)
  await stream.append('b', 10)
  now = 4000
  await stream.append('c', 10)
  t.same(await stream.read(ALL), [
    { id: '5000-2', text: 'c' },
    { id: '5000-1', text: 'b' },
    { id: '5000-0', text: 'a' },
  ])
})

t.test('redis: a write rejects when the store is away', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const stream = await openOn(t, redis)
  await redis.client.set('audit:{log}', 'somebody else wrote this')
  await t.rejects(stream.append('a', 10), /WRONGTYPE/)
  await redis.stop()
  await t.rejects(stream.append('a', 10), /connection/)
  await t.rejects(stream.read(ALL), /connection/)
})

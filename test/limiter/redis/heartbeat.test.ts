import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openSubscriber } from '../../../src/fleet/pubsub.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import {
  createHeartbeat,
  createPresence,
  HEARTBEAT_KEYS,
  type Heartbeat,
} from '../../../src/limiter/redis/heartbeat.js'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer, ownRedis, startRedis, type TestRedis } from '../../support/redis/redis.js'
import { startRedisCluster } from '../../support/redis/redis-cluster.js'

const quiet = { info() {}, warn() {} }
const skip = hasRedisServer ? false : 'needs a redis-server of its own'

interface Opened extends Heartbeat {
  /** What the listener got, a text for each call: `all` and the names. */
  readonly heard: string[]
}

function open(
  t: Test,
  redis: string | readonly string[],
  self?: string,
  decides = true,
  hearsTicks = false,
): Opened {
  const store = connectStore({ redis }, quiet)
  const heartbeat = createHeartbeat(store, { decides, ...(self === undefined ? {} : { self }) })
  if (hearsTicks) {
    const subscriber = openSubscriber(store)
    subscriber.listen(heartbeat.channel, heartbeat.hearTick)
    t.teardown(() => subscriber.close())
  }
  const heard: string[] = []
  heartbeat.onChanges((names, all) => heard.push([all ? ['all'] : [], [...names].sort()].flat().join(' ')))
  t.teardown(async () => {
    await heartbeat.close()
    store.disconnect()
  })
  return { ...heartbeat, heard }
}

const answered = (...beats: readonly Opened[]) =>
  eventually('all are answered', () => beats.every((one) => one.answeredAt() > 0))
/** Waits for that many further calls of the listener. */
async function further(beat: Opened, count: number): Promise<void> {
  const wanted = beat.heard.length + count
  await eventually(`${count} heartbeats`, () => beat.heard.length >= wanted)
}
const keysOf = async ({ client }: TestRedis) => (await client.keys('*')).sort()

// Each test has a server of its own, and mostly waits.
t.jobs = 8

t.test('an announced name reaches every process, and is repeated for the write that follows', async (t) => {
  const redis = await startRedis(t)
  const [a, b, tool] = [open(t, redis.url), open(t, redis.url), open(t, redis.url, undefined, false)]
  await answered(a, b, tool)
  t.same([a.heard[0], b.heard[0]], ['all', 'all'], 'the first heartbeat knows nothing')
  await eventually('they count each other', () => [a, b, tool].every((one) => one.count() === 2))
  t.ok(a.tellsAll())
  const from = b.heard.length
  await Promise.all([tool.announce('ban:{bans}'), tool.announce('tier:{assignments}')])
  const names = 'ban:{bans} tier:{assignments}'
  await eventually('it is heard', () => b.heard.includes(names) && a.heard.includes(names))
  await eventually('it ends', () => b.heard.at(-1) === '')
  const said = b.heard.slice(from).filter((one) => one !== '')
  t.ok(said.length >= 6, 'repeated')
  t.same([...new Set(said)], [names], 'no name without the other: one heartbeat carried both')
  const before = await redis.client.zmscore(HEARTBEAT_KEYS.changes, '#sequence')
  await tool.announce('ban:{bans}')
  t.ok(Number((await redis.client.zmscore(HEARTBEAT_KEYS.changes, '#sequence'))[0]) > Number(before[0]))
  const after = await redis.client.zmscore(HEARTBEAT_KEYS.changes, '#sequence')
  await tool.announce('ban:{bans}')
  t.same(
    await redis.client.zmscore(HEARTBEAT_KEYS.changes, '#sequence'),
    after,
    'an announcement covers a second',
  )
})

t.test('a store that forgot its announcements makes every process look at everything', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [open(t, redis.url), open(t, redis.url)]
  await answered(a, b)
  await b.announce('ban:{bans}')
  await eventually('it is heard', () => a.heard.includes('ban:{bans}'))
  await eventually('quiet', () => a.heard.at(-1) === '')
  a.setStatus('{"a":1}')
  await eventually('it is stored', async () => (await redis.client.hlen(HEARTBEAT_KEYS.status)) === 1)
  const from = a.heard.length
  await redis.client.flushdb()
  // Its number is greater than all before, so that it hides the loss from who looks at numbers only.
  await b.announce('ban:{bans}')
  await eventually('all', () => a.heard.slice(from).some((one) => one.startsWith('all')))
  await eventually('the status is written again', async () => {
    return (await redis.client.hlen(HEARTBEAT_KEYS.status)) === 1
  })

  // A replica that has not heard of the latest announcements.
  await eventually('quiet', () => a.heard.at(-1) === '')
  const again = a.heard.length
  await redis.client.zadd(HEARTBEAT_KEYS.changes, 5, '#sequence')
  await eventually('all, again', () => a.heard.slice(again).some((one) => one.startsWith('all')))
})

t.test('while a gateway of an older version is alive, the heartbeat does not tell all', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url, 'new')
  await answered(a)
  t.ok(a.tellsAll())
  t.same(await a.members(), [{ id: 'new', status: undefined, older: false }])
  a.setStatus('{"version":"2"}')
  await redis.client.zadd(HEARTBEAT_KEYS.gateways, Date.now() + 3000, 'old')
  await eventually('it is noticed', () => !a.tellsAll() && a.count() === 2)
  await eventually('the status is there', async () => (await redis.client.hlen(HEARTBEAT_KEYS.status)) === 1)
  t.same(
    [...(await a.members())].sort((x, y) => (x.id < y.id ? -1 : 1)),
    [
      { id: 'new', status: '{"version":"2"}', older: false },
      { id: 'old', status: undefined, older: true },
    ],
  )
  await eventually('it is gone', () => a.tellsAll() && a.count() === 1)
})

t.test('a gateway that died leaves nothing behind, nor one that has left', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [open(t, redis.url, 'a'), open(t, redis.url, 'b')]
  b.setStatus('b')
  await answered(a, b)
  await eventually('stored', async () => (await redis.client.hlen(HEARTBEAT_KEYS.status)) === 1)
  await b.close()
  const stored = async () => [
    await redis.client.zrangebyscore(HEARTBEAT_KEYS.gateways, '-inf', '+inf'),
    await redis.client.zrangebyscore(HEARTBEAT_KEYS.members, '-inf', '+inf'),
    await redis.client.hkeys(HEARTBEAT_KEYS.status),
  ]
  t.same(await stored(), [['a'], ['a'], []])
  await redis.client.hset(HEARTBEAT_KEYS.status, 'dead', 'x')
  for (const key of [HEARTBEAT_KEYS.gateways, HEARTBEAT_KEYS.members])
    await redis.client.zadd(key, Date.now() - 1, 'dead')
  await further(a, 2)
  t.same(await stored(), [['a'], ['a'], []])
  for (const key of [HEARTBEAT_KEYS.gateways, HEARTBEAT_KEYS.members])
    t.ok((await redis.client.pttl(key)) > 0)
  t.same(
    await keysOf(redis),
    [HEARTBEAT_KEYS.gateways, HEARTBEAT_KEYS.changes, HEARTBEAT_KEYS.members].sort(),
  )
})

t.test('the layout reaches every process, with its first value and with each change', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url)
  const layouts: string[] = []
  t.equal(a.layout(), undefined)
  a.onLayout((layout) => layouts.push(layout))
  await answered(a)
  await redis.client.set(HEARTBEAT_KEYS.layout, '64')
  await eventually('the change', () => a.layout() === '64')
  t.same(layouts, ['', '64'])
  const late: string[] = []
  a.onLayout((layout) => late.push(layout))
  t.same(late, ['64'])
})

t.test(
  'a store that hangs: nothing is told, and a name that could not be announced follows',
  { skip },
  async (t) => {
    const redis = await ownRedis(t)
    const [a, b] = [open(t, redis.url), open(t, redis.url)]
    await answered(a, b)
    redis.pause()
    t.teardown(redis.resume)
    await t.rejects(a.announce('ban:{bans}'), { message: /did not answer within 1000 ms/ })
    await eventually('it is noticed', () => !a.tellsAll())
    const from = b.heard.length
    redis.resume()
    await eventually('heard', () => b.heard.slice(from).some((one) => one.includes('ban:{bans}')))
    await eventually('it tells all again', () => a.tellsAll())
  },
)

t.test('the heartbeat works in a Cluster: its keys are in one slot', { skip }, async (t) => {
  const cluster = await startRedisCluster(t, 3)
  const urls = cluster.map(({ redis }) => redis.url)
  const [a, b] = [open(t, urls, 'a'), open(t, urls, 'b')]
  await answered(a, b)
  a.setStatus('x')
  await b.announce('ban:{bans}')
  await eventually('it is heard', () => a.heard.includes('ban:{bans}'))
  const statuses = async () => (await b.members()).map(({ id, status }) => [id, status]).sort()
  await eventually('both are listed', async () => (await statuses()).toString() === 'a,x,b,')
})

t.test('a list of its own is written again when the store has forgotten it', async (t) => {
  const redis = await startRedis(t)
  const store = connectStore({ redis: redis.url }, quiet)
  const heartbeat = createHeartbeat(store)
  const presence = createPresence(store, 'nodes:{fleet}', 'one', heartbeat)
  t.teardown(async () => {
    await heartbeat.close()
    store.disconnect()
  })
  const listed = () => redis.client.zrangebyscore('nodes:{fleet}', '-inf', '+inf')
  await eventually('listed', async () => (await listed()).length === 1)
  await eventually('answered', () => heartbeat.answeredAt() > 0)
  await redis.client.flushdb()
  // At the next heartbeat: the list itself is written every four seconds.
  await eventually('listed again', async () => (await listed()).length === 1)
  await presence.close()
  t.same(await listed(), [])
})

t.test('a list of far too many gateways is not read', async (t) => {
  const redis = await startRedis(t)
  const heartbeat = open(t, redis.url)
  await answered(heartbeat)
  const later = Date.now() + 60_000
  const many = Array.from({ length: 10_001 }, (_, i) => [later, `x${i}`]).flat()
  await redis.client.zadd(HEARTBEAT_KEYS.gateways, ...(many as [number, string]))
  await t.rejects(heartbeat.members(), /too many gateways/)
})

t.test('a gateway that was stopped for so long that its status is gone writes it again', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [open(t, redis.url, 'a'), open(t, redis.url, 'b')]
  a.setStatus('{"a":1}')
  a.setShards(1)
  await answered(a, b)
  const status = () => redis.client.hget(HEARTBEAT_KEYS.status, 'a')
  await eventually('stored', async () => (await status()) === '1 {"a":1}')
  // After the first heartbeat the status is sent once more.
  await further(a, 8)
  b.setStatus('b')
  const { status: statuses, gateways, members } = HEARTBEAT_KEYS
  await eventually('it counts as dead', async () => {
    // As the others see it: it has not been heard for 8 s. Its own next heartbeat may come before theirs.
    const dead = `if redis.call('HEXISTS', KEYS[1], 'a') == 0 then return 1 end
      for i = 2, 3 do redis.call('ZADD', KEYS[i], ARGV[1], 'a') end`
    return (await redis.client.eval(dead, 3, statuses, gateways, members, Date.now() - 1)) === 1
  })
  await eventually('stored again', async () => (await status()) === '1 {"a":1}')
})

t.test('a gateway that died before a server with an earlier clock took over does not count', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [open(t, redis.url, 'a'), open(t, redis.url, 'b')]
  b.setStatus('b')
  await answered(a, b)
  // As an hour later on the server before.
  const later = Date.now() + 3_600_000
  for (const key of [HEARTBEAT_KEYS.gateways, HEARTBEAT_KEYS.members])
    await redis.client.zadd(key, later, 'dead', later, 'b')
  await redis.client.zadd(HEARTBEAT_KEYS.gateways, later, 'dead and older')
  await redis.client.hset(HEARTBEAT_KEYS.status, 'dead', 'x')
  const texts = async () => (await a.members()).map(({ id, status }) => `${id} ${status}`).sort()
  await eventually('the living are left', async () => String(await texts()) === 'a undefined,b b')
  await eventually('and are counted', () => a.count() === 2)
  t.same(await redis.client.hkeys(HEARTBEAT_KEYS.status), ['b'])
})

t.test('what gateways say lasts as long as they live, though it does not change', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url, 'a')
  a.setStatus('{"a":1}')
  await answered(a)
  const status = () => redis.client.hget(HEARTBEAT_KEYS.status, 'a')
  await eventually('stored', async () => (await status()) === ' {"a":1}')
  await further(a, 8)
  const kept = [HEARTBEAT_KEYS.members, HEARTBEAT_KEYS.status]
  for (const key of kept) await redis.client.pexpire(key, 60_000)
  await further(a, 4)
  for (const key of kept) t.ok((await redis.client.pttl(key)) > 3_000_000, key)
})

t.test('what a server forgot when it was replaced is announced again', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const [a, b] = [open(t, redis.url), open(t, redis.url)]
  await answered(a, b)
  const before = await redis.client.zmscore(HEARTBEAT_KEYS.changes, '#sequence', '#since')
  await a.announce('ban:{bans}')
  // A replica that did not get the announcement becomes the primary. Its clients connect again.
  await redis.client.del(HEARTBEAT_KEYS.changes)
  await redis.client.zadd(HEARTBEAT_KEYS.changes, before[0] ?? 0, '#sequence', before[1]!, '#since')
  await redis.client.call('CLIENT', 'KILL', 'TYPE', 'NORMAL', 'SKIPME', 'yes')
  const from = b.heard.length
  await delay(100)
  // Within the second that an announcement covers.
  await a.announce('ban:{bans}').catch(() => {})
  await eventually('heard', () => b.heard.slice(from).some((one) => one.includes('ban:{bans}')))
})

t.test('announcements that no gateway can have made do not hide others', async (t) => {
  const redis = await startRedis(t)
  const [a, b] = [open(t, redis.url), open(t, redis.url)]
  await answered(a, b)
  for (const number of ['inf', '1e300', '9007199254740991']) {
    await redis.client.zadd(HEARTBEAT_KEYS.changes, number, '#sequence')
    const heard = () => b.heard.at(-1)!.includes('ban:{bans}') || !b.tellsAll()
    await a.announce('ban:{bans}').catch(() => {})
    await eventually(`others hear, or know that they do not (${number})`, heard)
    await eventually(`it is mended (${number})`, () => a.tellsAll() && b.tellsAll())
  }
  const many = Array.from({ length: 20_000 }, (_, i) => [1e300, `x${i}`]).flat()
  await redis.client.zadd(HEARTBEAT_KEYS.changes, ...(many as [number, string]))
  await a.announce('ban:{bans}')
  await eventually(
    'heard in spite of 20,000 other names',
    () => b.heard.at(-1)!.includes('ban:{bans}') || b.heard.at(-1)!.startsWith('all'),
  )
})

/** Returns the tick that the server would send now. */
async function tickNow({ client }: TestRedis, alive = 1, layout = ''): Promise<string> {
  const known = await client.zmscore(HEARTBEAT_KEYS.changes, '#sequence', '#since')
  const [seconds, micros] = await client.time()
  const at = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  return `${at} ${alive} ${alive} ${Number(known[0] ?? 0)} ${known[1]} ${layout}`
}

t.test('a tick tells how many live, the layout, and that nothing was announced', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url)
  await answered(a)
  await eventually('it is heard', async () => {
    a.hearTick(await tickNow(redis, 7, '2 64'))
    return a.count() === 7 && a.layout() === '2 64'
  })
  t.equal(a.heard.at(-1), '')
  t.ok(a.tellsAll() && a.answeredAt() > Date.now() - 5000)
})

t.test('a tick that is late, early, not newer, or none is ignored', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url)
  a.hearTick(`${Date.now()} 9 9 0 0 `)
  await answered(a)
  const good = await tickNow(redis, 9)
  const [at = '', ...rest] = good.split(' ')
  const heard = a.heard.length
  const wrong = [-60_000, -1000, 3000, 60_000].map((ms) => [Number(at) + ms, ...rest].join(' '))
  for (const message of [
    ...wrong,
    '',
    'x',
    at,
    `${at} 9 9 0`,
    ` ${good}`,
    `-${good}`,
    `1e3 ${rest.join(' ')}`,
  ])
    a.hearTick(message)
  t.equal(a.heard.length, heard)
  await eventually('a good one is heard', async () => {
    a.hearTick(await tickNow(redis, 9))
    return a.count() === 9
  })
  const again = a.heard.length
  a.hearTick(await tickNow(redis, 9))
  a.hearTick(await tickNow(redis, 9))
  t.ok(a.heard.length <= again + 1, 'a flood of ticks is not heard')
})

t.test('an announcement reaches those who hear ticks, with a subscription that works or not', async (t) => {
  const redis = await startRedis(t)
  const beats = Array.from({ length: 5 }, (_, i) => open(t, redis.url, `g${i}`, true, i > 0))
  await answered(...beats)
  await eventually('they count each other', () => beats.every((one) => one.count() === 5))
  const froms = beats.map(({ heard }) => heard.length)
  await beats[1]!.announce('ban:{bans}')
  await eventually('all hear', () =>
    beats.every(({ heard }, i) => heard.slice(froms[i]).includes('ban:{bans}')),
  )
  await eventually('it ends', () => beats.every(({ heard }) => heard.at(-1) === ''))
  for (const { heard } of beats) t.notOk(heard.slice(3).some((one) => one.startsWith('all')))
})

t.test('while ticks come, a gateway says that it lives without the script', async (t) => {
  const redis = await startRedis(t)
  const a = open(t, redis.url, 'a')
  const times: (number | undefined)[] = []
  a.onBeat((at) => times.push(at))
  a.setStatus('{"a":1}')
  await answered(a)
  await further(a, 8)
  let ticks = true
  const sending = (async () => {
    while (ticks) {
      a.hearTick(await tickNow(redis))
      await delay(50)
    }
  })()
  const until = async () => Number(await redis.client.zscore(HEARTBEAT_KEYS.members, 'a'))
  const scripts = async () => Number(await redis.client.zscore(HEARTBEAT_KEYS.changes, '#tick'))
  await eventually('without it', () => times.at(-1) !== undefined)
  const [before, ran] = [await until(), await scripts()]
  await eventually('it lives', async () => (await until()) > before + 1000)
  t.equal(await scripts(), ran)
  const late = times.at(-1)! + 8000 - (await until())
  t.ok(Math.abs(late) < 1000, `by the clock of the server: ${late} ms`)

  t.comment('the store forgets that it lives')
  await redis.client.del(HEARTBEAT_KEYS.gateways, HEARTBEAT_KEYS.members, HEARTBEAT_KEYS.status)
  await eventually(
    'it says so again',
    async () => (await redis.client.hget(HEARTBEAT_KEYS.status, 'a')) === ' {"a":1}' && (await until()) > 0,
  )
  ticks = false
  await sending
  await eventually('with the script', () => times.at(-1) === undefined)
})

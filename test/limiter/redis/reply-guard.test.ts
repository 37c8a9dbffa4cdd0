// Tests src/net/guard-push.ts
import t, { type Test } from 'tap'
import type { Config } from '../../../src/config/schema/schema.js'
import { openStore } from '../../../src/fleet/open-store.js'
import { connectStore } from '../../../src/limiter/redis/connect.js'
import { createAuthority, pairOf } from '../../support/credentials/authority.js'
import { eventually } from '../../support/eventually.js'
import { type EvilRedis, evilRedis } from '../../support/redis/evil-redis.js'
import { startRedis, type TestRedis } from '../../support/redis/redis.js'
import { policyOf, serviceOf } from '../contract/build.js'

const SETTINGS = {
  timeout: 500,
  on_failure: 'closed',
  max_keys: 100,
  batch: 64,
  merge: true,
  gather: 0,
  denials: 0,
  own_connection: true,
} as const
const NO_CLUSTER_SLOTS = 'the reply to CLUSTER SLOTS is not a list of slots'
const policy = policyOf([1_000_000, 60_000])
const service = serviceOf('api', [policy], 'closed')
const isScript = ([name = '']: readonly string[]) => /^eval/.test(name)
const isCall = (call: string) => (command: readonly string[]) =>
  command.slice(0, 2).join(' ').toLowerCase().startsWith(call)

// Each test waits for connections that come back.
t.jobs = 4

type Way = 'alone' | 'TLS' | 'Sentinel' | 'Cluster'

/** Opens a store with everything that subscribes and polls, behind a server that may lie. */
async function open(t: Test, redis: TestRedis, way: Way = 'alone') {
  const authority = way === 'TLS' ? createAuthority(t) : undefined
  const evil = await evilRedis(t, redis.port, authority && pairOf(authority.issue('db', 'IP:127.0.0.1')))
  const at = `127.0.0.1:${evil.port}`
  const urls: Record<Way, string | readonly string[]> = {
    alone: `redis://${at}`,
    TLS: `rediss://${at}`,
    Sentinel: `redis+sentinel://${at}/main`,
    Cluster: [`redis://${at}`],
  }
  const log: string[] = []
  const write = (fields: object, message: string) => void log.push(`${message} ${JSON.stringify(fields)}`)
  const tls = authority && { ca: authority.ca }
  const settings = { ...SETTINGS, redis: urls[way], ...(tls && { tls }) } as Config['store']
  const store = openStore(settings, { info: write, warn: write }, { fleet: 'member' })
  t.teardown(() => store.close())
  const decide = () => store.limiter.take(service, policy, 'alice', 1)
  const isUp = () => eventually('the store decides', async () => (await decide()).decidedBy === 'store')
  /** Resolves when it has subscribed to the store's channels again, which are four. */
  const hears = (before: number) =>
    eventually('messages are listened to', () => evil.asked('subscribe') >= before + 4)
  await isUp()
  await hears(0)
  return { evil, store, log, decide, isUp, hears }
}

const message = (channel: string, text: string) =>
  `>3\r\n$7\r\nmessage\r\n$${channel.length}\r\n${channel}\r\n$${text.length}\r\n${text}\r\n`

const INJECTED: readonly [what: string, bytes: string, told: RegExp][] = [
  ['nil', '$-1\r\n', /without a command/],
  ['replies without end', '$-1\r\n'.repeat(100_000), /without a command/],
  ['a message', message('x', 'y'), /without a subscription/],
  ['a message of nothing', '>1\r\n_\r\n', /without a subscription|unknown form/],
  ['a null array', '*-1\r\n', /without a command|unknown form/],
  ['no RESP', 'HTTP/1.1 400 Bad\r\n\r\n', /no reply begins/],
  ['a reply of 600 MB', '$600000000\r\n', /longer than/],
  ['an array of 10^9', '*1000000000\r\n', /longer than/],
]

t.test('an unsolicited malformed reply costs the store that connection, and nothing else', async (t) => {
  const redis = await startRedis(t)
  const faults = INJECTED.map(async ([what, bytes, told]) => {
    const { evil, store, log, decide, isUp } = await open(t, redis)
    const before = store.protocolErrors()
    evil.inject(bytes)
    await eventually(`${what} is counted`, () => store.protocolErrors() > before)
    t.match(
      log.find((line) => line.startsWith('the store broke the protocol')),
      told,
      what,
    )
    t.ok(['closed', 'store'].includes((await decide()).decidedBy))
    await isUp()
  })
  await Promise.all(faults)
})

const ANSWERED: readonly [what: string, answers: NonNullable<EvilRedis['answers']>, told?: RegExp][] = [
  ['`:1` to everything', () => ':1\r\n', /subscription is not confirmed/],
  ['nil to everything', () => '$-1\r\n', /subscription is not confirmed/],
  ['a subscription to everything', () => '>3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n', /without a/],
  [
    'two replies to each script',
    (command) => (isScript(command) ? ':1\r\n$-1\r\n' : undefined),
    /without a command/,
  ],
  ['an error that leads nowhere', (command) => (isScript(command) ? '-MOVED 1\r\n' : undefined)],
  ['nothing to everything', () => ''],
]

t.test('a store that answers nonsense counts as away until it answers well', async (t) => {
  const redis = await startRedis(t)
  const faults = ANSWERED.map(async ([what, answers, told]) => {
    const { evil, store, log, decide, isUp, hears } = await open(t, redis)
    evil.answers = answers
    evil.cut()
    if (told !== undefined) await eventually(`${what} is counted`, () => store.protocolErrors() > 0)
    await eventually(`${what}: degraded`, async () => (await decide()).decidedBy === 'closed')
    if (told !== undefined) t.match(log.join('\n'), told, what)
    evil.answers = undefined
    const heard = evil.asked('subscribe')
    await isUp()
    if (/subscri/.test(String(told))) await hears(heard)
  })
  await Promise.all(faults)
})

t.test('TLS, Sentinel and Cluster connections survive nonsense, too', async (t) => {
  const redis = await startRedis(t)
  const ways = (['TLS', 'Sentinel', 'Cluster'] as const).map(async (way) => {
    const { evil, store, isUp, hears } = await open(t, redis, way)
    evil.inject('$-1\r\n')
    await eventually(`${way}: it is counted`, () => store.protocolErrors() > 0)
    await isUp()
    evil.answers = () => ':1\r\n'
    evil.cut()
    await eventually(`${way}: degraded`, () => store.limiter.state() === 'degraded')
    evil.answers = undefined
    const heard = evil.asked('subscribe')
    await isUp()
    await hears(heard)
  })
  await Promise.all(ways)
})

t.test('whatever a Sentinel says of the primary, the limiter degrades and recovers', async (t) => {
  const replies = [
    ...[
      '$-1\r\n',
      ':1\r\n',
      '*-1\r\n',
      '*1\r\n*0\r\n',
      '*2\r\n$1\r\nx\r\n$6\r\n999999\r\n',
      '*2\r\n_\r\n_\r\n',
    ],
    ...['$-1\r\n$-1\r\n$-1\r\n', '-ERR no\r\n', '>1\r\n_\r\n'],
  ]
  const { evil, store, isUp } = await open(t, await startRedis(t), 'Sentinel')
  for (const reply of replies) {
    let asked = 0
    evil.answers = (command) => {
      if (!isCall('sentinel')(command)) return undefined
      asked++
      return reply
    }
    evil.cut()
    await eventually(`${reply} is said`, () => asked > 3)
    t.equal(store.limiter.state(), 'degraded', JSON.stringify(reply))
    evil.answers = undefined
    await isUp()
  }
  evil.answers = (command) => (isCall('info')(command) ? '$-1\r\n' : undefined)
  evil.cut()
  await isUp()
})

t.test('whatever a Cluster says of its slots, the limiter recovers', async (t) => {
  const self = (port: number) => `*2\r\n$9\r\n127.0.0.1\r\n:${port}\r\n`
  const replies: [reply: string, then: 'told' | 'degraded' | 'up'][] = [
    ['$-1\r\n', 'told'],
    [':1\r\n', 'told'],
    ['*1\r\n$-1\r\n', 'told'],
    ['*1\r\n*2\r\n:0\r\n:99999999999\r\n', 'told'],
    ['*1\r\n*3\r\n:0\r\n:16383\r\n$-1\r\n', 'told'],
    [`*1\r\n*3\r\n:0\r\n:16383\r\n${self(65_536)}`, 'told'],
    [`*1\r\n*3\r\n:-1\r\n:16383\r\n${self(1)}`, 'told'],
    ['*1\r\n%1\r\n:0\r\n:1\r\n', 'told'],
    [
      `*1001\r\n${Array.from({ length: 1001 }, (_, i) => `*3\r\n:${i}\r\n:${i}\r\n${self(i + 1)}`).join('')}`,
      'told',
    ],
    ['*0\r\n', 'degraded'],
    ['-ERR no\r\n', 'up'],
    [`*1\r\n*3\r\n:0\r\n:16383\r\n${self(1)}`, 'degraded'],
  ]
  const redis = await startRedis(t)
  const faults = replies.map(async ([reply, then]) => {
    const { evil, store, log, decide, isUp } = await open(t, redis, 'Cluster')
    let asked = 0
    evil.answers = (command) => {
      // MOVED makes the gateway ask for the slots. It asks again if it gave up the connection before it read the reply.
      const isRead = then === 'told' ? store.protocolErrors() > 0 : asked > 0
      if (isScript(command) && !isRead) return `-MOVED 1 127.0.0.1:${evil.port}\r\n`
      if (!isCall('cluster slots')(command)) return undefined
      asked++
      return reply
    }
    await eventually(`${reply} is said`, async () => {
      await decide()
      return asked > 0
    })
    if (then === 'told') {
      await eventually('it is counted', async () => {
        await decide()
        return store.protocolErrors() > 0
      })
    }
    if (then === 'degraded') {
      await eventually('it is away', async () => {
        await decide()
        return store.limiter.state() === 'degraded'
      })
    }
    t.equal(log.join('\n').includes(NO_CLUSTER_SLOTS), then === 'told', reply.slice(0, 50))
    evil.answers = undefined
    await isUp()
  })
  await Promise.all(faults)
})

t.test('a Cluster redirection that leads nowhere is an ordinary error', async (t) => {
  const { evil, decide, isUp } = await open(t, await startRedis(t), 'Cluster')
  for (const error of [
    'MOVED',
    'MOVED 1',
    'MOVED 1 x',
    'ASK',
    'ASK 1 :',
    'MOVED 1 127.0.0.1:99999',
    'MOVED x y:1',
    'ASK 1 127.0.0.1:1',
  ]) {
    evil.answers = (command) => (isScript(command) ? `-${error}\r\n` : undefined)
    t.equal((await decide()).decidedBy, 'closed', error)
    evil.answers = undefined
    await isUp()
  }
})

t.test('of an overlong reply no more is read than the longest one allowed', async (t) => {
  const { evil, store, isUp } = await open(t, await startRedis(t))
  evil.inject('+')
  const taken = await evil.pour(Buffer.alloc(1 << 20, 'x'), 128)
  await eventually('it is counted', () => store.protocolErrors() > 0)
  // Includes what the kernel buffers.
  t.ok(taken <= 64 * (1 << 20), `${taken} bytes`)
  await isUp()
})

t.test('the longest page that is ever requested passes', async (t) => {
  const redis = await startRedis(t)
  const { evil, store } = await open(t, redis)
  const names = Array.from({ length: 1000 }, (_, i) => `k${i}`)
  await redis.client.hset('big', Object.fromEntries(names.map((name) => [name, 'x'.repeat(8192)])))
  const client = connectStore({ redis: `redis://127.0.0.1:${evil.port}` }, { info() {}, warn() {} })
  t.teardown(() => client.disconnect())
  await eventually('it is connected', () => client.status === 'ready')
  const [first, ...others] = await client.hmget('big', ...names)
  t.equal(others.length, 999)
  t.equal(first?.length, 8192)
  t.equal(store.protocolErrors(), 0)
})

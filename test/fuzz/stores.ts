import fc from 'fast-check'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { openStore } from '../../src/fleet/open-store.js'
import { directConnector } from '../../src/limiter/redis/connectors.js'
import { openPostgres } from '../../src/tier-sources/postgres.js'
import { policyOf, serviceOf } from '../limiter/contract/build.js'
import { eventually } from '../support/eventually.js'
import {
  dataRow,
  evilPostgres,
  int16,
  int32,
  pgMessage,
  READY,
  rowAnswer,
  rowDescription,
  WELCOME,
} from '../support/postgres/evil-postgres.js'
import { evilRedis } from '../support/redis/evil-redis.js'
import { startRedis } from '../support/redis/redis.js'
import { within } from '../support/within.js'
import { value } from './redis.js'
import { holds, must, type Target } from './target.js'

/** Replies of one input: each goes to the next command, on any connection. */
const MOST_REPLIES = 60
const PATIENCE_MS = 30_000
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

const broken = fc.constantFrom(
  ...[
    '',
    '*5\r\n:1\r\n',
    '*99999999999\r\n',
    '$99999999999\r\nx',
    'HTTP/1.1 400 Bad\r\n\r\n',
    '\0\xff',
    ':x\r\n',
  ],
  ...[
    '*1\r\n'.repeat(40),
    '$-2\r\n',
    '*-2\r\n',
    '>-1\r\n',
    '$1\r\nab\r\n',
    '+a\rb\r\n',
    '#x\r\n',
    '|1\r\n+a\r\n+b\r\n',
  ],
)
const message = fc
  .tuple(
    fc.constantFrom('message', 'subscribe', 'smessage', 'invalidate', 'x'),
    fc.array(value, { maxLength: 3 }),
  )
  .map(([kind, items]) => `>${items.length + 1}\r\n+${kind}\r\n${items.join('')}`)
const redirection = fc.constantFrom(
  ...[
    'MOVED',
    'MOVED 1',
    'MOVED 1 x',
    'MOVED 99999 127.0.0.1:1',
    'MOVED 1 127.0.0.1:99999',
    'ASK 1 127.0.0.1:1',
  ],
  ...[
    'ASK',
    'TRYAGAIN',
    'CLUSTERDOWN',
    'READONLY x',
    'LOADING x',
    'WRONGPASS x',
    'NOAUTH x',
    'NOPROTO x',
    'NOSCRIPT x',
  ],
)
const said = fc.oneof(
  { weight: 5, arbitrary: value },
  { weight: 2, arbitrary: broken },
  { weight: 2, arbitrary: message },
  { weight: 1, arbitrary: redirection.map((text) => `-${text}\r\n`) },
)
const slots = fc
  .array(fc.tuple(fc.integer({ min: -1, max: 16_384 }), fc.integer({ min: -1, max: 20_000 }), value), {
    maxLength: 3,
  })
  .map((all) => `*${all.length}\r\n${all.map(([a, b, node]) => `*3\r\n:${a}\r\n:${b}\r\n${node}`).join('')}`)

interface Lie {
  readonly reply: string
  /** Replies sent without a command. */
  readonly unasked: boolean
  /** True if every connection is opened anew before. */
  readonly cut: boolean
}
const lie: fc.Arbitrary<Lie> = fc.record({
  reply: fc.oneof({ weight: 6, arbitrary: said }, { weight: 1, arbitrary: slots }),
  unasked: fc.oneof(
    { weight: 5, arbitrary: fc.constant(false) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
  cut: fc.oneof({ weight: 12, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
})

export const evilStores: Target = {
  name: 'evil-stores',
  what: 'whatever a Redis, Sentinel or Cluster node says, the process lives, leaks no connection, and then decides correctly',
  short: 3,
  async open(t) {
    const redis = await startRedis(t as Test)
    const policy = policyOf([1_000_000_000, 60_000])
    const service = serviceOf('api', [policy], 'closed')
    const ways = await Promise.all(
      (['redis://', 'redis+sentinel://', 'cluster'] as const).map(async (way) => {
        const evil = await evilRedis(t, redis.port)
        const at = `127.0.0.1:${evil.port}`
        const address =
          way === 'cluster' ? [`redis://${at}`] : way === 'redis://' ? way + at : `${way}${at}/main`
        const quiet = { info() {}, warn() {} }
        const store = openStore({ ...SETTINGS, redis: address }, quiet, { fleet: 'member' })
        t.teardown(() => store.close())
        const decide = () => store.limiter.take(service, policy, 'alice', 1)
        const isUp = () =>
          eventually(`${way} decides`, async () => (await decide()).decidedBy === 'store', PATIENCE_MS)
        return { way, evil, store, decide, isUp }
      }),
    )
    const input = fc.array(lie, { minLength: 1, maxLength: MOST_REPLIES, size: 'max' })

    async function tellAll(way: (typeof ways)[number], lies: readonly Lie[]): Promise<void> {
      const { evil, decide, isUp } = way
      await isUp()
      const waiting = [...lies]
      evil.answers = () => {
        const next = waiting.shift()
        if (next?.cut) evil.cut()
        if (next?.unasked) evil.inject(Buffer.from(next.reply, 'latin1'))
        return next?.unasked ? undefined : next?.reply
      }
      // Every caller that waits for a reply must get one of these results.
      const end = performance.now() + PATIENCE_MS
      while (waiting.length > 0 && performance.now() < end) {
        const decision = await within(SETTINGS.timeout + 3000, 'a decision', Promise.resolve(decide()))
        must(decision.decidedBy === 'store' || !decision.allowed, `decides ${JSON.stringify(decision)}`)
        evil.inject(Buffer.from(waiting.shift()?.reply ?? '', 'latin1'))
        if (decision.decidedBy !== 'store') await new Promise((resolve) => setTimeout(resolve, 1))
      }
      evil.answers = undefined
      // An orderly reply may have been only the beginning of one.
      evil.cut()
      await isUp()
      must(evil.open() <= 12, `${evil.open()} connections of ${way.way}`)
    }
    return holds(input, async (lies) => {
      const third = Math.ceil(lies.length / ways.length)
      await Promise.all(ways.map((way, i) => tellAll(way, lies.slice(i * third, (i + 1) * third))))
    })
  },
}

/** Everything that Tidegate asks through ioredis, whose replies it takes apart. */
const COMMANDS: readonly (readonly [name: string, ...args: string[]])[] = [
  ['evalsha', 'x', '0'],
  ['subscribe', 'c'],
  ['subscribe', 'c', 'd'],
  ['info'],
  ['cluster', 'slots'],
  ['hscan', 'h', '0'],
  ['sentinel', 'sentinels', 'main'],
]

export const evilReplies: Target = {
  name: 'evil-replies',
  what: 'whatever Redis replies to any command, the process lives, and the next connection works',
  short: 4,
  async open(t) {
    const redis = await startRedis(t as Test)
    const clients = await Promise.all(
      Array.from({ length: 16 }, async () => {
        const evil = await evilRedis(t, redis.port)
        const client = new Redis({
          port: evil.port,
          host: '127.0.0.1',
          Connector: directConnector(() => {}),
          retryStrategy: () => 1,
          enableOfflineQueue: false,
          maxRetriesPerRequest: 0,
          autoResubscribe: false,
          disconnectTimeout: 10,
          commandTimeout: 50,
        })
        client.on('error', () => {})
        t.teardown(() => client.disconnect())
        const isWell = () =>
          eventually(
            'it is connected',
            async () => (await client.ping().catch(() => '')) === 'PONG',
            PATIENCE_MS,
          )
        return { evil, client, isWell }
      }),
    )
    const asked = fc.record({ lie, command: fc.constantFrom(...COMMANDS) })
    return holds(fc.array(asked, { minLength: 1, maxLength: 400, size: 'max' }), async (all) => {
      const left = [...all]
      await Promise.all(
        clients.map(async ({ evil, client, isWell }) => {
          for (let one = left.pop(); one !== undefined; one = left.pop()) {
            const { lie, command } = one
            let next: string | undefined = lie.reply
            evil.answers = () => {
              const now = next
              next = undefined
              return now
            }
            if (lie.cut) evil.cut()
            if (lie.unasked) evil.inject(Buffer.from(lie.reply, 'latin1'))
            const [name, ...args] = command
            await client.call(name, ...args).catch(() => {})
          }
          evil.answers = undefined
          evil.cut()
          await isWell()
          must(evil.open() <= 1, `${evil.open()} connections`)
        }),
      )
    })
  },
}

const piece = fc.oneof(
  fc.constantFrom(
    Buffer.alloc(0),
    Buffer.from([0]),
    Buffer.from('x\0'),
    Buffer.from('tier\0'),
    Buffer.from('SERROR\0'),
  ),
  fc.constantFrom(...[0, 1, 2, 5, -1, 32_767, -32_768].map(int16)),
  fc.constantFrom(...[0, 1, 3, 5, 7, 9, 10, 11, 12, -1, -2, 2 ** 30, 2 ** 31 - 1].map(int32)),
  fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
)
const TYPES = [...'123ACDEGHIKNRSTWZcdnstv'.split(''), '\0', '\xff']
const pgPart = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.constantFrom(...TYPES), fc.array(piece, { maxLength: 5 }))
      .map(([type, pieces]) => pgMessage(type, ...pieces)),
  },
  {
    weight: 5,
    arbitrary: fc.constantFrom(
      ...[WELCOME, READY, rowDescription('tier'), rowDescription('tier', 'tenant'), rowDescription()],
      ...[dataRow('pro'), dataRow('pro', 'x'), dataRow(), pgMessage('1'), pgMessage('2'), pgMessage('n')],
      ...[pgMessage('C', Buffer.from('SELECT 1\0')), pgMessage('E', Buffer.from('SERROR\0C22P02\0Mno\0\0'))],
      ...[2, 3, 5, 6, 7, 8, 9, 10, 11, 12].map((kind) => pgMessage('R', int32(kind))),
      pgMessage('R', int32(10), Buffer.from('SCRAM-SHA-256\0\0')),
      rowAnswer('pro'),
    ),
  },
  { weight: 1, arbitrary: piece },
  { weight: 1, arbitrary: fc.constantFrom(Buffer.from('D\0\0\0\x03'), Buffer.from('E\x7f\xff\xff\xff')) },
)

export const evilDatabases: Target = {
  name: 'evil-databases',
  what: 'whatever PostgreSQL says, the process lives, a lookup ends, no connection leaks, and the next answer is right',
  short: 4,
  async open(t) {
    const pool = await Promise.all(
      Array.from({ length: 48 }, async () => {
        const evil = await evilPostgres(t)
        const directory = openPostgres({
          name: 'billing',
          settings: {
            url: evil.url,
            query: 'SELECT tier FROM t WHERE id = $1',
            timeout: 40,
            pool: 1,
            listen: 'c',
          },
          listen: true,
          onChange: () => {},
          log: { info() {}, warn() {} },
        })
        t.teardown(() => directory.close())
        return { evil, look: () => directory.look('acme', AbortSignal.timeout(60)) }
      }),
    )
    const talk = fc.record({
      parts: fc.array(pgPart, { minLength: 1, maxLength: 8 }),
      greets: fc.boolean(),
      ends: fc.boolean(),
      pieces: fc.constantFrom(1, 1, 2, 5),
    })
    const free = [...pool]
    return holds(fc.array(talk, { minLength: 1, maxLength: 400, size: 'max' }), async (talks) => {
      const left = [...talks]
      await Promise.all(
        free.map(async ({ evil, look }) => {
          for (let one = left.pop(); one !== undefined; one = left.pop()) {
            const { parts, greets, ends, pieces } = one
            const bytes = Buffer.concat(parts)
            Object.assign(evil, { ends, pieces, ...(greets ? { greeting: bytes } : { answer: bytes }) })
            if (greets) evil.cut()
            await within(
              PATIENCE_MS,
              'the end of a question',
              look().catch(() => {}),
            )
            evil.greeting = WELCOME
          }
          Object.assign(evil, { ends: false, pieces: 1, answer: rowAnswer('free') })
          evil.cut()
          const right = async () => (await look().catch(() => undefined))?.tier === 'free'
          await eventually('the next answer is right', right, PATIENCE_MS)
          must(evil.open() <= 2, `${evil.open()} connections`)
        }),
      )
    })
  },
}

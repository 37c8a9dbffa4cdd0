// Tests src/limiter/redis/run-script.ts
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import type { Policy } from '../../../src/config/snapshot/policy.js'
import { usageFrom } from '../../../src/limiter/decide.js'
import { decodeCounts } from '../../../src/limiter/redis/decode-counts.js'
import { runPut, runSweep, runTouch } from '../../../src/limiter/redis/map-scripts.js'
import { runCall, type ScriptCall } from '../../../src/limiter/redis/run-script.js'
import {
  runAnnounce,
  runUsage,
  settleCall,
  takeCall,
  takeMixedCall,
} from '../../../src/limiter/redis/scripts.js'
import { hasRedisServer, startRedis } from '../../support/redis/redis.js'
import { policyOf } from '../contract/build.js'

const folder = new URL('../../../lua/', import.meta.url)
const sources = new Map(
  readdirSync(folder).map((file) => [file.replace('.lua', ''), readFileSync(new URL(file, folder), 'utf8')]),
)
const redis = await startRedis(t)
const runTake = (...args: Parameters<typeof takeCall>) => run(takeCall(...args))
const runTakeMixed = (...args: Parameters<typeof takeMixedCall>) => run(takeMixedCall(...args))
const runSettle = (...args: Parameters<typeof settleCall>) => run(settleCall(...args))
const run = (call: ScriptCall) => runCall(redis.client, call) as Promise<number[]>
const skip = hasRedisServer ? false : 'needs a redis-server of its own: MONITOR shows what everybody does'

/** Builds one request for takeCall. */
function takeOf(key: string, { parts }: Policy, cost: number) {
  return { keys: [key], parts, cost, count: 1 }
}

/** Returns the highest n of KEYS[n] or ARGV[n] in the code. */
function highest(name: string, list: 'KEYS' | 'ARGV'): number {
  const code = sources.get(name)!.replace(/--.*$/gm, '')
  return Math.max(0, ...[...code.matchAll(RegExp(`${list}\\[(\\d+)\\]`, 'g'))].map(([, n]) => Number(n)))
}

/** Records the scripts that run meanwhile, as Redis sees them, by name: keys and arguments of each call. */
async function watch(run: () => Promise<unknown>) {
  const monitor = await redis.client.monitor()
  const seen: { how: string; keys: string[]; args: string[] }[] = []
  monitor.on('monitor', (_time: string, [how = '', , count, ...rest]: string[]) => {
    if (!/^eval/i.test(how)) return
    seen.push({ how, keys: rest.slice(0, Number(count)), args: rest.slice(Number(count)) })
  })
  await run()
  // MONITOR shows all commands in order.
  const end = randomUUID()
  const shown = new Promise<void>((resolve) => {
    monitor.on('monitor', (_time: string, [, text]: string[]) => text === end && resolve())
  })
  await redis.client.echo(end)
  await shown
  monitor.disconnect()
  return seen
}

t.test('every script names its keys and arguments on top, and uses no others', async (t) => {
  t.same([...sources.keys()].sort(), [
    'algorithms',
    'announce',
    'heartbeat',
    'layout',
    'put',
    'restore',
    'settle',
    'sweep',
    'take',
    'take_mixed',
    'touch',
    'usage',
  ])
  for (const [name, source] of sources) {
    const block = /^(--.*\n)+(\n--.*|\n)*/.exec(source)?.[0] ?? ''
    const code = source.slice(block.length)
    if (name !== 'algorithms') {
      t.notMatch(code, /^\s*--/m, `${name}: the block on top, and nothing but code below`)
    }
    t.match(block, name === 'algorithms' ? /Value/ : /Reply/, `${name}: tells its reply`)
    for (const list of ['KEYS', 'ARGV'] as const) {
      for (let n = 1; n <= highest(name, list); n++) {
        t.ok(block.includes(`${list}[${n}]`), `${name}: tells what ${list}[${n}] is`)
      }
    }
  }
})

t.test('take: one key per decision, deadline, now, then cost and limits of each', { skip }, async (t) => {
  await redis.client.script('FLUSH')
  const one = takeOf('rl:a:{x}:1m', policyOf([10, 60_000]), 1)
  const two = takeOf('rl:b:{x}:1s+1m', policyOf([5, 1000], [100, 60_000]), 3)
  const now = Date.now()
  const seen = await watch(() => runTake([one, two], now + 1000, now))
  t.same(
    seen.map(({ how }) => how.toLowerCase()),
    ['evalsha', 'eval'],
    'EVAL once, where the script is missing',
  )
  for (const { keys, args } of seen) {
    t.same(keys, [one.keys[0], two.keys[0]])
    t.same(args, [now + 1000, now, 1, 1, 10, 60_000, 3, 2, 5, 1000, 100, 60_000].map(String))
  }
  const shown = await watch(() => runTake([{ ...two, shows: true }, one], 0, now))
  t.same(shown[0]!.args, [0, now, -3, 0, 2, 5, 1000, 100, 60_000, 1, 1, 10, 60_000].map(String))
  const again = await watch(() => runTake([one], 0, 0))
  t.same(
    again.map(({ how }) => how.toLowerCase()),
    ['evalsha'],
  )
})

t.test('usage, put, sweep and touch: as many keys and arguments as the code uses', { skip }, async (t) => {
  const usage = await watch(() => runUsage(redis.client, 'rl:a:{x}:1m', 0))
  const change = { key: 'bob', text: 'pro', until: 9 }
  const how = { channel: 'channel', logLength: 10, most: 5, only: 'absent' } as const
  const put = await watch(() => runPut(redis.client, 'tier:{a}', [change], how))
  const sweep = await watch(() => runSweep(redis.client, 'tier:{a}', 8, 100))
  const touch = await watch(() => runTouch(redis.client, 'tier:{a}', ['bob', 'eve'], 7, 5))
  const keys = ['tier:{a}', 'tier:{a}:version', 'tier:{a}:log', 'tier:{a}:ends']
  t.same(usage.at(-1), { how: usage.at(-1)?.how, keys: ['rl:a:{x}:1m'], args: ['0'] })
  const args = ['channel', '10', '5', 'absent', 'bob', 'pro', '9']
  t.same(put.at(-1), { how: put.at(-1)?.how, keys, args })
  t.same(sweep.at(-1), { how: sweep.at(-1)?.how, keys: ['tier:{a}', 'tier:{a}:ends'], args: ['8', '100'] })
  t.same(touch.at(-1), {
    how: touch.at(-1)?.how,
    keys: ['tier:{a}', 'tier:{a}:used'],
    args: ['7', '5', 'bob', 'eve'],
  })
  for (const [name, seen, ofOneValue] of [
    ['usage', usage, 0],
    ['put', put, 3],
    ['sweep', sweep, 0],
  ] as const) {
    t.equal(seen.at(-1)?.keys.length, highest(name, 'KEYS'))
    t.equal(seen.at(-1)?.args.length, highest(name, 'ARGV') + ofOneValue)
  }
})

t.test('take: a call after its deadline decides and charges nothing', async (t) => {
  await redis.client.flushdb()
  const one = takeOf('rl:a:{late}:1m', policyOf([10, 60_000]), 1)
  const reply = await runTake([one], Date.now() - 1, 0)
  t.equal(reply.length, 1)
  t.ok(Math.abs(reply[0]! - Date.now()) < 1000, 'and tells its clock')
  t.equal(await redis.client.exists(one.keys), 0)
})

t.test('take: a key that holds something else counts as none, and fails no other decision', async (t) => {
  await redis.client.flushdb()
  const single = policyOf([10, 60_000])
  const several = policyOf([5, 1000], [10, 60_000])
  await redis.client.hset('rl:a:{hash}:1m', 'field', 'value')
  await redis.client.set('rl:a:{text}:1m', 'not a number')
  await redis.client.set('rl:a:{short}:1s+1m', 'too short')
  const anotherWindow = (Math.floor(Date.now() / 60_000) + 4) % 8
  await redis.client.set('rl:a:{forever}:1m', String(anotherWindow * 2 ** 50 + 12_345))
  const takes = [
    takeOf('rl:a:{hash}:1m', single, 1),
    takeOf('rl:a:{text}:1m', single, 1),
    takeOf('rl:a:{short}:1s+1m', several, 1),
    takeOf('rl:a:{forever}:1m', single, 1),
    takeOf('rl:a:{good}:1m', single, 1),
  ]
  const reply = await runTake(takes, 0, 0)
  t.same(
    [1, 5, 9, 13, 17].map((at) => reply[at]! & 1),
    [1, 1, 1, 1, 1],
  )
  for (const {
    keys: [key = ''],
  } of takes)
    t.ok((await redis.client.pttl(key)) > 0, `${key} expires`)
})

t.test('take: a key expires when the window after its own ends, and takes at most 140 bytes', async (t) => {
  await redis.client.flushdb()
  const one = takeOf('rl:orders:{u1000000000}:1m', policyOf([10, 60_000]), 1)
  const two = takeOf('rl:orders:{u1000000000}:1s+1m', policyOf([5, 1000], [100, 60_000]), 1)
  const [now] = await runTake([one, two], 0, 0)
  const end = (Math.floor(now! / 60_000) + 2) * 60_000
  for (const {
    keys: [key = ''],
  } of [one, two])
    t.equal(Number(await redis.client.call('PEXPIRETIME', key)), end)
  t.ok(Number(await redis.client.memory('USAGE', one.keys[0]!)) <= 140)
})

const MIXED = policyOf(
  { amount: 5, windowMs: 1000 },
  { algorithm: 'strict', amount: 6, windowMs: 2000 },
  { algorithm: 'token_bucket', amount: 7, windowMs: 3000, burst: 9 },
  { algorithm: 'fixed', amount: 8, windowMs: 4000 },
  {
    algorithm: 'calendar',
    amount: 9,
    windowMs: 86_400_000,
    calendar: { period: 'day', timeZone: 'UTC' },
  },
  { algorithm: 'concurrency', amount: 10, windowMs: 5000 },
)
/** Far ahead, so that the real clock expires nothing. */
const NOW = Date.UTC(2100, 0, 2, 3)
const DAY = 86_400_000
const TODAY = NOW / DAY - 0.125
const MIXED_ARGUMENTS = [
  6,
  ...['s', 5, 1000, 'x', 6, 2000, 'b', 7, 3000, 9, 'f', 8, 4000],
  ...['k', 9, DAY, TODAY, TODAY * DAY, TODAY + 1, (TODAY + 1) * DAY, (TODAY + 2) * DAY],
  ...['c', 10, 5000],
]

t.test(
  'take_mixed: a key per part; cost, requests, parts, then kind and numbers of each limit',
  { skip },
  async (t) => {
    const both = { keys: ['rl:a:{ip}:ip:1m', 'rl:a:{x}:1m'], cost: 2, count: 1 }
    const parts = [policyOf([10, 60_000]).parts[0]!, MIXED.parts[0]!]
    const one = { keys: ['rl:a:{y}:1m'], parts: [policyOf([10, 60_000]).parts[0]!], cost: 1, count: 3 }
    const seen = await watch(() => runTakeMixed([{ ...both, parts }, one], 0, NOW))
    t.same(seen.at(-1)?.keys, [...both.keys, ...one.keys])
    const minute = [1, 's', 10, 60_000]
    t.same(
      seen.at(-1)?.args,
      [0, NOW, 2, 1, 2, ...minute, ...MIXED_ARGUMENTS, 1, 3, 1, ...minute].map(String),
    )
  },
)

t.test(
  'take_mixed: replies how many passed, then the limits of the last of these and of the first denied',
  async (t) => {
    await redis.client.flushdb()
    const minute = policyOf([5, 60_000], { algorithm: 'fixed', amount: 9, windowMs: 60_000 })
    const take = (count: number, cost: number) =>
      runTakeMixed([{ keys: ['rl:a:{k}:1m'], parts: minute.parts, cost, count }], 0, NOW)
    t.same(await take(1, 1), [NOW, 1, 0b01, 4, 60_000, 0], 'one that passes: binding 0, 4 left')
    const denied = (wait: number) => [0b1_0000, 0, 60_000, wait, 0, 60_000, 5, 0, 4, 60_000, 0, 0]
    t.same(await take(3, 2), [NOW, 2, 0b01, 0, 60_000, 0, ...denied(84_000)], 'two of three')
    t.same(await take(2, 1), [NOW, 0, ...denied(72_000)], 'none of two passes')
  },
)

t.test(
  'settle: takes quota and slot with their times, parts, limits, and the period of a calendar',
  { skip },
  async (t) => {
    await redis.client.flushdb()
    const settle = {
      keys: ['rl:a:{x}:mixed'],
      parts: MIXED.parts,
      quota: 3,
      at: NOW - DAY,
      slot: 'renew' as const,
      slotAt: NOW - 1,
    }
    const seen = await watch(() => runSettle([settle], NOW))
    t.same(seen.at(-1)?.keys, settle.keys)
    t.same(seen.at(-1)?.args, [NOW, 3, NOW - DAY, 2, NOW - 1, 1, ...MIXED_ARGUMENTS, TODAY - 1].map(String))
  },
)

t.test('announce: counts gateways that said they live, without those that left or fell silent', async (t) => {
  const say = (node: string, ttl: number) => runAnnounce(redis.client, 'nodes:{test}', node, ttl)
  t.equal(await say('a', 10_000), 1)
  t.equal(await say('b', 10_000), 2)
  t.equal(await say('b', 10_000), 2)
  t.equal(await say('a', 0), 1)
  await redis.client.zadd('nodes:{test}', Date.now() - 1, 'silent')
  t.equal(await say('c', 10_000), 2)
  t.ok((await redis.client.pttl('nodes:{test}')) > 0)
})

t.test('every layout is read as it was written', async (t) => {
  await redis.client.flushdb()
  const take = { keys: ['rl:a:{x}:mixed'], parts: MIXED.parts, cost: 2, count: 1 }
  await runTakeMixed([take], 0, NOW)
  await runTakeMixed([take], 0, NOW + 500)
  const [, value] = await runUsage(redis.client, 'rl:a:{x}:mixed', NOW + 500)
  const counts = decodeCounts(MIXED.limits, value, 0, NOW + 500)
  t.same(
    usageFrom(MIXED.limits, counts, NOW + 500).map(({ used }) => used),
    [4, 4, 3, 4, 4, 2],
  )
})

t.test('a key whose expiry a migration shifted still belongs to its window', async (t) => {
  const minute = policyOf([10, 60_000])
  const key = 'rl:a:{moved}:1m'
  for (const shift of [-20_000, -1, 0, 5, 20_000]) {
    await redis.client.flushdb()
    await runTake([takeOf(key, minute, 10)], 0, NOW)
    const expires = Number(await redis.client.call('PEXPIRETIME', key))
    await redis.client.pexpireat(key, expires + shift)
    const later = NOW + 60_000
    const [, value, at] = await runUsage(redis.client, key, later)
    t.equal(usageFrom(minute.limits, decodeCounts(minute.limits, value, at, later), later)[0]?.used, 10)
    const verdict = [0b1_0000, 0, 60_000, 6000]
    t.same(
      await runTake([takeOf(key, minute, 1)], 0, later),
      [later, ...verdict, 10, 60_000],
      `by ${shift} ms`,
    )
    const mixed = { keys: [key], parts: minute.parts, cost: 1, count: 1 }
    t.same(await runTakeMixed([mixed], 0, later), [later, 0, ...verdict, 0, 60_000, 0, 10])
  }
})

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { runAssign, runTake, runUsage } from '../../src/limiter/scripts.js'
import { hasRedisServer, startRedis } from '../support/redis.js'
import { policyOf } from './build.js'

const folder = new URL('../../lua/', import.meta.url)
const sources = new Map(
  readdirSync(folder).map((file) => [file.replace('.lua', ''), readFileSync(new URL(file, folder), 'utf8')]),
)
const redis = await startRedis(t)
const skip = hasRedisServer ? false : 'needs a redis-server of its own: MONITOR shows what everybody does'

/** The highest n of KEYS[n] or ARGV[n] in the code. */
function highest(name: string, list: 'KEYS' | 'ARGV'): number {
  const code = sources.get(name)!.replace(/--.*$/gm, '')
  return Math.max(0, ...[...code.matchAll(RegExp(`${list}\\[(\\d+)\\]`, 'g'))].map(([, n]) => Number(n)))
}

/** What Redis gets to see of the scripts that are run meanwhile, by name; how it was called, keys, arguments. */
async function watch(run: () => Promise<unknown>) {
  const monitor = await redis.client.monitor()
  const seen: { how: string; keys: string[]; args: string[] }[] = []
  monitor.on('monitor', (_time: string, [how = '', , count, ...rest]: string[]) => {
    if (!/^eval/i.test(how)) return
    seen.push({ how, keys: rest.slice(0, Number(count)), args: rest.slice(Number(count)) })
  })
  await run()
  await delay(50)
  monitor.disconnect()
  return seen
}

t.test('every script says on top which keys and arguments it takes, and uses no other', async (t) => {
  t.same([...sources.keys()].sort(), ['assign', 'take', 'usage'])
  for (const [name, source] of sources) {
    const block = /^(--.*\n)+(\n--.*|\n)*/.exec(source)?.[0] ?? ''
    const code = source.slice(block.length)
    t.notMatch(code, /^\s*--/m, `${name}: the block on top, and nothing but code below`)
    t.match(block, /Reply/, `${name}: tells its reply`)
    for (const list of ['KEYS', 'ARGV'] as const) {
      for (let n = 1; n <= highest(name, list); n++) {
        t.ok(block.includes(`${list}[${n}]`), `${name}: tells what ${list}[${n}] is`)
      }
    }
  }
})

t.test('take: one key per decision, deadline, now, then cost and limits of each', { skip }, async (t) => {
  await redis.client.script('FLUSH')
  const one = { key: 'rl:a:{x}:1m', policy: policyOf([10, 60_000]), cost: 1 }
  const two = { key: 'rl:b:{x}:1s+1m', policy: policyOf([5, 1000], [100, 60_000]), cost: 3 }
  const now = Date.now()
  const seen = await watch(() => runTake(redis.client, [one, two], now + 1000, now))
  t.same(
    seen.map(({ how }) => how.toLowerCase()),
    ['evalsha', 'eval'],
    'EVAL once, where the script is missing',
  )
  for (const { keys, args } of seen) {
    t.same(keys, [one.key, two.key])
    t.same(args, [now + 1000, now, 1, 1, 10, 60_000, 3, 2, 5, 1000, 100, 60_000].map(String))
  }
  const again = await watch(() => runTake(redis.client, [one], 0, 0))
  t.same(
    again.map(({ how }) => how.toLowerCase()),
    ['evalsha'],
  )
})

t.test('usage and assign: as many keys and arguments as the code uses', { skip }, async (t) => {
  const usage = await watch(() => runUsage(redis.client, 'rl:a:{x}:1m', 0))
  const keys = ['tier:{a}', 'tier:{a}:version', 'tier:{a}:log'] as const
  const assign = await watch(() => runAssign(redis.client, keys, 'bob', 'pro', 'channel', 10))
  t.same(usage.at(-1), { how: usage.at(-1)?.how, keys: ['rl:a:{x}:1m'], args: ['0'] })
  t.same(assign.at(-1), { how: assign.at(-1)?.how, keys, args: ['bob', 'pro', 'channel', '10'] })
  for (const [name, seen] of [
    ['usage', usage],
    ['assign', assign],
  ] as const) {
    t.equal(seen.at(-1)?.keys.length, highest(name, 'KEYS'))
    t.equal(seen.at(-1)?.args.length, highest(name, 'ARGV'))
  }
})

t.test('take: a call after its deadline decides and charges nothing', async (t) => {
  await redis.client.flushdb()
  const one = { key: 'rl:a:{late}:1m', policy: policyOf([10, 60_000]), cost: 1 }
  const reply = await runTake(redis.client, [one], Date.now() - 1, 0)
  t.equal(reply.length, 1)
  t.ok(Math.abs(reply[0]! - Date.now()) < 1000, 'and tells its clock')
  t.equal(await redis.client.exists(one.key), 0)
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
    { key: 'rl:a:{hash}:1m', policy: single, cost: 1 },
    { key: 'rl:a:{text}:1m', policy: single, cost: 1 },
    { key: 'rl:a:{short}:1s+1m', policy: several, cost: 1 },
    { key: 'rl:a:{forever}:1m', policy: single, cost: 1 },
    { key: 'rl:a:{good}:1m', policy: single, cost: 1 },
  ]
  const reply = await runTake(redis.client, takes, 0, 0)
  t.same(
    [1, 5, 9, 13, 17].map((at) => reply[at]! & 1),
    [1, 1, 1, 1, 1],
  )
  for (const { key } of takes) t.ok((await redis.client.pttl(key)) > 0, `${key} expires`)
})

t.test('take: a key expires when the window after its own ends, and takes at most 140 bytes', async (t) => {
  await redis.client.flushdb()
  const one = { key: 'rl:orders:{u1000000000}:1m', policy: policyOf([10, 60_000]), cost: 1 }
  const two = { key: 'rl:orders:{u1000000000}:1s+1m', policy: policyOf([5, 1000], [100, 60_000]), cost: 1 }
  const [now] = await runTake(redis.client, [one, two], 0, 0)
  const end = (Math.floor(now! / 60_000) + 2) * 60_000
  for (const { key } of [one, two]) t.equal(Number(await redis.client.call('PEXPIRETIME', key)), end)
  t.ok(Number(await redis.client.memory('USAGE', one.key)) <= 140)
})

import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import fc from 'fast-check'
import type { Test } from 'tap'
import type { Decision } from '../../src/limiter/limiter.js'
import type { RedisLimiter } from '../../src/limiter/redis.js'
import { openLimiter } from '../limiter/open-limiter.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway.js'
import { type Cleanup, holds, must, type Target } from './target.js'

const NUMBERS = [
  0,
  1,
  2,
  3,
  7,
  16,
  17,
  18,
  33,
  100,
  -1,
  -2,
  2 ** 25,
  2 ** 31,
  2 ** 50,
  2 ** 53,
  1_760_000_040_000,
]
const number = fc.oneof(fc.constantFrom(...NUMBERS), fc.integer({ min: -1000, max: 100_000 }))
const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`

/** RESP of any shape; most of it what a server could say, though never to this. */
const { value } = fc.letrec<{ value: string; leaf: string }>((tie) => ({
  leaf: fc.oneof(
    { weight: 4, arbitrary: number.map((n) => `:${n}\r\n`) },
    fc.constantFrom(
      '+OK\r\n',
      '$-1\r\n',
      '*-1\r\n',
      '*0\r\n',
      '$0\r\n\r\n',
      '_\r\n',
      '#t\r\n',
      ',1.5\r\n',
      ',nan\r\n',
      '(99999999999999999999\r\n',
    ),
    fc.constantFrom(
      '-ERR x\r\n',
      '-NOSCRIPT x\r\n',
      '-MOVED 1 127.0.0.1:1\r\n',
      '-READONLY x\r\n',
      '-BUSY x\r\n',
      '-OOM x\r\n',
      '-TRYAGAIN x\r\n',
      '-LOADING x\r\n',
    ),
    fc.string({ maxLength: 6, unit: 'binary-ascii' }).map(bulk),
  ),
  value: fc.oneof(
    { depthSize: 'small' },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 6 }).map((items) => `*${items.length}\r\n${items.join('')}`),
    fc
      .array(tie('value'), { maxLength: 2 })
      .map((items) => `%${items.length}\r\n${items.map((item) => `+k\r\n${item}`).join('')}`),
  ),
}))
const numbers = fc
  .array(number, { maxLength: 14 })
  .map((all) => `*${all.length}\r\n${all.map((n) => `:${n}\r\n`).join('')}`)
const decided = fc
  .array(number, { maxLength: 12 })
  .map((all) => `*${all.length + 1}\r\n:${Date.now()}\r\n${all.map((n) => `:${n}\r\n`).join('')}`)
const broken = fc.constantFrom(
  '',
  '*5\r\n:1\r\n',
  '*99999999999\r\n',
  '$99999999999\r\nx',
  'HTTP/1.1 400 Bad\r\n\r\n',
  '\0\xff',
  ':x\r\n',
  '*1\r\n'.repeat(5000),
)
const reply = fc.oneof(
  { weight: 6, arbitrary: decided },
  { weight: 3, arbitrary: numbers },
  { weight: 4, arbitrary: value },
  { weight: 1, arbitrary: broken },
)

/** Speaks enough of Redis to be believed, and answers decisions with whatever it is told to. */
async function startLiar(t: Cleanup): Promise<{ url: string; say: (answer: string) => void }> {
  let answer = ''
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    let text = ''
    socket.on('data', (data) => {
      text += data.toString('latin1')
      for (let command = takeCommand(); command !== undefined; command = takeCommand())
        socket.write(answerTo(command), 'latin1')
    })
    function takeCommand(): string[] | undefined {
      const head = /^\*(\d+)\r\n/.exec(text)
      if (head === null) return undefined
      const parts: string[] = []
      let at = head[0].length
      for (let i = 0; i < Number(head[1]); i++) {
        const size = /^\$(\d+)\r\n/.exec(text.slice(at, at + 20))
        const from = at + (size?.[0].length ?? 0)
        if (size === null || text.length < from + Number(size[1]) + 2) return undefined
        parts.push(text.slice(from, from + Number(size[1])))
        at = from + Number(size[1]) + 2
      }
      text = text.slice(at)
      return parts
    }
  })
  function answerTo([name = '', , keys]: readonly string[]): string {
    if (/^info$/i.test(name)) return bulk('redis_version:7.4.0')
    if (!/^eval(?:sha)?$/i.test(name)) return '+OK\r\n'
    return keys === '0' ? `*1\r\n:${Date.now()}\r\n` : answer
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `redis://127.0.0.1:${port}`,
    say(next) {
      answer = next
    },
  }
}

const LIMITS = [
  '10/min',
  '[2/s, 10/min]',
  '{ amount: 10, window: 1m, algorithm: token_bucket }',
  '{ amount: 3, algorithm: concurrency }',
]
const YAML = `
tiers: [${LIMITS.map((_, i) => `t${i}`).join(', ')}]
services:
  api: { upstreams: ['http://a'], on_failure: closed, limits: { ${LIMITS.map((limit, i) => `t${i}: ${limit}`).join(', ')} } }
routes: [{ path: /*, service: api }]
`
/** Ms. */
const TIMEOUT = 60

export const redis: Target = {
  name: 'redis',
  what: 'whatever the store answers, a decision comes in time, and claims of a quota only what can be true of it',
  short: 8,
  async open(t) {
    const service = snapshotOf(YAML).services[0]!
    const liars = await Promise.all(Array.from({ length: 6 }, () => startLiar(t)))
    const limiters: RedisLimiter[] = liars.map(
      ({ url }) => openLimiter(t as Test, url, TIMEOUT, { denials: 0 }).limiter,
    )

    function check(decision: Decision, tier: number): void {
      const { allowed, decidedBy, remaining, resetMs, retryMs, binding, violated, counted } = decision
      const shown = JSON.stringify(decision)
      if (decidedBy !== 'store') {
        must(decidedBy === 'closed' && !allowed, `decides ${shown}`)
        return
      }
      const { limits } = service.policies[tier]!
      must(typeof allowed === 'boolean' && limits[binding] !== undefined, `binding ${shown}`)
      must(allowed === (violated === 0) && violated < 2 ** limits.length, `violated ${shown}`)
      const most = Math.min(...limits.map(({ burst }) => burst))
      must(Number.isSafeInteger(remaining) && remaining >= 0 && remaining <= most, `remaining ${shown}`)
      must(Number.isSafeInteger(resetMs) && resetMs >= 0, `resetMs ${shown}`)
      must(Number.isSafeInteger(retryMs) && retryMs >= -1, `retryMs ${shown}`)
      must(Number.isSafeInteger(decision.at), `at ${shown}`)
      must(counted === undefined || counted.numbers.every((n) => Number.isSafeInteger(n)), `counted ${shown}`)
    }

    async function ask(i: number, answers: string, tier: number): Promise<void> {
      const limiter = limiters[i]!
      await eventually('the store is thought to be well', () => limiter.state() === 'up', 10_000)
      liars[i]!.say(answers)
      const started = performance.now()
      const decisions = await Promise.all(
        // Two equal ones are asked as one, and the third goes along.
        ['alice', 'alice', 'bob'].map((consumer) =>
          limiter.take(service, service.policies[tier]!, consumer, 1),
        ),
      )
      must(performance.now() - started < TIMEOUT + 3000, 'hangs')
      for (const decision of decisions) check(decision, tier)
    }

    const asked = fc.record({ reply, tier: fc.nat(LIMITS.length - 1) })
    return holds(fc.array(asked, { minLength: 1, maxLength: liars.length }), async (all) => {
      await Promise.all(all.map(({ reply, tier }, i) => ask(i, reply, tier)))
    })
  },
}

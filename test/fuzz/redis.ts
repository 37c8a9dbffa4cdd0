import fc from 'fast-check'
import type { Test } from 'tap'
import type { Decision } from '../../src/limiter/limiter.js'
import type { RedisLimiter } from '../../src/limiter/redis/redis.js'
import { openLimiter } from '../limiter/contract/open-limiter.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { lyingRedis } from '../support/redis/lying-redis.js'
import { within } from '../support/within.js'
import { holds, must, type Target } from './target.js'

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

/** RESP of any shape, mostly what a server could say, though never in this place. */
export const { value } = fc.letrec<{ value: string; leaf: string }>((tie) => ({
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
export const numbers = fc
  .array(number, { maxLength: 14 })
  .map((all) => `*${all.length}\r\n${all.map((n) => `:${n}\r\n`).join('')}`)
export const decided = fc
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
export const reply = fc.oneof(
  { weight: 6, arbitrary: decided },
  { weight: 3, arbitrary: numbers },
  { weight: 4, arbitrary: value },
  { weight: 1, arbitrary: broken },
)

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
/** Delay, in ms. */
const TIMEOUT = 60
/** After some replies the limiter does not ask the store for a while, so each input has several. */
const LIARS = 24

interface Asked {
  readonly reply: string
  readonly tier: number
  /** True for the reply to a probe, false for one to a decision. */
  readonly probe: boolean
}
const asked: fc.Arbitrary<Asked> = fc.record({
  reply,
  tier: fc.nat(LIMITS.length - 1),
  probe: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
})

export const redis: Target = {
  name: 'redis',
  what: 'whatever Redis answers, a decision comes in time, and its quota figures are possible ones',
  short: 8,
  async open(t) {
    const service = snapshotOf(YAML).services[0]!
    const liars = await Promise.all(Array.from({ length: LIARS }, () => lyingRedis(t)))
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

    const busy = new Set<number>()
    async function oneThatIsUp(): Promise<number> {
      let found = -1
      const look = () => {
        found = limiters.findIndex((limiter, i) => !busy.has(i) && limiter.state() === 'up')
        if (found >= 0) busy.add(found)
        return found >= 0
      }
      await eventually('a store is thought to be well', look, 20_000)
      return found
    }

    async function ask({ reply, tier, probe }: Asked): Promise<void> {
      const i = await oneThatIsUp()
      const limiter = limiters[i]!
      if (probe) await liars[i]!.misleads(reply)
      else liars[i]!.say(reply)
      // Two equal requests share one decision; the third joins their batch.
      const taken = ['alice', 'alice', 'bob'].map((consumer) =>
        limiter.take(service, service.policies[tier]!, consumer, 1),
      )
      const decisions = await within(TIMEOUT + 3000, 'a decision', Promise.all(taken))
      busy.delete(i)
      for (const decision of decisions) check(decision, tier)
    }

    return holds(fc.array(asked, { minLength: 1, maxLength: 8 }), (all) => Promise.all(all.map(ask)))
  },
}

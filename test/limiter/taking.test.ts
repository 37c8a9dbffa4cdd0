import t from 'tap'
import type { Decision, Limiter } from '../../src/limiter/limiter.js'
import { createMemoryLimiter } from '../../src/limiter/memory.js'
import { deliver, promised } from '../../src/limiter/taking.js'
import { eventually } from '../support/eventually.js'
import { exampleDecision } from '../support/gateway/snapshot.js'
import { startRedis } from '../support/redis/redis.js'
import { policyOf, serviceOf } from './contract/build.js'
import { openLimiter } from './contract/open-limiter.js'

const policy = policyOf([100, 60_000])
const service = serviceOf('payments', [policy])

t.test('promised: a decision at once, or a promise of a later one', async (t) => {
  const decision = exampleDecision()
  const asked: unknown[] = []
  const decide: Limiter['decide'] = ({ consumer, cost, levels, decided }) => {
    asked.push([consumer, cost, levels])
    if (consumer === 'known') return decision
    setImmediate(decided, decision)
    return undefined
  }
  const levels = { ip: '', tenant: '', route: '' }
  t.equal(promised(decide)(service, policy, 'known', 2, levels), decision)
  const later = promised(decide)(service, policy, 'other', 1)
  t.ok(later instanceof Promise)
  t.equal(await later, decision)
  t.same(asked, [
    ['known', 2, levels],
    ['other', 1, undefined],
  ])
})

t.test('deliver: an error of the receiver is logged and goes no further', async (t) => {
  const warned: unknown[] = []
  const fail = () => {
    throw new Error('broken')
  }
  deliver({ decided: fail }, exampleDecision(), (fields, message) => warned.push([fields, message]))
  t.match(warned, [[{ error: /^Error: broken\n.*taking\.test/s }, /a request failed on the decision/]])
})

t.test('in memory, decide returns the decision', async (t) => {
  const decide = (consumer: string) =>
    createMemoryLimiter().decide({
      service,
      policy,
      consumer,
      cost: 1,
      levels: undefined,
      shows: false,
      decided: () => t.fail('called, too'),
    })
  t.match(decide('alice'), { allowed: true, decidedBy: 'store', remaining: 99 })
})

t.test('a receiver that throws takes no decision from the others of its batch', async (t) => {
  const redis = await startRedis(t)
  const { limiter, log } = openLimiter(t, redis.url, 5000)
  await limiter.ready
  const decided: Decision[] = []
  for (let i = 0; i < 10; i++) {
    const known = limiter.decide({
      service,
      policy,
      // Each its own: equal ones would be one decision.
      consumer: `consumer-${i}`,
      cost: 1,
      levels: undefined,
      shows: false,
      decided(decision) {
        decided.push(decision)
        if (i % 2 === 0) throw new Error(`number ${i}`)
      },
    })
    t.equal(known, undefined)
  }
  await eventually('all are decided', () => decided.length === 10)
  for (const decision of decided) t.match(decision, { allowed: true, decidedBy: 'store', remaining: 99 })
  t.match(log.at(-1), { level: 'warn', message: 'a request failed on the decision of the limiter' })
  t.match(await limiter.take(service, policy, 'consumer-0', 1), { decidedBy: 'store', remaining: 98 })
})

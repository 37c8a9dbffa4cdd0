// Tests src/limiter/algorithms/{by-name,calendar,fixed,sliding,strict,token-bucket}.ts
import t from 'tap'
import { limitKey } from '../../src/limiter/key.js'
import { createMemoryLimiter } from '../../src/limiter/memory.js'
import { policyOf, serviceOf } from './contract/build.js'
import { contract, type Subject } from './contract/contract.js'
import { changeContract } from './contract/contract-changes.js'
import { shareContract } from './contract/contract-shares.js'

const DAY = 86_400_000
const START = 20_000 * DAY

const open = async () => {
  const limiter = createMemoryLimiter({ now: () => subject.clock })
  const subject: Subject = {
    limiter,
    clock: START,
    expire: async () => {},
    async state(service, consumer, keyPart) {
      return JSON.stringify(limiter.peek(limitKey(service, consumer, keyPart)))
    },
    windowsBack: 7,
  }
  return subject
}
contract(t, 'memory', open)
changeContract(t, 'memory', open)
shareContract(t, 'memory', open)

t.test('holds at most maxKeys counters, and drops one that was not used again', async (t) => {
  const limiter = createMemoryLimiter({ maxKeys: 3, now: () => START })
  const policy = policyOf([1, 60_000])
  const service = serviceOf('payments', [policy])
  const take = (consumer: string) => limiter.take(service, policy, consumer, 1).allowed
  t.ok(take('a') && take('b') && take('c'))
  t.notOk(take('a'), 'denied, and used again')
  t.ok(take('d'))
  t.equal(limiter.size(), 3)
  t.notOk(take('a'), 'still known')
  const used = async (consumer: string) => (await limiter.usage(service, policy, consumer))[0]!.used
  t.equal((await used('b')) + (await used('c')), 1, 'one of the others is forgotten')
  for (let i = 0; i < 1000; i++) limiter.take(service, policy, `one-off-${i}`, 1)
  t.equal(limiter.size(), 3)
})

t.test('drops expired counters before it is full', async (t) => {
  let now = START
  const limiter = createMemoryLimiter({ maxKeys: 1000, now: () => now })
  const policy = policyOf([1, 1000])
  const service = serviceOf('payments', [policy])
  for (let i = 0; i < 500; i++) limiter.take(service, policy, `early-${i}`, 1)
  now += 3000
  for (let i = 0; i < 400; i++) limiter.take(service, policy, `late-${i}`, 1)
  t.ok(limiter.size() <= 410, `${limiter.size()} of 900 are left`)
})

t.test('a denied request of a new consumer takes no memory', async (t) => {
  const limiter = createMemoryLimiter({ now: () => START })
  const policy = policyOf([1, 1000])
  t.notOk(limiter.take(serviceOf('payments', [policy]), policy, 'alice', 2).allowed)
  t.equal(limiter.size(), 0)
})

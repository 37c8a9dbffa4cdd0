import fc from 'fast-check'
import t from 'tap'
import { limitsOf } from '../../src/config/snapshot/limit.js'
import { policyOf } from '../../src/config/snapshot/policy.js'
import { keysOf } from '../../src/limiter/counter-keys.js'
import { consumerPart, limitKey, slotOfKey } from '../../src/limiter/key.js'

t.test('a plain id stands in the key as it is', async (t) => {
  t.equal(limitKey('payments', consumerPart('alice'), '1m'), 'rl:payments:{alice}:1m')
  t.equal(consumerPart('a'.repeat(64)), 'a'.repeat(64))
  t.equal(consumerPart('10.0.0.1'), '10.0.0.1')
})

t.test('a long id, or one with special characters, is hashed', async (t) => {
  const odd = ['', 'a'.repeat(65), 'a}b', '{a', 'a:b', '2001:db8::/64', 'a\nb', 'a\x7f', 'é', 'a\u0000', '~a']
  for (const id of odd) t.match(consumerPart(id), /^~[\w-]{22}$/, JSON.stringify(id))
  t.equal(new Set(odd.map(consumerPart)).size, odd.length)
})

t.test('no two ids share a key, not even one that looks like the hash of the other', async (t) => {
  const id = fc.oneof(fc.string(), fc.string({ unit: 'grapheme' }), fc.string().map(consumerPart))
  fc.assert(fc.property(id, id, (a, b) => (consumerPart(a) === consumerPart(b)) === (a === b)))
  fc.assert(
    fc.property(id, (a) => /^[\x20-\x7e]{1,64}$/.test(consumerPart(a)) && !/[{}:]/.test(consumerPart(a))),
  )
  t.pass()
})

t.test("a share's key has the slot of its limit, and is distinct for each consumer and tenant", async (t) => {
  const settings = {
    algorithm: 'sliding',
    amount: 10,
    window: 60_000,
    share: 0.5,
    candidate: false,
  } as const
  const parts = (by: 'tenant' | 'service') =>
    policyOf(limitsOf({ ...settings, by }), { refunds: false, candidate: undefined }).parts
  const keys = (consumer: string, tenant: string) =>
    keysOf('payments', parts('tenant'), consumer, { ip: '', tenant, route: '' })
  t.same(keys('alice', 'acme'), ['rl:payments:{acme}:tenant:share:1m:alice', 'rl:payments:{acme}:tenant:1m'])
  t.match(keys('a:b', '{x}'), [
    /^rl:payments:\{~[\w-]{22}\}:tenant:share:1m:~[\w-]{22}$/,
    /^rl:payments:\{~[\w-]{22}\}:tenant:1m$/,
  ])
  t.equal(new Set(keys('a:b', '{x}').map(slotOfKey)).size, 1)
  t.equal(
    keysOf('payments', parts('service'), 'alice', undefined)[0],
    'rl:payments:{payments}:service:share:1m:alice',
  )
})

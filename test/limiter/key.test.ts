import fc from 'fast-check'
import t from 'tap'
import { consumerPart, limitKey } from '../../src/limiter/key.js'

t.test('a plain id stands in the key as it is', async (t) => {
  t.equal(limitKey('payments', consumerPart('alice'), '1m'), 'rl:payments:{alice}:1m')
  t.equal(consumerPart('a'.repeat(64)), 'a'.repeat(64))
  t.equal(consumerPart('10.0.0.1'), '10.0.0.1')
})

t.test('an id that could break out of the key, or is long, is hashed', async (t) => {
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

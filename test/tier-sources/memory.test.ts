import fc from 'fast-check'
import t from 'tap'
import { createMemory } from '../../src/tier-sources/memory.js'

t.test('it remembers the latest value of each key, and never more keys than its size', async () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')
  const steps = fc.array(fc.record({ key, set: fc.boolean() }), { maxLength: 60 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), steps, (size, done) => {
      const memory = createMemory<number>(size)
      const latest = new Map<string, number>()
      done.forEach(({ key, set }, i) => {
        if (set) {
          memory.set(key, i)
          latest.set(key, i)
          if (memory.get(key) !== i) throw new Error('what was set is not there')
        } else {
          const value = memory.get(key)
          if (value !== undefined && value !== latest.get(key)) throw new Error('not the latest')
        }
        if (memory.size > size) throw new Error(`${memory.size} of ${size}`)
      })
    }),
  )
})

t.test('a key that was read stays, one that was not is evicted', async (t) => {
  const memory = createMemory<number>(3)
  for (const [i, key] of ['a', 'b', 'c'].entries()) memory.set(key, i)
  memory.get('a')
  memory.set('d', 3)
  t.same([memory.get('a'), memory.get('b'), memory.get('d')], [0, undefined, 3])
})

t.test('a new key evicts one even when all were read', async (t) => {
  const memory = createMemory<number>(100)
  for (let i = 0; i < 100; i++) {
    memory.set(String(i), i)
    memory.get(String(i))
  }
  memory.set('one more', -1)
  t.equal(memory.size, 100)
  t.equal(memory.get('one more'), -1)
})

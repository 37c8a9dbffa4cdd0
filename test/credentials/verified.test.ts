import fc from 'fast-check'
import t from 'tap'
import type { VerificationKey } from '../../src/credentials/keys.js'
import { createVerifiedTokens, type Entry } from '../../src/credentials/verified.js'

const keyOf = (): VerificationKey => ({ kid: undefined, algorithm: undefined, key: {} as never, gone: false })
const entryOf = (value: string, until = 100, key = keyOf()): Entry<string> => ({ value, until, key })

t.test('a token is remembered until it expires or its key is removed', async (t) => {
  const tokens = createVerifiedTokens<string>()
  const key = keyOf()
  tokens.set('a', entryOf('alice', 100, key))
  tokens.set('b', entryOf('bob', 200))
  t.equal(tokens.get('a', 99)?.value, 'alice')
  t.equal(tokens.get('b', 150)?.value, 'bob')
  t.equal(tokens.get('a', 100), undefined)
  tokens.set('a', entryOf('alice', 300, key))
  key.gone = true
  t.equal(tokens.get('a', 101), undefined)
  t.equal(tokens.get('b', 101)?.value, 'bob')
})

t.test('tokens with the same end are distinct', async (t) => {
  const tokens = createVerifiedTokens<string>()
  const [one, two] = [`a.${'s'.repeat(90)}`, `b.${'s'.repeat(90)}`] as const
  tokens.set(one, entryOf('alice'))
  t.equal(tokens.get(two, 0), undefined)
  t.equal(tokens.get(one, 0)?.value, 'alice')
  tokens.set(two, entryOf('bob'))
  t.equal(tokens.get(two, 0)?.value, 'bob')
  t.equal(tokens.get(one, 0), undefined)
})

t.test('a token in use stays, however many others come', async (t) => {
  const tokens = createVerifiedTokens<string>({ entries: 10, size: 1000 })
  tokens.set('mine', entryOf('mine'))
  for (let i = 0; i < 100; i++) {
    tokens.set(`other-${i}`, entryOf('other'))
    if (i % 3 === 0) t.equal(tokens.get('mine', 0)?.value, 'mine')
  }
  t.equal(tokens.get('other-50', 0), undefined)
})

t.test('it stays within its bounds, and never returns a wrong or expired value', async () => {
  const most = { entries: 8, size: 60 }
  const token = fc.constantFrom(
    'a',
    'bb',
    'ccc',
    'dddd',
    'eeeee',
    'ffffff',
    'ggggggg',
    'h'.repeat(20),
    'i'.repeat(40),
  )
  const step = fc.oneof(
    fc.record({ set: token, until: fc.integer({ min: 0, max: 50 }), key: fc.nat(2) }),
    fc.record({ get: token }),
    fc.record({ gone: fc.nat(2) }),
    fc.record({ pass: fc.nat(5) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const tokens = createVerifiedTokens<string>(most)
      const keys = [keyOf(), keyOf(), keyOf()]
      const all = new Map<string, Entry<string>>()
      let now = 0
      for (const one of steps) {
        if ('set' in one) {
          const entry = entryOf(one.set, one.until, keys[one.key]!)
          // It is set after a lookup in vain.
          if (tokens.get(one.set, now) !== undefined) continue
          tokens.set(one.set, entry)
          all.set(one.set, entry)
        } else if ('get' in one) {
          const found = tokens.get(one.get, now)
          if (found === undefined) continue
          if (found !== all.get(one.get) || now >= found.until || found.key.gone) return false
        } else if ('gone' in one) keys[one.gone] = Object.assign(keys[one.gone]!, { gone: true })
        else now += one.pass
        const held = [...all.keys()].filter((key) => tokens.get(key, now) !== undefined)
        const characters = held.reduce((sum, key) => sum + key.length, 0)
        if (held.length > most.entries || characters > most.size + 40) return false
      }
      return true
    }),
    { numRuns: 300 },
  )
})

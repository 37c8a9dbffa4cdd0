import fc from 'fast-check'
import t from 'tap'
import { createRecentValues } from '../../src/fleet/recent-values.js'

interface Pass {
  readonly owner: string
  readonly until?: number
}

const NEVER = { until: ({ until }: Pass) => until }

t.test('it knows what it has learned, also that there is no value', async (t) => {
  const values = createRecentValues<Pass>(NEVER, () => 0, 80)
  values.learn('a', { owner: 'alice' })
  values.learn('b', undefined)
  t.same([values.get('a'), values.get('b'), values.get('c')], [{ owner: 'alice' }, undefined, undefined])
  t.same(['a', 'b', 'c'].map(values.knows), [true, true, false])
  t.same([...values.keys()], ['a', 'b'])
  t.same([...values.entries()], [['a', { owner: 'alice' }]])
  values.put('b', { owner: 'bob' })
  values.put('c', { owner: 'carl' })
  t.equal(values.get('b')?.owner, 'bob', 'a change of a key that is held')
  t.equal(values.knows('c'), false, 'a change of another key')
  values.clear()
  t.equal(values.size, 0)
})

t.test('a key that is adopted stays longer than one that was asked for once', async (t) => {
  const values = createRecentValues<Pass>(NEVER, () => 0, 80)
  for (let i = 0; i < 40; i++) values.adopt(`a${i}`, { owner: 'alice' })
  t.equal(values.size, 40)
  for (let i = 0; i < 200; i++) values.learn(`b${i}`, undefined)
  t.ok(Array.from({ length: 40 }, (_, i) => `a${i}`).every(values.knows))
})

t.test('it keeps a key of any characters', async (t) => {
  const values = createRecentValues<Pass>({}, () => 0, 80)
  for (const key of ['ascii', 'Zoë', 'Łódź', '山', '\ud800', '']) {
    values.learn(key, { owner: key })
    t.equal(values.get(key)?.owner, key)
    t.equal([...values.keys()].at(-1), key)
  }
})

t.test('a value that has ended counts as none', async (t) => {
  const clock = { now: 1 }
  const values = createRecentValues<Pass>(NEVER, () => clock.now, 80)
  values.learn('a', { owner: 'alice', until: 2 })
  t.equal(values.get('a')?.owner, 'alice')
  clock.now = 2
  t.equal(values.get('a'), undefined)
  t.equal(values.knows('a'), true)
  t.same([...values.entries()], [])
})

t.test('a flood of new keys displaces none that was asked for again', async (t) => {
  const values = createRecentValues<Pass>({}, () => 0, 800)
  for (let i = 0; i < 700; i++) {
    values.learn(`known-${i}`, { owner: `${i}` })
    values.get(`known-${i}`)
  }
  for (let i = 0; i < 100_000; i++) values.learn(`stranger-${i}`, undefined)
  t.ok(values.size <= 800)
  let known = 0
  for (let i = 0; i < 700; i++) if (values.knows(`known-${i}`)) known++
  t.equal(known, 700)
})

t.test('when all are in use, the one that was not asked for longest goes', async (t) => {
  const values = createRecentValues<Pass>({}, () => 0, 16)
  for (let i = 0; i < 100; i++) {
    values.learn(`${i}`, { owner: 'x' })
    values.get(`${i}`)
  }
  t.equal(values.size, 16)
  t.equal(values.knows('99'), true)
  t.equal(values.knows('0'), false)
})

t.test('any sequence keeps the bound, and never gives a wrong value', async (t) => {
  const key = fc.integer({ min: 0, max: 30 }).map(String)
  const step = fc.record({ key, what: fc.constantFrom('get', 'learn', 'put'), value: fc.option(fc.nat()) })
  const property = fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
    const values = createRecentValues<{ n: number }>({}, () => 0, 8)
    const model = new Map<string, number | undefined>()
    for (const { key, what, value } of steps) {
      const wanted = value === null ? undefined : { n: value }
      if (what === 'learn') values.learn(key, wanted)
      if (what === 'put') values.put(key, wanted)
      if (what !== 'get') model.set(key, wanted?.n)
      if (values.knows(key) && values.get(key)?.n !== model.get(key)) return false
      if (values.size > 8 || [...values.keys()].length !== values.size) return false
    }
    return true
  })
  t.doesNotThrow(() => fc.assert(property))
})

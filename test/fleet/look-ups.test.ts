import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createLookUpLimits, createLookUps, type LookUpLimitOptions } from '../../src/fleet/look-ups.js'

/** Look-ups in a store that the test answers for. */
function open(limits: LookUpLimitOptions = {}, timeoutMs = 60_000) {
  const at = { now: 0 }
  const asked: string[][] = []
  const learned: [string, string | undefined][] = []
  const store = { answer: async (keys: readonly string[]): Promise<(string | undefined)[]> => [...keys] }
  const lookUps = createLookUps<string>({
    read(keys) {
      asked.push([...keys])
      return store.answer(keys)
    },
    learned: (key, value) => learned.push([key, value]),
    timeoutMs,
    limits: createLookUpLimits({ now: () => at.now, ...limits }),
    now: () => at.now,
  })
  const fails = (key: string) => t.rejects(lookUps.find(key))
  return { at, asked, learned, store, lookUps, fails }
}

t.test('look-ups of one turn share a question, and those of one key an answer', async (t) => {
  const { asked, learned, store, lookUps } = open()
  store.answer = async (keys) => keys.map((key) => (key === 'b' ? undefined : key.toUpperCase()))
  const answers = Promise.all(['a', 'b', 'a'].map(lookUps.find))
  t.same(await answers, ['A', undefined, 'A'])
  t.same(asked, [['a', 'b']])
  t.same(learned, [
    ['a', 'A'],
    ['b', undefined],
  ])
  t.match(lookUps.counts, { found: 1, none: 1, failed: 0, refused: 0 })
  await Promise.all(Array.from({ length: 1200 }, (_, i) => lookUps.find(`${i}`)))
  t.same(
    asked.slice(1).map(({ length }) => length),
    [500, 500, 200],
    'a question has a bounded number of keys',
  )
})

t.test('an answer is not held if its key has changed meanwhile', async (t) => {
  const { learned, lookUps } = open()
  const answer = lookUps.find('a')
  lookUps.changed('a')
  lookUps.changed('b')
  t.equal(await answer, 'a')
  t.same(learned, [])
  await lookUps.find('a')
  t.equal(learned.length, 1, 'the next one is')
})

t.test('look-ups are bounded, at once and by the second', async (t) => {
  const { at, lookUps, fails } = open({ atOnce: 2, perSecond: 4 })
  const two = [lookUps.find('a'), lookUps.find('b')]
  await fails('c')
  t.equal(lookUps.find('a'), two[0], 'the same key is no other look-up')
  await Promise.all(two)
  await lookUps.find('c')
  await lookUps.find('d')
  await fails('e')
  at.now = 250
  await lookUps.find('e')
  await fails('f')
  t.match(lookUps.counts, { found: 5, refused: 3 })
})

t.test(
  'while the store is away look-ups fail at once; one at a time finds out when it is back',
  async (t) => {
    const { at, asked, store, lookUps, fails } = open()
    store.answer = () => Promise.reject(new Error('away'))
    for (const key of ['a', 'b', 'c']) await fails(key)
    t.equal(asked.length, 3)
    await fails('d')
    t.equal(asked.length, 3, 'nothing is asked')
    at.now = 500
    const probe = fails('d')
    await fails('e')
    await probe
    t.same(asked.slice(3), [['d']])
    at.now = 1000
    store.answer = async (keys) => [...keys]
    t.equal(await lookUps.find('d'), 'd')
    t.same(await Promise.all([lookUps.find('e'), lookUps.find('f')]), ['e', 'f'])
  },
)

t.test('a look-up gives up in time, and a late answer is not held', async (t) => {
  const { learned, store, lookUps, fails } = open({}, 10)
  let late = (_: (string | undefined)[]) => {}
  store.answer = () =>
    new Promise((resolve) => {
      late = resolve
    })
  await fails('a')
  late(['a'])
  await delay(1)
  t.same(learned, [])
  t.equal(lookUps.counts.failed, 1)
})

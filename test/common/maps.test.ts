import t from 'tap'
import { getOrAdd, groupBy, omitUndefined } from '../../src/common/maps.js'

t.test('a missing value is made once, from its key', async (t) => {
  const map = new Map<string, number[]>()
  let made = 0
  const make = (key: string) => [++made, key.length]
  t.strictSame(getOrAdd(map, 'abc', make), [1, 3])
  t.equal(getOrAdd(map, 'abc', make), map.get('abc'))
  t.equal(made, 1)
})

t.test('values are grouped in their order', async (t) => {
  const groups = groupBy([3, 1, 4, 1, 5, 9], (value) => value % 2 === 0)
  t.strictSame(
    [...groups],
    [
      [false, [3, 1, 1, 5, 9]],
      [true, [4]],
    ],
  )
})

t.test('what is undefined is left out, in the order of the others', async (t) => {
  t.strictSame(Object.entries(omitUndefined({ a: undefined, c: null, b: 0 })), [
    ['c', null],
    ['b', 0],
  ])
})

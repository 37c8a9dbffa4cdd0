import t from 'tap'
import { createCopySize } from '../../src/fleet/copy-size.js'

/** A size with a count that the test sets. */
function open() {
  const at = { now: 0, count: 0, counted: 0 }
  const count = async () => {
    at.counted++
    return at.count
  }
  return { at, size: createCopySize({ count, most: 100, least: 80, now: () => at.now }) }
}

t.test('a map is held as a whole up to its bound, and again from the lower bound down', async (t) => {
  const { at, size } = open()
  at.count = 100
  t.equal(await size.isWhole(0, true), true)
  at.count = 101
  at.now += 1000
  t.equal(await size.isWhole(0, true), false)
  for (const [count, whole] of [
    [81, false],
    [80, true],
    [100, true],
    [101, false],
  ] as const) {
    at.count = count
    at.now += 300_000
    t.equal(await size.isWhole(101, true), whole, `${count}`)
  }
})

t.test('it counts before a load, when too much is held, and every five minutes of a large map', async (t) => {
  const { at, size } = open()
  at.count = 50
  await size.isWhole(0, true)
  t.equal(size.isWhole(100, false), true)
  t.equal(at.counted, 1)
  at.count = 101
  t.equal(size.isWhole(101, false), true, 'at most once a second')
  at.now = 1000
  t.same(await Promise.all([size.isWhole(101, false), size.isWhole(101, false)]), [false, false])
  t.equal(at.counted, 2, 'shards share a count')
  at.now = 300_999
  t.equal(size.isWhole(0, true), false)
  at.now = 301_000
  t.equal(await size.isWhole(0, false), false)
  t.equal(at.counted, 3)
})

t.test('a count that fails is made again', async (t) => {
  let fails = true
  const count = async () => {
    if (fails) throw new Error('the store is away')
    return 1
  }
  const size = createCopySize({ count, most: 0 })
  await t.rejects(async () => size.isWhole(0, true))
  fails = false
  t.equal(await size.isWhole(0, true), false)
})

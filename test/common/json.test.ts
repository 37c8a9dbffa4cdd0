import t from 'tap'
import { fieldsOf, isCount, isTime, parseJson } from '../../src/common/json.js'

t.test('whatever comes from outside is read without an exception', async (t) => {
  t.strictSame(parseJson('{"a":1}'), { a: 1 })
  t.equal(parseJson('{'), undefined)
  t.equal(parseJson('null'), null)
  for (const value of [null, undefined, 'text', 1]) t.strictSame(fieldsOf(value), {})
  t.equal(fieldsOf({ a: 1 }).a, 1)
})

t.test('counts are whole and exact, and a time can be shown', async (t) => {
  t.ok([0, 1, Number.MAX_SAFE_INTEGER].every(isCount))
  t.notOk([-1, 0.5, 2 ** 53, Number.NaN, '1', null].some(isCount))
  t.ok(isTime(8.64e15) && new Date(8.64e15).toISOString() !== '')
  t.notOk(isTime(8.64e15 + 1))
})

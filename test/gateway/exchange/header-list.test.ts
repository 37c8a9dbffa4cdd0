import t from 'tap'
import {
  fieldOf,
  joinedField,
  onlyField,
  placeOf,
  removeField,
  sentField,
} from '../../../src/gateway/exchange/header-list.js'

const SENT = ['Accept', 'a', 'X-Twice', ' one ', 'accept', 'b', 'x-twice', 'two', 'X-Once', '1']

t.test('a name is found in any case, and never in the place of a value', async (t) => {
  t.equal(sentField(SENT, 'accept'), 'a')
  t.equal(sentField(SENT, 'x-once'), '1')
  t.equal(sentField(['X-A', 'accept'], 'accept'), undefined)
  t.equal(sentField([], 'accept'), undefined)
})

t.test('onlyField returns nothing for a repeated field', async (t) => {
  t.equal(onlyField(SENT, 'x-once'), '1')
  t.equal(onlyField(SENT, 'x-twice'), undefined)
  t.equal(onlyField(SENT, 'x-never'), undefined)
  t.equal(onlyField([...SENT, 'X-Other', '1', 'x-once', '1'], 'x-once'), undefined)
})

t.test('joinedField joins repeated fields, without surrounding blanks', async (t) => {
  t.equal(joinedField(SENT, 'x-twice'), 'one, two')
  t.equal(joinedField(['X-Empty', ''], 'x-empty'), '')
  t.equal(joinedField(SENT, 'x-never'), undefined)
})

t.test('removeField removes all fields of a name, and keeps the order of the others', async (t) => {
  const list = [...SENT]
  removeField(list, 'accept')
  t.same(list, ['X-Twice', ' one ', 'x-twice', 'two', 'X-Once', '1'])
  removeField(list, 'x-twice')
  removeField(list, 'x-never')
  t.same(list, ['X-Once', '1'])
})

t.test('a list with lower-case names is searched as it is', async (t) => {
  const list = ['x-a', '1', 'x-b', 'x-a', 'x-a', '2']
  t.equal(placeOf(list, 'x-a'), 0)
  t.equal(placeOf(list, 'x-b'), 2)
  t.equal(placeOf(list, '1'), -1)
  t.equal(fieldOf(list, 'x-b'), 'x-a')
  t.equal(fieldOf(list, 'x-c'), undefined)
})

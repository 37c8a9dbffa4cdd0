import t from 'tap'
import { createChangeNumbers } from '../../src/fleet/change-numbers.js'

t.test('changes that arrive in order move the version, and one that is missing does not', async (t) => {
  const numbers = createChangeNumbers()
  numbers.restart(4)
  t.equal(numbers.take(5, 'a', '1'), true)
  t.equal(numbers.version, 5)
  t.equal(numbers.take(7, 'b', '1'), true, 'its value is held at once')
  t.equal(numbers.version, 5, 'a poll has to read what is missing')
  t.equal(numbers.take(5, 'a', '1'), false, 'the same message again')
  t.equal(numbers.loadAnew, true, 'true from the start')
  t.same(numbers.newerThan(5), [['b', 7]])
  t.same([numbers.isNewer('b', 6), numbers.isNewer('b', 7), numbers.isNewer('a', 5)], [true, false, false])
})

t.test('two changes with one number: everything is loaded again, and neither key is proven', async (t) => {
  const numbers = createChangeNumbers()
  numbers.restart(1)
  numbers.loadAnew = false
  numbers.take(2, 'a', '1')
  t.equal(numbers.take(2, 'b', '1'), false)
  t.equal(numbers.loadAnew, true)
  numbers.reached(1000)
  t.same(['a', 'b', 'c'].map(numbers.isUnproven), [true, true, false])
  t.same(numbers.beginPoll(), [[2, 'b']])
  t.same(numbers.beginPoll(), [])
})

t.test(
  'a message is believed once the store reaches its number, or when the connection is lost',
  async (t) => {
    const numbers = createChangeNumbers()
    numbers.restart(1)
    numbers.proven = 1
    numbers.take(2, 'a', '1')
    numbers.take(3, 'b', '1')
    numbers.reached(2)
    t.same(['a', 'b'].map(numbers.isUnproven), [false, true])
    numbers.believe()
    t.equal(numbers.proven, 3)
    t.equal(numbers.isUnproven('b'), false)
  },
)

t.test('a message during a load took a number that the store gives to another change', async (t) => {
  const numbers = createChangeNumbers()
  numbers.restart(0)
  numbers.proven = 0
  numbers.loadAnew = false
  numbers.take(1, 'eve', 'x')
  numbers.restart(0, numbers.newerThan(0))
  t.equal(numbers.take(1, 'a', 'y'), true)
  t.equal(numbers.loadAnew, true, 'or eve would stay until the next full load')
  t.same(['a', 'eve'].map(numbers.isUnproven), [true, true])
})

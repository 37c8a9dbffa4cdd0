import fc from 'fast-check'
import t from 'tap'
import { createWaitQueue, type Waiting } from '../../src/upstream/wait-queue.js'
import { eventually } from '../support/eventually.js'

/** A queue for places, some of which suit only some of those who wait. */
function queueOf(suits: (request: string, place: number) => boolean = () => true) {
  const clock = { now: 0 }
  const free: number[] = []
  const went: string[] = []
  const expired: string[] = []
  const queue = createWaitQueue<string, number>({
    find: (request) => free.find((place) => suits(request, place)),
    go(request, place) {
      free.splice(free.indexOf(place), 1)
      went.push(request)
    },
    expired: (request) => void expired.push(request),
    now: () => clock.now,
  })
  t.teardown(() => queue.close())
  return { queue, clock, free, went, expired }
}

t.test('who came first goes first, as many as there is room for', async (t) => {
  const { queue, free, went } = queueOf()
  for (const name of ['a', 'b', 'c', 'd']) queue.push(name, 1_000)
  free.push(1, 2, 3)
  queue.wake(1)
  t.strictSame(went, ['a'])
  queue.wake()
  t.strictSame(went, ['a', 'b', 'c'])
  t.equal(queue.length, 1)
})

t.test('one that has left is not called', async (t) => {
  const { queue, free, went } = queueOf()
  const places = ['a', 'b', 'c'].map((name) => queue.push(name, 1_000))
  queue.remove(places[1]!)
  queue.remove(places[1]!)
  t.equal(queue.length, 2)
  free.push(1, 2, 3)
  queue.wake()
  queue.remove(places[0]!)
  t.strictSame(went, ['a', 'c'])
  t.equal(queue.length, 0)
})

t.test('one in front for whom nothing is free does not stop those behind it', async (t) => {
  const { queue, free, went } = queueOf((request) => request !== 'stuck')
  queue.push('stuck', 1_000)
  queue.push('a', 1_000)
  free.push(1)
  queue.wake(1)
  t.strictSame(went, ['a'])
  t.equal(queue.length, 1)
})

t.test('those who have waited long enough are told so, in order', async (t) => {
  const { queue, clock, expired, went, free } = queueOf()
  queue.push('a', 5)
  queue.push('b', 6)
  queue.push('c', 60_000)
  clock.now = 10
  await eventually('two are told', () => expired.length === 2)
  t.strictSame(expired, ['a', 'b'])
  free.push(1)
  queue.wake()
  t.strictSame(went, ['c'])
})

t.test('whatever comes, leaves and is called: the order holds and nobody is lost', async (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('push' as const) }),
    fc.record({ kind: fc.constant('leave' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('wake' as const), places: fc.integer({ min: 0, max: 3 }) }),
  )
  let calls = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 60 }), (steps) => {
      const { queue, free, went } = queueOf()
      let expected: string[] = []
      const places = new Map<string, Waiting<string>>()
      let count = 0
      for (const one of steps) {
        if (one.kind === 'push') {
          const name = String(count++)
          expected.push(name)
          places.set(name, queue.push(name, 1_000_000))
        } else if (one.kind === 'leave') {
          const name = expected[one.which % Math.max(1, expected.length)]
          if (name === undefined) continue
          queue.remove(places.get(name)!)
          expected = expected.filter((other) => other !== name)
        } else {
          went.length = 0
          free.length = 0
          for (let i = 0; i < one.places; i++) free.push(i)
          queue.wake()
          const due = expected.splice(0, one.places)
          calls += due.length
          if (went.join() !== due.join()) throw new Error(`${went.join()} instead of ${due.join()}`)
        }
        if (queue.length !== expected.length) throw new Error('one was lost')
      }
      queue.close()
    }),
  )
  t.ok(calls > 100)
})

import fc from 'fast-check'
import t from 'tap'
import { createWaitQueue, type Waiting } from '../../../src/upstream/pool/wait-queue.js'
import { eventually } from '../../support/eventually.js'

/** Makes a queue for places, some of which suit only some of the requests. */
function queueOf(
  suits: (request: string, place: number) => boolean = () => true,
  isOver: (request: string) => boolean = () => false,
) {
  const clock = { now: 0 }
  const free: number[] = []
  const went: string[] = []
  const expired: string[] = []
  const queue = createWaitQueue<string, { place: number }>({
    find(request) {
      if (isOver(request)) return 'over_share'
      const place = free.find((one) => suits(request, one))
      return place === undefined ? 'nothing' : { place }
    },
    go(request, { place }) {
      free.splice(free.indexOf(place), 1)
      went.push(request)
    },
    expired: (request) => void expired.push(request),
    now: () => clock.now,
  })
  t.teardown(() => queue.close())
  const push = (request: string, until = 1_000, caller = 'one', most = 1_000) =>
    queue.push(request, until, caller, most)
  return { queue, push, clock, free, went, expired }
}

t.test('requests go first come, first served, as many as there is room for', async (t) => {
  const { queue, push, free, went } = queueOf()
  for (const name of ['a', 'b', 'c', 'd']) push(name)
  free.push(1, 2, 3)
  queue.wake(1)
  t.strictSame(went, ['a'])
  queue.wake()
  t.strictSame(went, ['a', 'b', 'c'])
  t.equal(queue.length, 1)
})

t.test('a request that has left is not called', async (t) => {
  const { queue, push, free, went } = queueOf()
  const places = ['a', 'b', 'c'].map((name) => push(name)!)
  queue.remove(places[1]!)
  queue.remove(places[1]!)
  t.equal(queue.length, 2)
  free.push(1, 2, 3)
  queue.wake()
  queue.remove(places[0]!)
  t.strictSame(went, ['a', 'c'])
  t.equal(queue.length, 0)
})

t.test('a request that no free place suits does not block those behind it', async (t) => {
  const { queue, push, free, went } = queueOf((request) => request !== 'stuck')
  push('stuck')
  push('a')
  free.push(1)
  queue.wake(1)
  t.strictSame(went, ['a'])
  t.equal(queue.length, 1)
})

t.test('requests that have waited long enough expire in order', async (t) => {
  const { queue, push, clock, expired, went, free } = queueOf()
  push('a', 5)
  push('b', 6)
  push('c', 60_000)
  clock.now = 10
  await eventually('two are told', () => expired.length === 2)
  t.strictSame(expired, ['a', 'b'])
  free.push(1)
  queue.wake()
  t.strictSame(went, ['c'])
})

t.test('in any sequence the order holds and no request is lost', async (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('push' as const) }),
    fc.record({ kind: fc.constant('leave' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('wake' as const), places: fc.integer({ min: 0, max: 3 }) }),
  )
  let calls = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 60 }), (steps) => {
      const { queue, push, free, went } = queueOf()
      let expected: string[] = []
      const places = new Map<string, Waiting<string>>()
      let count = 0
      for (const one of steps) {
        if (one.kind === 'push') {
          const name = String(count++)
          expected.push(name)
          places.set(name, push(name, 1_000_000)!)
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

t.test('callers take turns, however many requests of one wait', async (t) => {
  const { queue, push, free, went } = queueOf()
  for (const name of ['a1', 'a2', 'a3', 'a4', 'a5']) push(name, 1_000, 'a')
  push('b1', 1_000, 'b')
  t.ok(queue.othersWait('a'))
  push('c1', 1_000, 'c')
  push('b2', 1_000, 'b')
  for (let i = 0; i < 8; i++) free.push(i)
  queue.wake(1)
  queue.wake()
  t.strictSame(went, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4', 'a5'])
})

t.test('othersWait counts only requests of other callers', async (t) => {
  const { queue, push } = queueOf()
  t.notOk(queue.othersWait('a'))
  const only = push('a1', 1_000, 'a')!
  t.notOk(queue.othersWait('a'))
  t.ok(queue.othersWait('b'))
  t.ok(queue.othersWait(undefined))
  queue.remove(only)
  t.notOk(queue.othersWait('b'))
})

t.test('a caller at its share is passed over, and keeps its turn', async (t) => {
  const over = new Set(['a'])
  const { queue, push, free, went } = queueOf(undefined, (request) => over.has(request[0]!))
  for (let i = 0; i < 20; i++) push(`a${i}`, 1_000, 'a')
  push('b1', 1_000, 'b')
  push('b2', 1_000, 'b')
  free.push(1, 2)
  queue.wake(1)
  over.clear()
  queue.wake(1)
  t.strictSame(went, ['b1', 'a0'])
})

t.test('one caller leaves room in the queue for others', async (t) => {
  const { queue, push } = queueOf()
  const fill = (caller: string) => {
    let count = 0
    while (push(`${caller}${count}`, 1_000, caller, 80) !== undefined) count++
    return count
  }
  t.strictSame([fill('a'), fill('b'), fill('c')], [70, 9, 1])
  t.equal(push('d', 1_000, 'd', 80), undefined, 'until it is full')
  t.equal(queue.length, 80)
  const { push: few } = queueOf()
  t.ok(few('1', 1_000, 'a', 2) && few('2', 1_000, 'a', 2), 'one caller may have all of a few places')
  t.notOk(few('3', 1_000, 'a', 2))
})

t.test('a waiting caller gets its turn after at most one request of each other caller', async (t) => {
  const step = fc.record({ caller: fc.constantFrom('a', 'b', 'c', 'd'), goes: fc.nat({ max: 2 }) })
  let runs = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
      const { queue, push, free, went } = queueOf()
      const waits: Record<string, number> = { a: 0, b: 0, c: 0, d: 0 }
      /** By caller: how many of others went since its last turn, while it waited. */
      const passed: Record<string, number> = { a: 0, b: 0, c: 0, d: 0 }
      runs++
      for (const [i, { caller, goes }] of steps.entries()) {
        push(`${caller}${i}`, 1_000, caller)
        waits[caller]!++
        went.length = 0
        for (let n = 0; n < goes; n++) free.push(n)
        queue.wake()
        free.length = 0
        for (const name of went) {
          const whose = name[0]!
          for (const other of Object.keys(waits)) {
            if (other !== whose && waits[other]! > 0 && ++passed[other]! > 3)
              throw new Error(`${other} waits`)
          }
          waits[whose]!--
          passed[whose] = 0
        }
      }
      queue.close()
    }),
  )
  t.ok(runs > 0)
})

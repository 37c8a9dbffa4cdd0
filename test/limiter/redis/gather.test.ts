import t from 'tap'
import { createGathering } from '../../../src/limiter/redis/gather.js'
import { eventually } from '../../support/eventually.js'

const turn = () => new Promise(setImmediate)

/** Opens a gathering on a clock that the test moves, and notes what is sent. */
function open(gatherMs: number | 'auto', most = 64) {
  let waiting = 0
  const clock = { now: 1000 }
  const sent: { count: number; since: number; at: number }[] = []
  const gathering = createGathering({
    gatherMs,
    most,
    waiting: () => waiting,
    send(since) {
      sent.push({ count: waiting, since, at: clock.now })
      waiting = 0
    },
    now: () => clock.now,
  })
  return {
    clock,
    sent,
    gathering,
    add(count = 1) {
      waiting += count
      gathering.added()
    },
    /** Sends requests, each `ms` after the one before, in a turn of its own. */
    async come(requests: number, ms: number) {
      for (let i = 0; i < requests; i++) {
        clock.now += ms
        waiting++
        gathering.added()
        await turn()
      }
    },
  }
}

t.test('without gathering, what comes in one turn is sent at its end', async (t) => {
  for (const gatherMs of [0, 'auto'] as const) {
    const { add, sent } = open(gatherMs)
    add()
    add(2)
    t.same(sent, [])
    await turn()
    t.same(sent, [{ count: 3, since: 1000, at: 1000 }], String(gatherMs))
  }
})

t.test('a fixed time is waited, unless the call is full before', async (t) => {
  const { add, sent, gathering } = open(20, 4)
  add()
  await turn()
  t.same(sent, [])
  await eventually('it is sent', () => sent.length === 1)
  t.same(sent, [{ count: 1, since: 980, at: 1000 }], 'as long as its time may have been')
  add(3)
  await turn()
  add()
  await turn()
  t.match(sent[1], { count: 4 })
  add()
  gathering.flush()
  t.match(sent[2], { count: 1 })
  await turn()
  t.equal(sent.length, 3)
})

t.test('auto: requests a few milliseconds apart never wait', async (t) => {
  const { come, sent } = open('auto')
  await come(500, 3)
  t.equal(sent.length, 500)
  t.ok(sent.every(({ since, at }) => since === at))
})

t.test('auto: requests that come fast share calls, and wait half a millisecond at most', async (t) => {
  const { come, sent } = open('auto')
  await come(2000, 0.2)
  const before = sent.length
  await come(1000, 0.2)
  const calls = sent.length - before
  t.ok(calls < 500, `${calls} calls for 1000 requests`)
  t.ok(sent.every(({ since, at }) => at - since <= 0.6))
})

t.test('auto: enough in one turn are sent at once, and no more than a call holds', async (t) => {
  const { add, sent, come } = open('auto')
  await come(2000, 0.2)
  sent.length = 0
  for (let i = 0; i < 100; i++) {
    add(5)
    await turn()
  }
  t.same([...new Set(sent.slice(1).map(({ count }) => count))], [5])
  const single = open('auto', 1)
  await single.come(500, 0.1)
  t.equal(single.sent.length, 500, 'batch: 1')
})

t.test('auto: a client that waits for each answer is held up once in a while only', async (t) => {
  const { clock, add, sent } = open('auto')
  let held = 0
  for (let i = 1; i <= 1000; i++) {
    clock.now += 0.1
    add()
    await turn()
    if (sent.length < i) held++
    while (sent.length < i) {
      clock.now += 0.1
      await turn()
    }
  }
  t.ok(held > 0 && held < 60, `${held} of 1000`)
  t.ok(sent.every(({ count }) => count === 1))
})

t.test('auto: a stall of our own event loop takes no time from the store', async (t) => {
  const { clock, come, add, sent } = open('auto')
  await come(2000, 0.2)
  for (let before = sent.length; sent.length === before; ) {
    add()
    await turn()
  }
  const before = sent.length
  add()
  await turn()
  t.equal(sent.length, before, 'it is held')
  clock.now += 300
  await turn()
  t.same(sent.at(-1), { count: 1, since: clock.now - 1, at: clock.now })
})

t.test('auto: what is held is sent by a timer where nothing else happens, and by flush', async (t) => {
  const { come, sent, add, gathering } = open('auto')
  await come(2000, 0.2)
  gathering.flush()
  sent.length = 0
  add()
  await eventually('it is sent', () => sent.length === 1)
  add()
  gathering.flush()
  t.equal(sent.length, 2)
  await turn()
  t.equal(sent.length, 2)
})

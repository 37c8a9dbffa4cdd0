import fc from 'fast-check'
import t from 'tap'
import { createSeenNonces } from '../../src/credentials/seen-nonces.js'

t.test('a nonce is new once for each key', async (t) => {
  const nonces = createSeenNonces()
  const isNew = (keyid: string, nonce: string) => nonces.isNew(keyid, nonce, 1000, 100, 0)
  t.ok(isNew('a', 'n'))
  t.notOk(isNew('a', 'n'))
  t.ok(isNew('b', 'n'))
  t.ok(isNew('a', ' n'))
  t.ok(isNew('a ', 'n'))
})

t.test('within the window no nonce passes twice, whatever the order', async (t) => {
  const step = fc.record({ nonce: fc.integer({ min: 0, max: 20 }), wait: fc.integer({ min: 0, max: 700 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const nonces = createSeenNonces()
      const accepted = new Map<number, number>()
      let now = 5_000
      for (const { nonce, wait } of steps) {
        now += wait
        const before = accepted.get(nonce)
        const known = nonces.has('k', String(nonce), 1000, now)
        const isNew = nonces.isNew('k', String(nonce), 1000, 1000, now)
        t.equal(isNew, !known, 'a look says what would be, and changes nothing')
        if (before === undefined) t.ok(isNew)
        else if (now - before < 1000) t.notOk(isNew)
        else if (now - before >= 3000) t.ok(isNew, 'it is not remembered for ever')
        if (isNew) accepted.set(nonce, now)
      }
    }),
  )
})

t.test('a nonce is forgotten after its time, even if no other comes', async (t) => {
  const nonces = createSeenNonces()
  const isNew = (now: number) => nonces.isNew('k', 'n', 1000, 1000, now)
  t.ok(isNew(5000))
  for (const now of [5700, 6400, 7100, 7399]) t.notOk(isNew(now), `${now}`)
  t.ok(isNew(8000))
})

t.test('above the maximum the oldest nonces are forgotten, not the latest', async (t) => {
  const nonces = createSeenNonces()
  const isNew = (i: number) => nonces.isNew('k', String(i), 1_000_000, 100, 0)
  for (let i = 0; i < 1000; i++) t.ok(isNew(i))
  for (let i = 999; i > 950; i--) t.notOk(isNew(i))
  t.ok(isNew(1))
})

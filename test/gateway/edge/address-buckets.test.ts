import fc from 'fast-check'
import t from 'tap'
import { createAddressBuckets } from '../../../src/gateway/edge/address-buckets.js'
import { readAddress } from '../../../src/net/parse-cidr.js'

const words = new Uint32Array(4)
/** Ten a second, 20 at once. */
const RATE = { each: 100, burst: 20 }

function asks(buckets: ReturnType<typeof createAddressBuckets>, address: string, now: number): number {
  const family = readAddress(address, words)
  if (family === 0) throw new Error(address)
  return buckets.take(family, words, RATE, now)
}

t.test('the burst passes at once, then one request for each step of the rate', async (t) => {
  const buckets = createAddressBuckets(1024)
  for (let i = 0; i < 20; i++) t.equal(asks(buckets, '203.0.113.7', 1000), 0)
  t.equal(asks(buckets, '203.0.113.7', 1000), 100)
  t.equal(asks(buckets, '203.0.113.7', 1060), 40)
  t.equal(asks(buckets, '203.0.113.7', 1100), 0)
  t.equal(asks(buckets, '203.0.113.7', 1100), 100)
  t.equal(asks(buckets, '203.0.113.8', 1100), 0, 'another address has a bucket of its own')
  t.equal(asks(buckets, '::ffff:203.0.113.7', 1100), 100, 'in IPv6 it is the same address')
  for (let i = 0; i < 20; i++) t.equal(asks(buckets, '203.0.113.7', 10_000), 0, 'full again')
  t.ok(asks(buckets, '203.0.113.7', 10_000) > 0)
})

t.test('a /64 is one client, whichever of its addresses it uses', async (t) => {
  const buckets = createAddressBuckets(1024)
  const passed = Array.from({ length: 200 }, (_, i) => asks(buckets, `2001:db8::${i.toString(16)}`, 1000))
  t.equal(passed.filter((wait) => wait === 0).length, 20)
  t.equal(asks(buckets, '2001:db8:0:1::', 1000), 0)
})

t.test('with enough room it decides as one bucket for each address would', async () => {
  const step = fc.record({ who: fc.nat(9), after: fc.nat(300) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const buckets = createAddressBuckets(4096)
      const model = new Map<number, { tokens: number; at: number }>()
      let now = 1000
      for (const { who, after } of steps) {
        now += after
        const known = model.get(who) ?? { tokens: 20, at: now }
        const tokens = Math.min(20, known.tokens + (now - known.at) / 100)
        const passes = tokens >= 1 - 1e-6
        model.set(who, { tokens: passes ? tokens - 1 : tokens, at: now })
        if ((asks(buckets, `203.0.113.${who}`, now) === 0) !== passes) return false
      }
      return true
    }),
    { numRuns: 200 },
  )
})

t.test('a flood from all of IPv6 neither grows it nor gives a client a fresh bucket', async (t) => {
  const buckets = createAddressBuckets(1024, 7)
  const { bytes } = buckets
  t.equal(bytes, 1024 * 16)
  let passed = 0
  let others = 0
  for (let i = 0; i < 200_000; i++) {
    const now = 1000 + i / 100
    const [high, low] = [(i >>> 8).toString(16), (i & 255).toString(16)]
    if (asks(buckets, `2001:db8:${high}:${low}::1`, now) === 0) others++
    if (i % 10 === 0 && asks(buckets, '198.51.100.66', now) === 0) passed++
  }
  t.equal(buckets.bytes, bytes)
  // 2 s at ten a second, and the burst.
  t.ok(passed >= 39 && passed <= 40, `${passed} passed`)
  t.equal(others, 200_000, 'a client that comes once is not affected')
})

t.test('draining every bucket costs about as many requests as the addresses may send anyway', async (t) => {
  // Each address is drained in turn: about as many requests pass as that many addresses may send.
  const buckets = createAddressBuckets(1024, 7)
  let passed = 0
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 1024; i++) {
      if (asks(buckets, `10.0.${i >> 8}.${i & 255}`, 1000) === 0) passed++
    }
  }
  t.ok(passed >= 20 * 1024 * 0.9, `${passed}`)
  t.ok(passed <= 20 * 1024 * 1.5, `${passed}`)
})

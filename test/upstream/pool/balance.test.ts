// Tests src/common/rendezvous.ts
import fc from 'fast-check'
import t from 'tap'
import { hashing, leastRequests, roundRobin } from '../../../src/upstream/pool/balance.js'

const weightsOf = (...weights: number[]) => Float64Array.from(weights)
const counted = (count: number, choose: () => number, upstreams: number): number[] => {
  const hits = new Array<number>(upstreams).fill(0)
  for (let i = 0; i < count; i++) hits[choose()]! += 1
  return hits
}
/** Returns a pseudo-random generator, the same in every run. */
function seeded(seed = 1): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 0x1_0000_0000
  }
}

t.test('round robin gives each upstream its weight in every round, and mixes them', async (t) => {
  const balancer = roundRobin(3)
  const weights = weightsOf(5, 1, 1)
  const order = Array.from({ length: 7 }, () => balancer.choose(weights, undefined))
  t.strictSame(order, [0, 0, 1, 0, 2, 0, 0], 'as nginx does')
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 8 }), (list) => {
      const fair = roundRobin(list.length)
      const total = list.reduce((sum, weight) => sum + weight, 0)
      const hits = counted(total * 3, () => fair.choose(weightsOf(...list), undefined), list.length)
      t.strictSame(
        hits,
        list.map((weight) => weight * 3),
      )
    }),
    { numRuns: 50 },
  )
})

t.test('no algorithm chooses an upstream of weight 0', async (t) => {
  const weights = fc
    .array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 10 })
    .filter((list) => list.some((weight) => weight > 0))
  const random = seeded()
  let chosen = 0
  fc.assert(
    fc.property(fc.array(weights, { minLength: 1, maxLength: 5 }), fc.string(), (rounds, key) => {
      const count = Math.max(...rounds.map((list) => list.length))
      const addresses = Array.from({ length: count }, (_, i) => `http://10.0.0.${i}`)
      for (const balancer of [roundRobin(count), leastRequests((i) => i, random), hashing(addresses)]) {
        for (const list of rounds) {
          const padded = weightsOf(...list, ...new Array<number>(count - list.length).fill(0))
          const index = balancer.choose(padded, key)
          if (!(padded[index]! > 0)) throw new Error(`chose ${index} of ${list.join()}`)
          chosen++
        }
      }
    }),
  )
  t.ok(chosen > 100)
})

t.test('least requests', async (t) => {
  t.test('spreads by weight when nothing is in flight', async (t) => {
    const balancer = leastRequests(() => 0, seeded())
    const [light, heavy] = counted(8_000, () => balancer.choose(weightsOf(1, 3), undefined), 2)
    t.ok(Math.abs(heavy! / light! - 3) < 0.4, `${light} and ${heavy}`)
  })

  t.test('keeps requests off an upstream that hangs', async (t) => {
    const load = [0, 0, 0, 0]
    const random = seeded()
    const balancer = leastRequests((i) => load[i]!, random)
    // The last upstream never finishes a request, the others do at once.
    for (let i = 0; i < 400; i++) {
      const index = balancer.choose(weightsOf(1, 1, 1, 1), undefined)
      if (index === 3) load[3]! += 1
    }
    t.ok(load[3]! <= 2, `${load[3]} at the one that hangs, instead of the 100 of round robin`)
  })

  t.test('compares requests in flight by weight', async (t) => {
    const load = [4, 6]
    const balancer = leastRequests((i) => load[i]!, seeded())
    const hits = counted(200, () => balancer.choose(weightsOf(1, 3), undefined), 2)
    t.strictSame(hits, [0, 200], '6 of weight 3 is less than 4 of weight 1')
  })
})

const KEYS = Array.from({ length: 2_000 }, (_, i) => `user-${i}`)
const addressesOf = (count: number) => Array.from({ length: count }, (_, i) => `http://10.0.0.${i}:9001`)
const ownersOf = (addresses: readonly string[], weights: readonly number[]) => {
  const balancer = hashing(addresses)
  const list = weightsOf(...weights)
  return KEYS.map((key) => addresses[balancer.choose(list, key)])
}

t.test('hashing', async (t) => {
  t.test('gives each upstream its weight of the keys', async (t) => {
    for (const weights of [
      [1, 1, 1, 1],
      [1, 2, 3, 4],
      [10, 1],
    ]) {
      const addresses = addressesOf(weights.length)
      const owners = ownersOf(addresses, weights)
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (const [i, address] of addresses.entries()) {
        const share = owners.filter((owner) => owner === address).length / KEYS.length
        const due = weights[i]! / total
        t.ok(Math.abs(share - due) < 0.05, `${share} for ${due}`)
      }
    }
  })

  t.test('moves exactly the keys of a removed upstream, wherever it stood in the list', async (t) => {
    let moves = 0
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 8 }),
        fc.nat(),
        fc.boolean(),
        (weights, which, leaves) => {
          const addresses = addressesOf(weights.length)
          const gone = which % weights.length
          const before = ownersOf(addresses, weights)
          // Removing it from the configuration and passing over it have the same effect.
          const after = leaves
            ? ownersOf(addresses.toSpliced(gone, 1), weights.toSpliced(gone, 1))
            : ownersOf(addresses, weights.with(gone, 0))
          for (const [i, owner] of before.entries()) {
            if (owner === addresses[gone]) {
              moves++
              if (after[i] === owner) throw new Error('a key stayed with the one that is gone')
            } else if (after[i] !== owner) throw new Error('a key of another one moved')
          }
          const due = weights[gone]! / weights.reduce((sum, weight) => sum + weight, 0)
          const share = before.filter((owner) => owner === addresses[gone]).length / KEYS.length
          if (Math.abs(share - due) > 0.06) throw new Error(`${share} moved for ${due}`)
        },
      ),
      { numRuns: 12 },
    )
    t.ok(moves > 1_000)
  })

  t.test('spreads the keys of a removed upstream over all others', async (t) => {
    const addresses = addressesOf(5)
    const before = ownersOf(addresses, [1, 1, 1, 1, 1])
    const after = ownersOf(addresses, [0, 1, 1, 1, 1])
    const moved = after.filter((_, i) => before[i] === addresses[0])
    for (const address of addresses.slice(1)) {
      const share = moved.filter((owner) => owner === address).length / moved.length
      t.ok(Math.abs(share - 0.25) < 0.08, `${share}`)
    }
  })

  t.test('moves keys only to an upstream whose weight grows, as in a slow start', async (t) => {
    const addresses = addressesOf(3)
    let before = ownersOf(addresses, [0.1, 1, 1])
    for (const weight of [0.3, 0.6, 1]) {
      const after = ownersOf(addresses, [weight, 1, 1])
      t.ok(after.every((owner, i) => owner === before[i] || owner === addresses[0]))
      t.strictNotSame(after, before)
      before = after
    }
  })

  t.test('is the same in every process, and takes turns without a key', async (t) => {
    const balancer = hashing(addressesOf(4))
    const even = weightsOf(1, 1, 1, 1)
    const owners = ['alice', 'bob', 'carol', '', 'ß🌊'].map((key) => balancer.choose(even, key))
    t.strictSame(owners, OWNERS)
    t.strictSame(
      Array.from({ length: 4 }, () => balancer.choose(even, undefined)),
      [0, 1, 2, 3],
    )
  })
})

/** Fixed values: gateways of different versions run side by side during an upgrade. */
const OWNERS = [3, 2, 3, 0, 3]

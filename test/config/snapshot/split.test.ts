import t from 'tap'
import { memberAt, memberOf } from '../../../src/config/snapshot/split.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

function splitOf(...weights: readonly number[]) {
  const snapshot = snapshotOf(`
tiers: [free]
services:
${weights.map((_, i) => `  s${i}: { upstreams: [http://127.0.0.1:900${i}] }`).join('\n')}
routes:
  - path: /*
    sticky: consumer
    split: [${weights.map((weight, i) => `{ service: s${i}, weight: ${weight} }`).join(', ')}]
`)
  return snapshot.routes[0]!.split!
}

const CONSUMERS = Array.from({ length: 10_000 }, (_, i) => `user-${i}`)
const placesOf = (split: ReturnType<typeof splitOf>) =>
  CONSUMERS.map((consumer) => memberOf(split, consumer).route.service.name)
const shareOf = (places: readonly string[], name: string) =>
  places.filter((place) => place === name).length / places.length

t.test('consumers are spread by weight, each always to the same service', async (t) => {
  const split = splitOf(95, 5)
  const places = placesOf(split)
  const share = shareOf(places, 's1')
  t.ok(share > 0.042 && share < 0.058, `${share} of the consumers are on 5 of 100`)
  t.same(placesOf(splitOf(95, 5)), places, 'another gateway says the same')
})

t.test('a changed weight moves few consumers, and none away from the service that grew', async (t) => {
  const before = placesOf(splitOf(95, 5))
  const after = placesOf(splitOf(90, 10))
  const moved = CONSUMERS.filter((_, i) => before[i] !== after[i])
  t.ok(moved.length < 0.07 * CONSUMERS.length, `${moved.length} moved`)
  t.notOk(
    before.some((place, i) => place === 's1' && after[i] !== 's1'),
    'no consumer leaves the service that grew',
  )
})

t.test('an added service moves no consumer between the others', async (t) => {
  const before = placesOf(splitOf(1, 1, 1))
  const after = placesOf(splitOf(1, 1, 1, 1))
  t.ok(before.every((place, i) => after[i] === place || after[i] === 's3'))
  const share = shareOf(after, 's3')
  t.ok(share > 0.23 && share < 0.27, `${share} have gone to the new one`)
})

t.test('without sticky each request is drawn by weight', async (t) => {
  const split = splitOf(3, 0, 1)
  const draws = Array.from({ length: 8 }, (_, i) => memberAt(split, i / 8).route.service.name)
  t.same(draws, ['s0', 's0', 's0', 's0', 's0', 's0', 's2', 's2'])
})

t.test('a service in maintenance is left out of a split while there is another', async (t) => {
  const text = (out: readonly string[]) => `
tiers: [free]
services:
  a: { upstreams: [http://127.0.0.1:9001], maintenance: ${out.includes('a')} }
  b: { upstreams: [http://127.0.0.1:9002], maintenance: ${out.includes('b')} }
routes: [{ path: /*, split: [{ service: a }, { service: b }] }]
`
  const members = (out: readonly string[]) =>
    snapshotOf(text(out)).routes[0]!.split!.members.map(({ route }) => route.service.name)
  t.same(members([]), ['a', 'b'])
  t.same(members(['a']), ['b'])
  t.same(members(['a', 'b']), ['a', 'b'])
})

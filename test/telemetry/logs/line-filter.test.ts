import t from 'tap'
import { createLineFilter } from '../../../src/telemetry/logs/line-filter.js'

const request = (status: number, requestId = 'a') => ({ status, requestId })

t.test('a share of the requests without an error is kept, chosen by their id alone', async (t) => {
  const filters = [1, 2].map(() => createLineFilter({ sample: 0.1, maxErrors: 0, onFlood() {} }))
  const ids = Array.from({ length: 20_000 }, (_, i) => `5f400c11db6b-${i.toString(36)}`)
  const kept = filters.map((filter) => ids.filter((id) => filter.keeps(request(200, id))))
  t.strictSame(kept[0], kept[1])
  t.ok(Math.abs(kept[0]!.length - 2000) < 200, `${kept[0]!.length} of 20,000`)
  t.equal(filters[0]!.leftOut().sample, 20_000 - kept[0]!.length)
  t.ok(ids.every((id) => filters[0]!.keeps(request(429, id)) && filters[0]!.keeps(request(503, id))))
})

t.test('a sample of 0 keeps errors only, a sample of 1 keeps everything', async (t) => {
  const none = createLineFilter({ sample: 0, maxErrors: 0, onFlood() {} })
  const all = createLineFilter({ sample: 1, maxErrors: 0, onFlood() {} })
  for (let i = 0; i < 1000; i++) {
    t.notOk(none.keeps(request(304, `${i}`)))
    t.ok(all.keeps(request(101, `${i}`)))
  }
  t.ok(none.keeps(request(404)))
})

t.test('errors are kept up to a bound a second, and a report says how many were not', async (t) => {
  let now = 5000
  const floods: number[] = []
  const filter = createLineFilter({ sample: 1, maxErrors: 3, onFlood: (n) => floods.push(n), now: () => now })
  const kept = (count: number) =>
    Array.from({ length: count }, () => filter.keeps(request(429))).filter(Boolean).length
  t.equal(kept(10), 3)
  t.equal(filter.keeps(request(200)), true, 'others are not held back')
  now += 1000
  t.equal(kept(2), 2)
  filter.close()
  t.strictSame(floods, [7], 'reported at the end, too')
  t.equal(filter.leftOut().max_errors, 7)
})

import fc from 'fast-check'
import t from 'tap'
import { createSampler, type Incoming, type Sampling } from '../../../src/telemetry/traces/sampler.js'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'

/** A request at a time, in ms, with the sampled flag of its client, if it sent one. */
function asked(started: number, flags?: string, peer = 'stranger'): Incoming {
  const traceparent = flags === undefined ? undefined : `00-${TRACE}-${SPAN}-${flags}`
  return {
    snapshot: { isTrustedProxy: (address) => address === 'friend' },
    headers: { traceparent, tracestate: undefined },
    peer,
    started,
  }
}

const details = () =>
  ({ scheme: 'http', authority: undefined, version: '1.1', userAgent: undefined }) as const
const USUAL: Sampling = { sample: 0.25, parent: 'trusted', maxPerSecond: 1_000_000 }

function sampler(sampling: Partial<Sampling> = {}, random?: () => number) {
  let over = 0
  const made = createSampler({ ...USUAL, ...sampling }, () => over++, random)
  return {
    records: (request: Incoming) => made.begin(request, undefined, details)?.recording !== undefined,
    use: made.use,
    over: () => over,
  }
}

t.test('the configured share is recorded, and none at 0', async (t) => {
  for (const sample of [0, 0.01, 0.25, 1]) {
    let i = 0
    const { records } = sampler({ sample }, () => (i++ % 1000) / 1000)
    const recorded = Array.from({ length: 10_000 }, () => records(asked(0))).filter(Boolean).length
    t.equal(recorded, sample * 10_000)
  }
})

t.test('only a client whose flag is trusted decides', async () => {
  const people = fc.constantFrom('friend', 'stranger')
  const flags = fc.constantFrom(undefined, '00', '01', '02', '03')
  const parents = fc.constantFrom('trusted', 'always', 'never')
  fc.assert(
    fc.property(people, flags, parents, fc.boolean(), (peer, flags, parent, luck) => {
      const { records } = sampler({ parent }, () => (luck ? 0 : 0.99))
      const counts =
        flags !== undefined && (parent === 'always' || (parent === 'trusted' && peer === 'friend'))
      return records(asked(0, flags, peer)) === (counts ? flags === '01' || flags === '03' : luck)
    }),
  )
})

t.test('no second records more than twice the bound, and the average stays within it', async () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(gaps, fc.integer({ min: 1, max: 20 }), (gaps, maxPerSecond) => {
      const { records, over } = sampler({ sample: 1, maxPerSecond })
      let now = 5000
      const times: number[] = []
      for (const gap of gaps) {
        now += gap
        if (records(asked(now))) times.push(now)
      }
      const within = (from: number) => times.filter((time) => time >= from && time < from + 1000).length
      return (
        over() === gaps.length - times.length &&
        times.length <= maxPerSecond * (1 + (now - 5000) / 1000) &&
        times.every((time) => within(time) <= 2 * maxPerSecond)
      )
    }),
  )
})

t.test('settings may change while it runs', async (t) => {
  const { records, use } = sampler({ sample: 0 })
  t.notOk(records(asked(0)))
  use({ sample: 1, parent: 'trusted', maxPerSecond: 1 })
  t.ok(records(asked(0)))
  t.notOk(records(asked(1)), 'the new bound holds at once')
})

t.test('the epoch turns monotonic times into wall clock times', async (t) => {
  const sampler = createSampler({ ...USUAL, sample: 1 }, () => {})
  const trace = sampler.begin(asked(performance.now()), undefined, details)
  const { epoch } = trace!.recording!
  t.ok(Math.abs(epoch + performance.now() - Date.now()) < 1000)
})

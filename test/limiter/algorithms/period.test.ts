import fc from 'fast-check'
import t from 'tap'
import { periodAt } from '../../../src/limiter/algorithms/period.js'

const iso = (ms: number) => new Date(ms).toISOString()
const at = (text: string) => Date.parse(text)

t.test(
  'a day lasts from midnight to midnight in its zone: 23 or 25 hours when the clocks change',
  async (t) => {
    const berlin = { period: 'day', timeZone: 'Europe/Berlin' } as const
    for (const [moment, start, end] of [
      ['2026-03-29T12:00:00Z', '2026-03-28T23:00:00.000Z', '2026-03-29T22:00:00.000Z'],
      ['2026-10-25T00:30:00Z', '2026-10-24T22:00:00.000Z', '2026-10-25T23:00:00.000Z'],
      ['2026-10-25T23:00:00Z', '2026-10-25T23:00:00.000Z', '2026-10-26T23:00:00.000Z'],
      ['2026-10-25T22:59:59.999Z', '2026-10-24T22:00:00.000Z', '2026-10-25T23:00:00.000Z'],
    ] as const) {
      const day = periodAt(berlin, at(moment))
      t.same([iso(day.start), iso(day.end)], [start, end], moment)
    }
  },
)

t.test('a month has as many days as the calendar says', async (t) => {
  const kolkata = { period: 'month', timeZone: 'Asia/Kolkata' } as const
  for (const [moment, start, end] of [
    ['2028-02-10T00:00:00Z', '2028-01-31T18:30:00.000Z', '2028-02-29T18:30:00.000Z'],
    ['2026-12-31T18:29:59.999Z', '2026-11-30T18:30:00.000Z', '2026-12-31T18:30:00.000Z'],
    ['2026-12-31T18:30:00Z', '2026-12-31T18:30:00.000Z', '2027-01-31T18:30:00.000Z'],
  ] as const) {
    const month = periodAt(kolkata, at(moment))
    t.same([iso(month.start), iso(month.end)], [start, end], moment)
  }
})

t.test('a day that a zone skipped is no period', async (t) => {
  const apia = { period: 'day', timeZone: 'Pacific/Apia' } as const
  const before = periodAt(apia, at('2011-12-30T09:00:00Z'))
  const after = periodAt(apia, before.end)
  t.equal(iso(before.end), '2011-12-30T10:00:00.000Z')
  t.equal(after.index, before.index + 2)
})

t.test('periods follow each other without a gap, in every zone and at any time', async (t) => {
  const zones = ['UTC', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'America/Havana']
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...zones),
      fc.constantFrom('day' as const, 'month' as const),
      fc.integer({ min: at('2000-01-01T00:00:00Z'), max: at('2080-01-01T00:00:00Z') }),
      async (timeZone, period, ms) => {
        const present = periodAt({ period, timeZone }, ms)
        const next = periodAt({ period, timeZone }, present.end)
        const last = periodAt({ period, timeZone }, present.start - 1)
        return (
          present.start <= ms &&
          ms < present.end &&
          next.start === present.end &&
          next.index === present.index + 1 &&
          last.end === present.start &&
          last.index === present.index - 1
        )
      },
    ),
    { numRuns: 60 },
  )
  t.pass()
})

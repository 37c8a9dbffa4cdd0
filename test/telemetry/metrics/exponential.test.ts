import fc from 'fast-check'
import t from 'tap'
import {
  type Exponential,
  mergeExponential,
  ROW,
  readExponential,
  recordExponential,
  ZERO_THRESHOLD,
} from '../../../src/telemetry/metrics/exponential.js'

const seconds = fc.oneof(
  fc.double({ min: 0, max: 30, noNaN: true }),
  fc.double({ min: 0.0005, max: 0.5, noNaN: true }),
  fc.constantFrom(0, 1, 2, 0.5, 0.125, 1024, 1e-7, Number.POSITIVE_INFINITY, Number.NaN),
)

function of(values: readonly number[]): Exponential {
  const rows = new Float64Array(ROW)
  for (const value of values) recordExponential(rows, 0, value)
  return readExponential(rows, 0)
}

t.test('each value is in the bucket whose bounds enclose it', async () => {
  fc.assert(
    fc.property(fc.array(seconds, { maxLength: 60 }), (values) => {
      const { scale, zeros, offset, counts } = of(values)
      const counted = values.filter((value) => value > ZERO_THRESHOLD)
      if (zeros !== values.length - counted.length || counts.length > 160) return false
      return counts.every((count, i) => {
        const low = 2 ** ((offset + i) / 2 ** scale)
        const high = 2 ** ((offset + i + 1) / 2 ** scale)
        const clear = 1e-12 * high
        const inside = counted.filter(
          (value) => Math.min(value, 2 ** 30) > low + clear && value < high - clear,
        )
        const near = counted.filter(
          (value) => Math.min(value, 2 ** 30) >= low - clear && value <= high + clear,
        )
        return count >= inside.length && (count <= near.length || high >= 2 ** 30)
      })
    }),
  )
})

t.test('a power of two belongs to the bucket below it', async (t) => {
  for (const scale of [20, 3]) {
    const values = scale === 20 ? [0.25] : [0.25, 2 ** -19, 1]
    const { offset, counts, scale: found } = of(values)
    const at = counts.findIndex((count, i) => count > 0 && 2 ** ((offset + i + 1) / 2 ** found) === 0.25)
    t.ok(at >= 0, `at scale ${found}`)
  }
})

t.test('the scale is as fine as the range allows', async (t) => {
  t.equal(of([0.01]).scale, 20)
  const { scale, counts } = of([0.001, 1])
  t.equal(scale, 4, 'nearly ten doublings, sixteen buckets each')
  t.ok(counts.length <= 160)
})

t.test('merging histograms in any order gives the histogram of all values', async () => {
  fc.assert(
    fc.property(fc.array(seconds), fc.array(seconds), (a, b) => {
      const rows = new Float64Array(2 * ROW)
      mergeExponential(rows, ROW, of(a))
      mergeExponential(rows, ROW, of(b))
      return JSON.stringify(readExponential(rows, ROW)) === JSON.stringify(of([...a, ...b]))
    }),
  )
})

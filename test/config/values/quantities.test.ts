import fc from 'fast-check'
import t from 'tap'
import {
  formatDuration,
  formatRate,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
} from '../../../src/config/values/quantities.js'

t.test('durations, sizes and rates are parsed', async (t) => {
  const durations = {
    '100ms': 100,
    '5s': 5000,
    '1m': 60_000,
    '2h': 7_200_000,
    '1d': 86_400_000,
    '0': 0,
    '0s': 0,
  }
  for (const [text, ms] of Object.entries(durations)) t.equal(parseDuration(text), ms, text)
  const sizes = { '0': 0, '512': 512, '7B': 7, '16KiB': 16_384, '10MiB': 10_485_760, '1GiB': 2 ** 30 }
  for (const [text, bytes] of Object.entries(sizes)) t.equal(parseSize(text), bytes, text)
  t.same(parseRate('10/min'), { amount: 10, window: 60_000 })
  t.same(parseRate('100/30s'), { amount: 100, window: 30_000 })
})

t.test('any other text is refused', async (t) => {
  const durations = [
    '',
    '1',
    '1.5s',
    '-1s',
    '1 s',
    's',
    '1S',
    '1min',
    '1h30m',
    ' 1s',
    '1s\n',
    '1e3ms',
    '9007199254740993ms',
  ]
  for (const text of durations) t.equal(parseDuration(text), undefined, text)
  for (const text of ['', '1KB', '1kib', '-1', '1.5MiB', '1 B', '99999999999999GiB'])
    t.equal(parseSize(text), undefined, text)
  for (const text of [
    '',
    '10',
    '/min',
    '10/',
    '10/m',
    '10/minute',
    '1.5/s',
    '-1/s',
    '10 / s',
    '10/1',
    '1/s/s',
    'x/s',
  ]) {
    t.equal(parseRate(text), undefined, text)
  }
})

t.test('a formatted quantity is parsed back to itself', async (t) => {
  const amount = fc.nat({ max: 2 ** 40 })
  const unit = fc.constantFrom(1, 1000, 1024, 60_000, 1024 ** 2, 3_600_000, 86_400_000)
  fc.assert(
    fc.property(amount, unit, (n, factor) => {
      const value = Math.min(n * factor, Number.MAX_SAFE_INTEGER)
      return parseDuration(formatDuration(value)) === value && parseSize(formatSize(value)) === value
    }),
  )
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 25 }), fc.nat({ max: 1e9 }), (amount, window) => {
      const read = parseRate(formatRate(amount, window))
      return read?.amount === amount && read.window === window
    }),
  )
  t.equal(formatRate(10, 60_000), '10/min')
  t.equal(formatRate(10, 90_000), '10/90s')
  t.equal(formatDuration(86_400_000 * 7), '7d')
  t.equal(formatSize(1536), '1536')
})

import t from 'tap'
import { ago, roundedDuration, tableTime, toSecond } from '../../../src/cli/print/time.js'

t.test('a time is shown to the second, in a sentence and in a table', async (t) => {
  t.equal(toSecond('2026-11-25T05:00:00.123Z'), '2026-11-25T05:00:00Z')
  t.equal(tableTime('2026-11-25T05:00:00.123Z'), '2026-11-25 05:00:00Z')
})

t.test('a time span is shown in its largest fitting unit', async (t) => {
  const spans: [ms: number, text: string, up: string][] = [
    [-1, '0 s', '0 s'],
    [1_400, '1 s', '2 s'],
    [119_000, '119 s', '119 s'],
    [130_000, '2 min', '3 min'],
    [7_200_000, '2 h', '2 h'],
    [9_100_000, '3 h', '3 h'],
    [172_800_000, '2 days', '2 days'],
  ]
  for (const [ms, text, up] of spans) {
    t.equal(roundedDuration(ms), text)
    t.equal(roundedDuration(ms, Math.ceil), up)
  }
  t.equal(ago('2026-11-25T05:00:00Z', Date.parse('2026-11-25T05:05:00Z')), '5 min')
})

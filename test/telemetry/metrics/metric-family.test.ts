import fc from 'fast-check'
import t from 'tap'
import { createExemplars } from '../../../src/telemetry/metrics/exemplars.js'
import { createFamily, type Definition } from '../../../src/telemetry/metrics/metric-family.js'
import { createSlots } from '../../../src/telemetry/metrics/pair-map.js'

const COUNTER: Definition = {
  otlp: 'a',
  prometheus: 'a_total',
  kind: 'counter',
  unit: '',
  help: 'A.',
  labels: ['x', 'y'],
}

t.test('a series is found by its labels, however many series there are', async () => {
  const label = fc.oneof(fc.nat(5), fc.stringMatching(/^[ab]{0,3}$/))
  fc.assert(
    fc.property(fc.array(fc.tuple(label, label), { maxLength: 200 }), (steps) => {
      const family = createFamily(COUNTER)
      const model = new Map<string, number>()
      for (const [x, y] of steps) {
        family.add(family.cell(x, y), 1)
        const key = JSON.stringify([x, y])
        model.set(key, (model.get(key) ?? 0) + 1)
      }
      const { size, labels, figures } = family.view()
      const shown = Array.from({ length: size }, (_, i) => [
        JSON.stringify(labels.slice(2 * i, 2 * i + 2)),
        figures[i],
      ])
      return JSON.stringify(shown) === JSON.stringify([...model])
    }),
  )
})

t.test('a number and the text that looks like it are two series', async (t) => {
  const family = createFamily(COUNTER)
  family.set(1, 200, 'a')
  family.set(2, '200', 'a')
  t.strictSame([family.get(200, 'a'), family.get('200', 'a'), family.get(201, 'a')], [1, 2, undefined])
})

t.test('a view does not change while series are added, counted and removed', async (t) => {
  const family = createFamily(COUNTER)
  family.set(1, 'a', 'b')
  const before = family.view()
  for (let i = 0; i < 100; i++) family.set(2, 'a', i)
  family.add(family.cell('a', 'b'), 5)
  family.clear()
  family.set(3, 'c', 'd')
  t.equal(before.size, 1)
  t.strictSame([...before.figures], [1])
  t.strictSame(before.labels.slice(0, 2), ['a', 'b'])
  t.equal(family.view().size, 1)
  t.equal(family.get('a', 'b'), undefined)
})

t.test('slots keep a number for each pair of numbers', async () => {
  const small = fc.nat(40)
  fc.assert(
    fc.property(fc.array(fc.tuple(small, small, fc.nat()), { maxLength: 300 }), (steps) => {
      const slots = createSlots()
      const model = new Map<number, number>()
      for (const [a, b, value] of steps) {
        slots.set(a, b, value)
        model.set(a * 100 + b, value)
      }
      for (let a = 0; a <= 40; a++) {
        for (let b = 0; b <= 40; b++) {
          if (slots.get(a, b) !== (model.get(a * 100 + b) ?? -1)) return false
        }
      }
      return true
    }),
    { numRuns: 30 },
  )
})

t.test('exemplars are bounded: the bucket with the oldest one loses it', async (t) => {
  const exemplars = createExemplars(3)
  const of = (at: number) => ({ traceId: 'a', spanId: 'b', ms: 1, at })
  for (const bucket of [1, 2, 3, 1, 4]) exemplars.note(bucket, of(bucket))
  t.strictSame(
    [...exemplars.all()].map(([bucket]) => bucket),
    [3, 1, 4],
  )
  t.equal(exemplars.of(2), undefined)
  t.strictSame([exemplars.due(2, 0), exemplars.due(3, 500), exemplars.due(3, 1003)], [true, false, true])
})

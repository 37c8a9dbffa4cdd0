import fc from 'fast-check'
import t from 'tap'
import { createFamilies } from '../../src/telemetry/families.js'
import { type Reading, readFamilies } from '../../src/telemetry/reading.js'
import { createTotals } from '../../src/workers/totals.js'

/** What a worker would tell that has counted so much. */
function reading(count: number, { up = 1, connections = 0 } = {}): Reading {
  const families = createFamilies()
  families.failOpen.cell('api', 'timeout')[0] = count
  const histogram = families.overhead.cell('api')
  histogram[0] = count
  histogram[histogram.length - 1] = count / 2
  families.storeState.cell('up')[0] = up
  families.upstreamHealthy.cell('api', 'http://a')[0] = up
  families.connections.cell()[0] = connections
  families.configReloads.cell('applied')[0] = 100
  const cpu = { name: 'process_cpu_seconds_total', help: 'CPU', type: 'counter' }
  const memory = { name: 'process_resident_memory_bytes', help: 'Memory', type: 'gauge' }
  return {
    families: readFamilies(Object.values(families)),
    process: [
      { ...cpu, values: [{ labels: {}, value: count }] },
      { ...memory, values: [{ labels: {}, value: connections }] },
    ],
  }
}

/** A worker's figures on their way between two processes. */
const sent = (place: number, of: Reading) => ({ place, reading: JSON.parse(JSON.stringify(of)) as Reading })

t.test('counters are added up, gauges by their rule, and what is the primary’s is left alone', async (t) => {
  const families = createFamilies()
  families.configReloads.cell('applied')[0] = 2
  const totals = createTotals(families)
  totals.show([
    sent(1, reading(3, { up: 1, connections: 5 })),
    sent(2, reading(4, { up: 0, connections: 6 })),
  ])
  t.equal(families.failOpen.cell('api', 'timeout')[0], 7)
  t.equal(families.overhead.cell('api')[0], 7)
  t.equal(families.overhead.cell('api').at(-1), 3.5)
  t.equal(families.connections.cell()[0], 11)
  t.equal(families.storeState.cell('up')[0], 1, 'the greatest')
  t.equal(families.upstreamHealthy.cell('api', 'http://a')[0], 0, 'the least')
  t.equal(families.configReloads.cell('applied')[0], 2)
  totals.show([sent(1, reading(3, { up: 0 }))])
  t.equal(families.storeState.cell('up')[0], 0, 'nothing of an earlier reading is left')
  t.equal(families.connections.cell()[0], 0)
})

t.test('no counter ever goes down, whoever comes and goes', (t) => {
  const step = fc.record({ place: fc.integer({ min: 0, max: 2 }), dies: fc.boolean(), more: fc.nat(9) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const families = createFamilies()
      const totals = createTotals(families)
      const alive = [0, 0, 0]
      let all = 0
      for (const { place, dies, more } of steps) {
        alive[place]! += more
        all += more
        if (dies) {
          totals.retire(sent(place + 1, reading(alive[place]!)))
          alive[place] = 0
        }
        const live = alive.map((count, i) => sent(i + 1, reading(count)))
        totals.show(live)
        if (families.failOpen.cell('api', 'timeout')[0] !== all) return false
        const cpu = [
          ...totals.processes(live, []).matchAll(/^process_cpu_seconds_total{worker="\d"} (\d+)$/gm),
        ]
        if (cpu.reduce((sum, [, value]) => sum + Number(value), 0) !== all) return false
      }
      return true
    }),
  )
  t.end()
})

t.test('two workers in one place, while one takes over: counters of both, gauges of the newer', async (t) => {
  const totals = createTotals(createFamilies())
  const text = totals.processes(
    [sent(1, reading(3, { connections: 5 })), sent(1, reading(4, { connections: 6 }))],
    reading(1, { connections: 9 }).process,
  )
  t.match(text, /^process_cpu_seconds_total{worker="1"} 7$/m)
  t.match(text, /^process_resident_memory_bytes{worker="1"} 6$/m)
  t.match(text, /^process_cpu_seconds_total{worker="primary"} 1$/m)
})

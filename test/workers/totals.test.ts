import fc from 'fast-check'
import t from 'tap'
import { formatProcesses } from '../../src/telemetry/export/text-format.js'
import { createFamilies } from '../../src/telemetry/metrics/metric-definitions.js'
import { type Reading, readFamilies } from '../../src/telemetry/metrics/process-counts.js'
import { createTotals } from '../../src/workers/totals.js'

/** Returns the figures of a worker that has counted so much. */
function reading(count: number, { up = 1, connections = 0 } = {}): Reading {
  const families = createFamilies()
  families.failOpen.set(count, 'api', 'timeout')
  const histogram = families.overhead.cell('api')
  for (let i = 0; i < count; i++) families.overhead.observe(histogram, 0.05)
  families.storeState.set(up, 'up')
  families.upstreamHealthy.set(up, 'api', 'http://a')
  families.connections.set(connections)
  families.configReloads.set(100, 'applied')
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

/** Passes a worker's figures through the format between two processes. */
const sent = (place: number, of: Reading) => ({ place, reading: JSON.parse(JSON.stringify(of)) as Reading })

t.test("counters are summed, gauges by their rule, and the primary's own stay as they are", async (t) => {
  const families = createFamilies()
  families.configReloads.set(2, 'applied')
  const totals = createTotals(families, createFamilies())
  totals.show([
    sent(1, reading(3, { up: 1, connections: 5 })),
    sent(2, reading(4, { up: 0, connections: 6 })),
  ])
  t.equal(families.failOpen.get('api', 'timeout'), 7)
  t.equal(families.overhead.get('api'), 7)
  t.match(families.overhead.view().figures.at(-1), 7 * 0.05)
  t.equal(families.connections.get(), 11)
  t.equal(families.storeState.get('up'), 1, 'the greatest')
  t.equal(families.upstreamHealthy.get('api', 'http://a'), 0, 'the least')
  t.equal(families.configReloads.get('applied'), 2)
  totals.show([sent(1, reading(3, { up: 0 }))])
  t.equal(families.storeState.get('up'), 0, 'nothing of an earlier reading is left')
  t.equal(families.connections.get(), 0)
})

t.test('no counter ever goes down when workers end and start', (t) => {
  const step = fc.record({ place: fc.integer({ min: 0, max: 2 }), dies: fc.boolean(), more: fc.nat(9) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const families = createFamilies()
      const totals = createTotals(families, createFamilies())
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
        if (families.failOpen.get('api', 'timeout') !== all) return false
        const cpu = [
          ...formatProcesses(totals.processes(live, [])).matchAll(
            /^process_cpu_seconds_total{worker="\d"} (\d+)$/gm,
          ),
        ]
        if (cpu.reduce((sum, [, value]) => sum + Number(value), 0) !== all) return false
      }
      return true
    }),
  )
  t.end()
})

t.test("of two workers in one place the counters add up, and the newer one's gauges hold", async (t) => {
  const totals = createTotals(createFamilies(), createFamilies())
  const text = formatProcesses(
    totals.processes(
      [sent(1, reading(3, { connections: 5 })), sent(1, reading(4, { connections: 6 }))],
      reading(1, { connections: 9 }).process,
    ),
  )
  t.match(text, /^process_cpu_seconds_total{worker="1"} 7$/m)
  t.match(text, /^process_resident_memory_bytes{worker="1"} 6$/m)
  t.match(text, /^process_cpu_seconds_total{worker="primary"} 1$/m)
})

t.test('series of several labels, exponential buckets and exemplars arrive unchanged', async (t) => {
  const trace = (digit: string) => ({ traceId: digit.repeat(32), spanId: digit.repeat(16), sampled: true })
  const worker = (route: string, ms: number, digit: string): Reading => {
    const families = createFamilies(true)
    const { serverDuration } = families
    for (const path of ['/other', route]) {
      serverDuration.observe(serverDuration.cell(path, 'GET', 200, 'api', 'free', ''), ms, trace(digit))
    }
    return { families: readFamilies(Object.values(families)), process: [] }
  }
  const families = createFamilies(true)
  const totals = createTotals(families, createFamilies(true))
  totals.retire(sent(3, worker('/a', 3, 'c')))
  totals.show([sent(1, worker('/a', 3, 'a')), sent(2, worker('/b', 3000, 'b'))])
  const { serverDuration } = families
  const view = serverDuration.view()
  t.equal(view.size, 3)
  const counts = (path: string) => {
    const cell = serverDuration.cell(path, 'GET', 200, 'api', 'free', '')
    const buckets = view.figures.subarray(cell, cell + view.width - 1)
    return [...buckets.entries()].flatMap(([i, count]) =>
      count > 0 ? [[i, count, view.exemplar(cell + i)?.traceId[0]]] : [],
    )
  }
  t.strictSame(
    counts('/other').map(([i, count]) => [i, count]),
    [
      [3, 2],
      [14, 1],
    ],
    'the worker that has gone counts, too',
  )
  t.strictSame(counts('/b'), [[14, 1, 'b']])
  t.match(counts('/a'), [[3, 2, /[ac]/]])
  const { counts: fine } = view.exponential!(0)
  t.equal(
    fine.reduce((sum, n) => sum + n, 0),
    3,
  )
})

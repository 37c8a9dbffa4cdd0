import t from 'tap'
import type { Algorithm } from '../../src/config/schema/algorithms.js'
import { createMemoryLimiter } from '../../src/limiter/memory.js'
import { policyOf, serviceOf } from '../limiter/contract/build.js'

/** Checks the claims of `npm run bench:accuracy` on a fifth of the traffic, from another seed. */
const WINDOWS = 800
const SEED = 2

interface Row {
  readonly traffic: string
  readonly algorithm: Algorithm
  readonly steady: boolean
  readonly requests: number
  readonly admitted: number
  readonly ofExact: number
  readonly wronglyPassed: number
  readonly peakExcess: number
}

const part = (name: string) => new URL(`../../bench/accuracy/${name}.mjs`, import.meta.url).href
const { measureAccuracy, judgeMarks } = await import(part('simulate'))
const { plotAccuracy } = await import(part('plot'))

function open(algorithm: Algorithm, amount: number, windowMs: number) {
  let at = 0
  const limiter = createMemoryLimiter({ now: () => at })
  const policy = policyOf({ algorithm, amount, windowMs })
  const service = serviceOf('bench', [policy])
  return (time: number) => {
    at = time
    return limiter.take(service, policy, 'consumer', 1).allowed
  }
}

const rows: Row[] = measureAccuracy({ open, windows: WINDOWS, seed: SEED })

t.test('every claim of the docs about an algorithm holds', async (t) => {
  const marks: { name: string; figure: string; holds: boolean }[] = judgeMarks(rows)
  t.equal(marks.length, 3)
  for (const { name, figure, holds } of marks) t.ok(holds, `${name}: ${figure}`)
})

t.test('no algorithm admits more than twice the limit in any window', async (t) => {
  for (const row of rows) t.ok(row.peakExcess <= 1, `${row.traffic}, ${row.algorithm}: ${row.peakExcess}`)
})

t.test('an attack on the boundary gets nearly twice the volume from the sliding counter', async (t) => {
  const row = rows.find(({ algorithm, traffic }) => algorithm === 'sliding' && /boundary/.test(traffic))
  t.match(row, { ofExact: Number, peakExcess: 0.99 })
  t.ok(row!.ofExact > 1.95 && row!.ofExact < 2, `${row!.ofExact}`)
})

t.test('the same seed gives the same figures, another seed different ones', async (t) => {
  const short = (seed: number): Row[] => measureAccuracy({ open, windows: 8, seed })
  t.strictSame(short(7), short(7))
  t.notSame(short(7), short(8))
})

t.test('the exact log itself shows no error', async (t) => {
  const exact = (_algorithm: Algorithm, amount: number, windowMs: number) => {
    let times: number[] = []
    return (time: number) => {
      times = times.filter((at) => at > time - windowMs)
      if (times.length >= amount) return false
      times.push(time)
      return true
    }
  }
  const judged: Row[] = measureAccuracy({ open: exact, windows: 8, seed: SEED })
  for (const row of judged) {
    t.match(row, { ofExact: 1, wronglyPassed: 0, wronglyDenied: 0 }, row.traffic)
    t.ok(row.peakExcess <= 0)
  }
})

t.test('the plot has a bar for each figure', async (t) => {
  const svg: string = plotAccuracy(rows)
  t.equal(
    svg.match(/<rect x="[\d.]+" y="[\d.]+" width="[\d.]+" height="12" class="\w+"><title>/g)?.length,
    2 * rows.length,
  )
})

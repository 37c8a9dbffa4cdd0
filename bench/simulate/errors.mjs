/** `npm run simulate -- --errors`: samples of several sizes and seeds. Is the sampling error what it is said to be? */
import { printMarks } from '../harness/marks.mjs'
import { printTable } from '../harness/table.mjs'
import { simulate } from './run.mjs'
import { TOTALS } from './tally.mjs'

/** Sample sizes, as shares of the one that was asked for. */
const SHARES = [1 / 16, 1 / 4, 1]
const SEEDS = 5
/** Size from which the error is judged. A smaller sample has too few users of a stratum to know the error of what is rare. */
const JUDGED = 1 / 4
/** Standard errors that a sample may be off. Of a hundred samples and totals, 99.7 % are nearer. */
const FAR = 4

const mean = (values) => values.reduce((sum, n) => sum + n, 0) / values.length
const deviation = (values) =>
  Math.sqrt(mean(values.map((n) => (n - mean(values)) ** 2)) * (values.length / (values.length - 1)))
const percent = (share) => `${(100 * share).toFixed(3)} %`

export async function main({ scenario, takes, seed }) {
  const rows = []
  const marks = []
  let reference
  for (const share of SHARES.toReversed()) {
    const runs = []
    for (let i = 0; i < SEEDS; i++) {
      runs.push(
        await simulate(scenario, { takes: Math.round(takes * share), seed: seed + i, withHead: false }),
      )
    }
    const of = (name) => runs.map(({ totals }) => totals[name])
    reference ??= Object.fromEntries(TOTALS.map((name) => [name, mean(of(name).map(({ total }) => total))]))
    for (const name of TOTALS) {
      const totals = of(name).map(({ total }) => total)
      const said = mean(of(name).map(({ error }) => error))
      const off = Math.max(...totals.map((total) => Math.abs(total - reference[name]) / said))
      rows.push([
        name,
        runs[0].simulated,
        percent(mean(totals) / reference[name] - 1),
        percent(said / reference[name]),
        percent(deviation(totals) / reference[name]),
        off.toFixed(2),
      ])
      if (share < JUDGED) continue
      marks.push({
        name: `${name}, ${runs[0].simulated} users`,
        figure: `${off.toFixed(2)} standard errors`,
        holds: off <= FAR,
      })
    }
  }
  console.log(`\n${SEEDS} samples of each size, without the users that are always simulated whole.\n`)
  printTable(
    [
      'total',
      'users simulated',
      'mean, off the largest',
      'standard error, as said',
      'as found',
      'furthest, in standard errors',
    ],
    rows,
  )
  const wrong = marks.filter(({ holds }) => !holds)
  console.log()
  return printMarks([
    {
      name: `every one of ${marks.length * SEEDS} totals is within ${FAR} standard errors`,
      figure:
        wrong.length === 0 ? 'all are' : wrong.map(({ name, figure }) => `${name}: ${figure}`).join('; '),
      holds: wrong.length === 0,
    },
  ])
}

/** Tables and marks of `npm run bench:limiter`. Each figure is the median of its rounds, and the least and most of them. */
import { printMarks } from '../harness/marks.mjs'
import { median, printTable } from '../harness/table.mjs'
import { IN_FLIGHT, RATE } from './rounds.mjs'

export const MARKS = { decisionsPerSecond: 100_000, gatewayUs: 6, redisUs: 6.5, p99Ms: 1 }

const thousands = (n) => Math.round(n).toLocaleString('en')
const one = (n) => n.toFixed(1)
const two = (n) => n.toFixed(2)

const perSecond = (r) => (r.decisions * 1000) / r.tookMs
const gatewayUs = (r) => r.cpuUs / r.decisions
const redisUs = (r) => r.redisUs / r.decisions

function spread(results, figure, format) {
  const all = results.map(figure)
  if (all.length === 0) return 'no valid round'
  const middle = format(median(all))
  return all.length === 1 ? middle : `${middle} (${format(Math.min(...all))}–${format(Math.max(...all))})`
}

function closedLoopRow(label, results) {
  const perCall = (r) => (r.calls === 0 ? 0 : r.decisions / r.calls)
  return [
    label,
    spread(results, perSecond, thousands),
    spread(results, gatewayUs, two),
    spread(results, redisUs, two),
    results.every((r) => r.calls === 0) ? '–' : one(median(results.map(perCall))),
  ]
}

const CLOSED_LOOP = ['decisions/s', 'gateway µs', 'Redis µs', 'a call']

/** Our figure against a peer's, round by round. */
function ratioRow(label, ours, theirs) {
  const ratio = (figure) => {
    const all = ours.flatMap((r) => {
      const other = theirs.find(({ round }) => round === r.round)
      return other === undefined ? [] : [figure(r) / figure(other)]
    })
    if (all.length === 0) return 'no valid round'
    return `${two(median(all))} (${two(Math.min(...all))}–${two(Math.max(...all))})`
  }
  return [label, ratio(perSecond), ratio(gatewayUs), ratio(redisUs)]
}

function unique(results, key) {
  return [...new Set(results.map(key))]
}

function reportRate(results) {
  for (const inFlight of IN_FLIGHT) {
    const of = (subject) => results.filter((r) => r.subject === subject && r.inFlight === inFlight)
    const subjects = unique(results, (r) => r.subject)
    console.log(`\nOne limit, nobody over it, ${inFlight} in flight\n`)
    printTable(
      ['', ...CLOSED_LOOP],
      subjects.map((subject) => closedLoopRow(subject, of(subject))),
    )
    const peers = subjects.filter((name) => name !== 'tidegate' && name !== 'the harness alone')
    console.log('\nTidegate against each, of the same round\n')
    printTable(
      ['tidegate ÷', ...CLOSED_LOOP.slice(0, 3)],
      peers.map((peer) => ratioRow(peer, of('tidegate'), of(peer))),
    )
  }
}

function reportShapes(results) {
  console.log('\nOther limits, nobody over them, 256 in flight (concurrency: taken and given back)\n')
  const labels = unique(results, (r) => `${r.subject}, ${r.shape}`)
  printTable(
    ['', ...CLOSED_LOOP],
    labels.map((label) =>
      closedLoopRow(
        label,
        results.filter((r) => `${r.subject}, ${r.shape}` === label),
      ),
    ),
  )
}

function reportDenied(results) {
  console.log('\nDenied repeats: 1,000 consumers, all over their limit, 64 in flight\n')
  const per = (r) => (r.calls / r.decisions) * 1000
  printTable(
    ['', ...CLOSED_LOOP.slice(0, 3), 'store calls per 1,000', 'decided by'],
    unique(results, (r) => r.subject).map((subject) => {
      const of = results.filter((r) => r.subject === subject)
      return [...closedLoopRow(subject, of).slice(0, 4), one(median(of.map(per))), shares(of)]
    }),
  )
}

function shares(results) {
  const sums = {}
  for (const { decidedBy } of results)
    for (const [key, n] of Object.entries(decidedBy)) sums[key] = (sums[key] ?? 0) + n
  const all = Object.values(sums).reduce((sum, n) => sum + n, 0)
  if (all === 0) return ''
  return Object.entries(sums)
    .map(([key, n]) => `${key} ${one((100 * n) / all)} %`)
    .join(', ')
}

function reportLatency(results) {
  console.log(
    `\nAdded latency, ms: ${thousands(RATE)} decisions a second, one limit, counted from when each was due\n`,
  )
  printTable(
    ['', 'p50', 'p99', 'max', 'p99 from the call', 'asked late, p99', 'Redis, of a core'],
    unique(results, (r) => r.subject).map((subject) => {
      const of = results.filter((r) => r.subject === subject)
      return [
        subject,
        spread(of, (r) => r.fromDue.p50, two),
        spread(of, (r) => r.fromDue.p99, two),
        one(Math.max(...of.map((r) => r.fromDue.max))),
        spread(of, (r) => r.fromCall.p99, two),
        spread(of, (r) => r.late.p99, two),
        subject === 'the harness alone' ? '–' : `${one(100 * median(of.map((r) => r.redisShare)))} %`,
      ]
    }),
  )
}

const REPORTS = { rate: reportRate, shapes: reportShapes, denied: reportDenied, latency: reportLatency }

/** Share of the two cores that went to other processes. */
function reportOthers(results) {
  const percent = (all) => {
    const known = all.filter((share) => share !== undefined).map((share) => 100 * share)
    return known.length === 0 ? 'not known' : `${one(median(known))} % (at most ${one(Math.max(...known))} %)`
  }
  console.log(
    `\nOthers on the gateway's core: ${percent(results.map((r) => r.othersOnGateway))}; on Redis' core, this bench included: ${percent(results.map((r) => r.othersOnRedis))}`,
  )
}

/** @returns each mark with its figure, the median of the rounds */
function marksOf({ rate = [], latency = [], denied = [] }) {
  const ours = (results) => results.filter((r) => r.subject === 'tidegate')
  const closed = IN_FLIGHT.flatMap((inFlight) => {
    const of = ours(rate).filter((r) => r.inFlight === inFlight)
    if (of.length === 0) return []
    const mark = (name, figure, format, holds) => {
      const middle = median(of.map(figure))
      return { name: `${inFlight} in flight: ${name}`, figure: format(middle), holds: holds(middle) }
    }
    const { decisionsPerSecond, gatewayUs: mostGateway, redisUs: mostRedis } = MARKS
    return [
      mark(
        `≥ ${thousands(decisionsPerSecond)} decisions/s`,
        perSecond,
        thousands,
        (n) => n >= decisionsPerSecond,
      ),
      mark(`≤ ${mostGateway} µs in the gateway`, gatewayUs, two, (n) => n <= mostGateway),
      mark(`≤ ${mostRedis} µs in Redis`, redisUs, two, (n) => n <= mostRedis),
    ]
  })
  const p99 = ours(latency).map((r) => r.fromDue.p99)
  const calls = ours(denied).map((r) => (1000 * r.calls) / r.decisions)
  return [
    ...closed,
    ...(p99.length === 0
      ? []
      : [
          {
            name: `p99 < ${MARKS.p99Ms} ms at ${thousands(RATE)}/s`,
            figure: two(median(p99)),
            holds: median(p99) < MARKS.p99Ms,
          },
        ]),
    ...(calls.length === 0
      ? []
      : [
          {
            name: 'denied repeats without the store: < 10 calls per 1,000',
            figure: one(median(calls)),
            holds: median(calls) < 10,
          },
        ]),
  ]
}

/**
 * Prints the report. A round whose work was not done is not counted. @returns whether all rounds were valid and every mark holds
 */
export function report(byPart) {
  const all = Object.values(byPart).flat()
  const valid = Object.fromEntries(
    Object.entries(byPart).map(([part, results]) => [part, results.filter((r) => r.invalid === undefined)]),
  )
  for (const [part, results] of Object.entries(valid)) REPORTS[part](results)
  reportOthers(all)
  console.log()
  const marks = marksOf(valid)
  const hold = printMarks(marks)
  const invalid = all.filter((r) => r.invalid !== undefined)
  const said = invalid.map(
    (r) => `INVALID  round ${r.round + 1}, ${r.subject}, ${r.shape}: ${r.invalid}; left out`,
  )
  for (const line of new Set(said)) console.log(line)
  return invalid.length === 0 && hold
}

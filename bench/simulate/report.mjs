/** Prints a simulation: the assumptions first, then what came out. */
import { printTable } from '../harness/table.mjs'
import { assumptionRows } from './assumptions.mjs'
import { chatterOf } from './load.mjs'

const GB = 1e9
const whole = (n) => Math.round(n).toLocaleString('en')
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`
const gigabytes = (bytes) => (bytes / GB).toFixed(2)
const most = (values) => Math.max(...values)
const sum = (values) => values.reduce((all, n) => all + n, 0)

export function printAssumptions(scenario) {
  console.log('\n## Assumptions\n')
  printTable(['assumption', 'value', 'unit', 'why'], assumptionRows(scenario))
}

/** Rows of the totals, each with the error of the sampling: two standard errors, 95 %. */
export function totalRows(scenario, { totals }) {
  const { requests, admitted } = totals
  const row = (name, { total, error }, of) => [
    name,
    whole(total),
    total > 0 ? `± ${percent((2 * error) / total, 2)}` : '',
    of === undefined ? '' : percent(total / of.total, 2),
  ]
  const keys = { total: totals.keyMs.total / scenario.runMs, error: totals.keyMs.error / scenario.runMs }
  return [
    row('requests', requests),
    row('asked of Redis', totals.asked, requests),
    row('admitted', admitted, requests),
    row('an exact log admits', totals.exact, requests),
    row('denied', totals.denied, requests),
    row('over-admission: admitted where an exact log had no room', totals.over, admitted),
    row('under-admission: denied where it had room', totals.under, requests),
    row('users who asked', totals.seen, { total: scenario.users }),
    row('keys in Redis, mean', keys),
  ]
}

export function printTotals(scenario, result) {
  console.log(
    `\n## Totals\n\n${whole(result.simulated)} users were simulated, with ${whole(result.takes)} decisions of real limiters.\n`,
  )
  printTable(['', 'total', '95 %', 'of requests, admitted or users'], totalRows(scenario, result))
}

/** Rows of equal times: at most 24, each the mean of its buckets, memory and CPU the most. */
export function timeRows(loads) {
  const size = Math.ceil(loads.length / 24)
  return Array.from({ length: Math.ceil(loads.length / size) }, (_, i) => {
    const part = loads.slice(i * size, (i + 1) * size)
    const mean = (of) => sum(part.map(of)) / part.length
    return [
      (part[0].hour - loads[0].hour).toFixed(1),
      whole(mean((one) => one.requests)),
      whole(mean((one) => one.asked)),
      whole(mean((one) => one.messages)),
      percent(mean((one) => one.denied) / mean((one) => one.requests)),
      (mean((one) => one.keys) / 1e6).toFixed(2),
      gigabytes(most(part.map((one) => sum(one.memory)))),
      gigabytes(most(part.map((one) => most(one.memory)))),
      percent(most(part.map((one) => most(one.redis)))),
      percent(most(part.map((one) => one.gateway))),
    ]
  })
}

export function printTimes(loads) {
  console.log('\n## By time\n')
  printTable(
    [
      'hour',
      'requests/s',
      'decisions/s',
      'commands and messages/s',
      'denied',
      'million keys',
      'GB, all',
      'GB, fullest primary',
      'busiest primary, of a core',
      'a gateway, of a core',
    ],
    timeRows(loads),
  )
}

export function printPrimaries(loads) {
  console.log('\n## By primary, at its peak\n')
  printTable(
    ['primary', 'GB', 'decisions/s', 'of a core'],
    loads[0].memory.map((_, p) => [
      p,
      gigabytes(most(loads.map((one) => one.memory[p]))),
      whole(most(loads.map((one) => one.asksOfPrimary[p]))),
      percent(most(loads.map((one) => one.redis[p]))),
    ]),
  )
}

/** Prints the keys that are asked for most, and the slots that have them. */
export function printHot(scenario, { head, totals }) {
  const ofHead = sum(head.map(({ asked }) => asked))
  const ofOthers = (totals.asked.total - ofHead) / 16_384
  const slots = new Map()
  for (const { slot, asked } of head) slots.set(slot, (slots.get(slot) ?? ofOthers) + asked)
  const hottest = [...slots].sort((a, b) => b[1] - a[1]).slice(0, 5)
  const perPrimary = totals.asked.total / scenario.primaries
  const seconds = scenario.runMs / 1000
  console.log('\n## Hot keys and slots\n')
  printTable(
    [
      'user',
      'tier',
      'requests/s, mean',
      'decisions/s, mean',
      'admitted',
      '÷ exact',
      'over',
      'slot',
      'primary',
    ],
    [...head]
      .sort((a, b) => b.asked - a.asked)
      .slice(0, 8)
      .map((user) => [
        user.rank,
        user.tier,
        (user.requests / seconds).toFixed(1),
        (user.asked / seconds).toFixed(1),
        whole(user.admitted),
        percent(user.admitted / Math.max(1, user.exact)),
        percent(user.over / Math.max(1, user.admitted)),
        user.slot,
        user.primary,
      ]),
  )
  console.log(
    `\nA slot without one of the ${head.length} busiest users: ${(ofOthers / seconds).toFixed(2)} decisions a second.\n`,
  )
  printTable(
    ['slot', 'decisions/s, mean', 'of a mean primary'],
    hottest.map(([slot, asked]) => [slot, (asked / seconds).toFixed(1), percent(asked / perPrimary, 2)]),
  )
}

/** Prints what each failure did: in its own time and in the hour after its beginning. */
export function printFailures(scenario, { tally }) {
  const { failures, runMs, buckets, primaries } = scenario
  if (failures.length === 0) return
  const size = runMs / buckets
  const within = (flow, from, to) => {
    let all = 0
    for (let b = Math.floor(from / size); b < Math.min(buckets, Math.ceil(to / size)); b++) {
      for (let p = 0; p < primaries; p++) all += tally.flows[flow][b * primaries + p]
    }
    return all
  }
  const admitted = (from, to) => within('requests', from, to) - within('denied', from, to)
  const HOUR = 3_600_000
  console.log('\n## Failures\n')
  printTable(
    [
      'failure',
      'from',
      'decided without Redis',
      'over, an hour from then on',
      'over, the hour before',
      'admitted ÷ exact, an hour from then on',
      'users a gateway counts',
      'MiB',
    ],
    failures.map(({ kind, at, for: time }, i) => {
      const users = (tally.localPairs[i] ?? 0) / scenario.gateways
      const over = (from, to) => percent(within('over', from, to) / Math.max(1, admitted(from, to)), 2)
      const without = ['uncounted', 'local', 'closed'].map((flow) => within(flow, at, at + time))
      return [
        `${kind}, ${time / 1000} s`,
        `${(at / HOUR).toFixed(1)} h`,
        whole(sum(without)),
        over(at, at + HOUR),
        over(Math.max(0, at - HOUR), at),
        percent(admitted(at, at + HOUR) / Math.max(1, within('exact', at, at + HOUR)), 2),
        whole(users),
        ((users * scenario.localBytes) / 2 ** 20).toFixed(1),
      ]
    }),
  )
}

export function printNeeds(scenario, needs, loads) {
  const { gateways, primaries, busiest, maxmemory } = scenario
  const chatter = chatterOf(scenario, gateways)
  const lookups = most(loads.map((one) => one.lookups))
  console.log('\n## What it needs\n')
  printTable(
    ['', 'at the peak', `at most ${percent(busiest, 0)} of a core, ${maxmemory} GiB a primary`],
    [
      [
        'gateways',
        `${gateways}, ${percent(needs.gateway)} of a core each`,
        `${needs.gatewaysNeeded}, and those that may fail`,
      ],
      ['primaries, CPU', `${primaries}, ${percent(needs.redis)} of a core`, needs.primariesForCpu],
      ['primaries, memory', `${gigabytes(needs.fullest)} GB with assignments`, needs.primariesForMemory],
      ['idle chatter', `${whole(chatter.beats)} commands/s`, ''],
      ['look-ups of strangers', `${whole(lookups)} a second`, ''],
      ['a million requests', needs.perMillion.toFixed(4), `${percent(needs.gatewayShare, 0)} of it gateways`],
    ],
  )
}

import { defineCommand, Refused, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION, configFile, readGoodConfig } from '../config-file.js'
import { describePlan, planJson, share } from '../print/describe-plan.js'
import { columnsOf, complain, print, printable, printJson } from '../print/terminal.js'
import type { LineProblems } from '../read/access-lines.js'

const MOST_SHOWN = 10

export const command = defineCommand({
  name: 'plan',
  help: `Usage: tidegate plan --log FILE [--log FILE]... [--config FILE]
                     [--at-most PERCENT] [--top N] [--json]

Says what the limits of a configuration would have done to the traffic of an
access log: how many requests would have been denied that were not, of whom, and
by which limit. Nothing is asked of a gateway or a store, and nothing is sent.

Options:
  --log FILE          an access log of Tidegate, plain or compressed by gzip;
                      - is the standard input. Several, such as those of all
                      gateways, are taken together, in the order of time
  --at-most PERCENT   exit with 1 when more of the requests would be newly
                      denied, such as 0.1%
  --top N             how many consumers are shown; by default ${MOST_SHOWN}
${CONFIG_HELP}
  --json              print JSON`,
  options: {
    log: { type: 'string', multiple: true },
    'at-most': { type: 'string' },
    top: { type: 'string' },
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  async run({ log, top, config: option, json, ...flags }, io) {
    if (log === undefined)
      throw new WrongUse(
        'tidegate plan: --log FILE is missing: the access log to look at; see: tidegate plan --help',
      )
    if (new Set(log).size < log.length) throw new WrongUse('tidegate plan: a --log is given twice')
    const atMost = flags['at-most'] === undefined ? undefined : percentOf(flags['at-most'])
    const shown = top === undefined ? MOST_SHOWN : countOf(top)
    const file = configFile(io, 'plan', option)
    const config = readGoodConfig(io, 'plan', file)
    const [{ compileSnapshot }, { createPlan }, { loggedRequests }, { createTally }] = await Promise.all([
      import('../../config/snapshot/snapshot.js'),
      import('../../gateway/simulate/log-replay.js'),
      import('../read/access-lines.js'),
      import('../read/plan-tally.js'),
    ])
    const snapshot = compileSnapshot(config, Date.now())
    const plan = createPlan(snapshot)
    const tally = createTally()
    const problems: LineProblems = { other: 0, first: undefined }
    try {
      for await (const request of loggedRequests(io, log, problems)) tally.add(request, plan.request(request))
    } catch (error) {
      throw new Refused(`tidegate plan: ${(error as Error).message}`)
    }
    if (tally.span() === undefined) {
      const found = problems.other === 0 ? 'it is empty' : `${problems.first} is no line of an access log`
      throw new Refused(
        `tidegate plan: no request in ${log.join(', ')}: ${found}; log.access says where a gateway writes its own`,
      )
    }
    const told = {
      file,
      hash: snapshot.hash,
      logs: log,
      tally,
      problems,
      shown,
      unknownTiers: plan.unknownTiers(),
      forgot: plan.forgot(),
      logged: config.log.sample,
    }
    if (json) printJson(io, planJson(told))
    else print(io, printable(describePlan(told, columnsOf(io.stdout))))
    const { newlyDenied, requests } = tally.all
    if (atMost === undefined || newlyDenied * 100 <= atMost * requests) return 0
    complain(
      io,
      `tidegate plan: ${share(newlyDenied, requests)} of the requests would be newly denied, more than ${atMost} % (--at-most)`,
    )
    return 1
  },
})

function percentOf(text: string): number {
  if (!/^\d+(\.\d+)?%?$/.test(text) || Number.parseFloat(text) > 100)
    throw new WrongUse(`tidegate plan: --at-most takes a share of the requests, such as 0.1%`)
  return Number.parseFloat(text)
}

function countOf(text: string): number {
  if (!/^\d{1,6}$/.test(text))
    throw new WrongUse('tidegate plan: --top takes how many consumers to show, such as 20')
  return Number(text)
}

import { JSON_OPTION, missingText, Refused, WrongUse } from '../command.js'
import { CONFIG_OPTION, configFile, readGoodConfig } from '../config-file.js'
import { defineCommand } from '../define-command.js'
import { describePlan, planJson, share } from '../print/describe-plan.js'
import type { LineProblems } from '../read/access-lines.js'

const MOST_SHOWN = 10

export const command = defineCommand({
  name: 'plan',
  usage: ['--log FILE [--log FILE]... [--config FILE] [--at-most PERCENT] [--top N] [--json]'],
  about: `Shows what the limits of a configuration would have done to the traffic of an access log: how many more requests they
would have denied, of which consumers, and by which limit. The command asks no gateway and no store, and sends nothing.`,
  options: {
    log: {
      value: 'FILE',
      multiple: true,
      help: `an access log of Tidegate, plain or compressed with gzip; - is the standard input; repeatable: the command
merges the logs of all gateways in the order of time`,
    },
    'at-most': {
      value: 'PERCENT',
      help: 'exit with 1 if a larger share of the requests would be newly denied, such as 0.1%',
    },
    top: { value: 'N', help: `how many consumers to show; by default ${MOST_SHOWN}` },
    config: CONFIG_OPTION,
    json: JSON_OPTION,
  },
  async run({ log, top, config: option, 'at-most': most }, _, io) {
    if (log === undefined) throw new WrongUse(missingText(['--log FILE']))
    if (new Set(log).size < log.length) throw new WrongUse('a --log is given twice')
    const atMost = most === undefined ? undefined : percentOf(most)
    const shown = top === undefined ? MOST_SHOWN : countOf(top)
    const file = configFile(io, option)
    const config = readGoodConfig(io, file)
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
      throw new Refused((error as Error).message)
    }
    if (tally.span() === undefined) {
      const found = problems.other === 0 ? 'it is empty' : `${problems.first} is no line of an access log`
      throw new Refused(
        `no request in ${log.join(', ')}: ${found}; log.access names the file that a gateway writes`,
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
    const { newlyDenied, requests } = tally.all
    const tooMany = atMost !== undefined && newlyDenied * 100 > atMost * requests
    return {
      data: planJson(told),
      text: (columns) => describePlan(told, columns),
      code: tooMany ? 1 : 0,
      warning: tooMany
        ? `${share(newlyDenied, requests)} of the requests would be newly denied, more than ${atMost} % (--at-most)`
        : undefined,
    }
  },
})

function percentOf(text: string): number {
  if (!/^\d+(\.\d+)?%?$/.test(text) || Number.parseFloat(text) > 100)
    throw new WrongUse(`--at-most needs a share of the requests, such as 0.1%, not ${text}`)
  return Number.parseFloat(text)
}

function countOf(text: string): number {
  if (!/^\d{1,6}$/.test(text))
    throw new WrongUse(`--top needs a number of consumers, such as 20, not ${text}`)
  return Number(text)
}

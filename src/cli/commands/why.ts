import type { DecisionAnswer, DecisionTold } from '../../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionPart } from '../../telemetry/decisions/decision-data.js'
import { seconds } from '../../telemetry/decisions/why.js'
import { ADMIN_HELP, ADMIN_OPTION } from '../client/admin-option.js'
import { withControl } from '../client/with-control.js'
import { defineCommand, WrongUse } from '../command.js'
import { CONFIG_HELP, CONFIG_OPTION } from '../config-file.js'
import { limitTable, requestRows } from '../print/describe-decision.js'
import {
  columnsOf,
  complain,
  details,
  oneLine,
  print,
  printable,
  printJson,
  wrapped,
} from '../print/terminal.js'

export const command = defineCommand({
  name: 'why',
  help: `Usage: tidegate why REQUEST_ID [--admin HOST:PORT | --config FILE] [--json]
       tidegate why --consumer CONSUMER [--service SERVICE] [the same]

Says why a request was limited, or was not: its route, who was calling, how the
tier was found, how each limit stood, and where it was decided. REQUEST_ID is
what the response has in X-Request-Id; a refusal has it in its body, too.

Options:
  --consumer CONSUMER the latest denial of this consumer, as tidegate top names
                      it; where there is none, the latest that is kept
  --service SERVICE   of this service only
${ADMIN_HELP}
${CONFIG_HELP}
  --json              print JSON

The running gateway is asked, at admin.listen, and asks all others on its Redis;
where none runs here, and the configuration has store.redis, they are asked
through that. Each keeps the latest denials, failures and refusals, and of what
went well a share, explain.sample.`,
  options: {
    consumer: { type: 'string' },
    service: { type: 'string' },
    admin: ADMIN_OPTION,
    config: CONFIG_OPTION,
    json: { type: 'boolean' },
  },
  positionals: ['REQUEST_ID'],
  async run({ consumer, service, admin, config, json }, io, [requestId]) {
    const wrong = (what: string) => new WrongUse(`tidegate why: ${what}; see: tidegate why --help`)
    if (requestId === undefined && consumer === undefined)
      throw wrong('REQUEST_ID is missing, or --consumer CONSUMER')
    if (requestId !== undefined && (consumer ?? service) !== undefined)
      throw wrong('REQUEST_ID is of one request: leave --consumer and --service out')
    const of = service === undefined ? '' : `&service=${encodeURIComponent(service)}`
    const path =
      requestId === undefined
        ? `/decisions?consumer=${encodeURIComponent(consumer!)}${of}`
        : `/decisions/${encodeURIComponent(requestId)}`
    return withControl(io, 'why', { config, admin, whose: 'any' }, async (control) => {
      const decision = await control.call<DecisionTold & Partial<Pick<DecisionAnswer, 'nodes'>>>('GET', path)
      if (json) printJson(io, decision)
      else print(io, printable(describe(decision, columnsOf(io.stdout))))
      const missing = decision.nodes === undefined ? undefined : missingOf(decision.nodes)
      if (missing !== undefined) complain(io, printable(`tidegate why: there may be a later one: ${missing}`))
      return 0
    })
  },
})

/** Describes the gateways that could not be asked. */
function missingOf({ silent, problem }: DecisionAnswer['nodes']): string | undefined {
  if (problem !== null) return `others could not be asked: ${problem}`
  return silent.length === 0 ? undefined : `no answer came from ${silent.join(', ')}`
}

function describe(d: DecisionTold, columns: number | undefined): string {
  const rows = [
    [
      'request',
      `${d.request_id} at ${d.time}${d.times > 1 ? `, the latest of ${d.times} with this id` : ''}`,
    ],
    ...requestRows(d),
    ['decided', decidedOf(d)],
    ['answered', answeredOf(d)],
    ['gateway', `${d.node}${d.worker === null ? '' : `, worker ${d.worker}`}, configuration ${d.config}`],
  ]
  const limits = limitTable(d.limits, columns)
  return [
    wrapped(oneLine(d.why), 0, columns),
    '',
    details(rows, columns),
    ...(limits === '' ? [] : ['', limits]),
  ].join('\n')
}

const BY: Readonly<Record<DecisionPart['decided_by'], string>> = {
  store: 'by the store',
  cache: 'by a denial that was remembered',
  local: 'by this gateway alone',
  open: 'without counting',
  closed: 'without counting',
}

function decidedOf({ decision, limits }: DecisionTold): string {
  if (decision === null) return limits.length === 0 ? 'no limit was asked' : ''
  const { decided_by: by, reason, took_ms: took, counted_ms_before: age } = decision
  const why = reason === null ? '' : `, store: ${reason}`
  const old = age > 0 ? `, counted ${seconds(age)} before` : ''
  return `${BY[by]}${why}, in ${took} ms${old}`
}

function answeredOf({
  status,
  error,
  cause,
  upstream,
  upstream_ms: upstreamMs,
  duration_ms: ms,
}: DecisionTold): string {
  const what = [String(status), error, cause === null ? null : `(${cause})`].filter((part) => part !== null)
  const from = upstream === null ? 'by the gateway' : `from ${upstream} in ${upstreamMs} ms`
  return `${what.join(' ')} ${from}, after ${ms} ms`
}

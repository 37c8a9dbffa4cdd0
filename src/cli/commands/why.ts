import type { DecisionAnswer, ReportedDecision } from '../../telemetry/decisions/all-gateways-decisions.js'
import type { DecisionPart } from '../../telemetry/decisions/decision-data.js'
import { seconds } from '../../telemetry/decisions/why.js'
import { apiPath, queryOf } from '../api-path.js'
import { missingText, WrongUse } from '../command.js'
import { adminCommand } from '../define-command.js'
import { describeAnswer, requestRows } from '../print/describe-decision.js'

export const command = adminCommand({
  name: 'why',
  usage: ['REQUEST_ID', '--consumer CONSUMER [--service SERVICE]'],
  about: `Shows why a request was limited, or was not: its route, the consumer, where the tier came from, how each limit stood,
and what decided. REQUEST_ID is in the response header X-Request-Id; a refusal also has it in its body.`,
  notes: `Each gateway keeps its latest denials, failures and refusals, and a share of the successes (decisions.sample).`,
  whose: 'any',
  options: {
    consumer: {
      value: 'CONSUMER',
      help: 'the latest denial of this consumer, as tidegate top names it; without a denial, the latest request that is kept',
    },
    service: { value: 'SERVICE', help: 'only on this service' },
  },
  positionals: ['[REQUEST_ID]'],
  run({ consumer, service }, [requestId]) {
    if (requestId === undefined && consumer === undefined)
      throw new WrongUse(missingText(['REQUEST_ID or --consumer']))
    if (requestId !== undefined && (consumer ?? service) !== undefined)
      throw new WrongUse('REQUEST_ID names one request: leave --consumer and --service out')
    const path =
      requestId === undefined
        ? `/decisions${queryOf({ consumer, service })}`
        : apiPath`/decisions/${requestId}`
    return async (control) => {
      const decision = await control.call<ReportedDecision & Partial<Pick<DecisionAnswer, 'nodes'>>>(
        'GET',
        path,
      )
      const missing = decision.nodes === undefined ? undefined : missingOf(decision.nodes)
      return {
        data: decision,
        text: (columns) => describe(decision, columns),
        warning: missing && `there may be a later request: ${missing}`,
      }
    }
  },
})

/** Describes the gateways that could not be asked. */
function missingOf({ silent, problem }: DecisionAnswer['nodes']): string | undefined {
  if (problem !== null) return `others could not be asked: ${problem}`
  return silent.length === 0 ? undefined : `no answer came from ${silent.join(', ')}`
}

function describe(d: ReportedDecision, columns: number | undefined): string {
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
  return describeAnswer(d, rows, columns)
}

const BY: Readonly<Record<DecisionPart['decided_by'], string>> = {
  store: 'by the store',
  cache: 'by a denial that was remembered',
  local: 'by this gateway alone',
  open: 'without counting',
  closed: 'without counting',
}

function decidedOf({ decision, limits }: ReportedDecision): string {
  if (decision === null) return limits.length === 0 ? 'without a limit' : ''
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
}: ReportedDecision): string {
  const what = [String(status), error, cause === null ? null : `(${cause})`].filter((part) => part !== null)
  const from = upstream === null ? 'by the gateway' : `from ${upstream} in ${upstreamMs} ms`
  return `${what.join(' ')} ${from}, after ${ms} ms`
}

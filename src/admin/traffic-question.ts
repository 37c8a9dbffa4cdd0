import type { Question } from '../fleet/question.js'
import type { Traffic } from '../telemetry/metrics/overview.js'

/** Traffic of one process since its start. */
export interface ProcessTraffic {
  /** Process id. */
  readonly process: number
  readonly traffic: Traffic
}

/** Asks workers for the counts of the page and of the history: a few of all metrics. */
export const TRAFFIC: Question<
  { readonly metrics: { traffic(): Traffic } },
  null,
  readonly ProcessTraffic[]
> = {
  name: 'traffic',
  answer: ({ metrics }) => [{ process: process.pid, traffic: metrics.traffic() }],
  merge: (answers) => answers.flat(),
}

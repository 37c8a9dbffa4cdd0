import type { Config } from '../../config/schema/schema.js'
import { type AccessLog, createAccessLog } from './access-log.js'
import { createLineFilter } from './line-filter.js'

/**
 * Opens the access log that is configured.
 *
 * @param shared true if other processes write to the same file
 */
export function openAccessLog(
  { access, sample, max_errors }: Config['log'],
  log: Record<'warn', (fields: object, message: string) => void>,
  shared: boolean,
): AccessLog {
  return createAccessLog({
    destination: access,
    shared,
    filter: createLineFilter({
      sample,
      maxErrors: max_errors,
      onFlood: (left_out) =>
        log.warn({ left_out, max_errors }, 'access log lines of failed requests were left out'),
    }),
    onProblem: (error) => log.warn({ error: error.message }, 'access log lines are being dropped'),
  })
}

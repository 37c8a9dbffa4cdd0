import type { Config } from '../config/schema/schema.js'
import { readOtelEnvironment } from './export/otel-environment.js'
import { metricsPush, recordsExponential, serviceName } from './export/otlp-settings.js'
import { tracesOptions } from './traces/tracing-settings.js'

/**
 * Returns how metrics and traces are recorded and pushed, by the configuration and the environment. Rejects with an
 * Error for the operator when a file that they name cannot be read.
 *
 * @param pushes true if this process pushes: of several, only the one that supervises the workers does
 */
export async function telemetryOptions(
  { telemetry, instance }: Pick<Config, 'telemetry' | 'instance'>,
  env: NodeJS.ProcessEnv,
  log: { warn(fields: object, message: string): void },
  pushes: boolean,
) {
  const otel = readOtelEnvironment(env, instance)
  if (pushes && otel.problems.length > 0) {
    log.warn({ problems: otel.problems }, 'environment variables for OpenTelemetry are invalid and ignored')
  }
  return {
    otlp: pushes ? metricsPush(telemetry, otel) : undefined,
    exponential: recordsExponential(telemetry, otel),
    serviceName: serviceName(telemetry, otel),
    traces: tracesOptions(telemetry, otel),
  }
}

import type { FastifyInstance } from 'fastify'
import type { TextFormat } from '../telemetry/text-format.js'
import type { AdminDeps } from './deps.js'

type Format = TextFormat | 'native'

const TYPES: Readonly<Record<Format, string>> = {
  plain: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  native: 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited',
}

export function metricsRoutes(app: FastifyInstance, { metrics }: Pick<AdminDeps, 'metrics'>): void {
  app.get('/metrics', async ({ headers }, reply) => {
    const format = wantedFormat(headers.accept, metrics.scrapeNative !== undefined)
    reply.type(TYPES[format])
    return format === 'native' ? metrics.scrapeNative!() : metrics.scrape(format)
  })
}

/**
 * The form of exposition that is asked for most, of those that there are; the plain text unless another is named. Prometheus
 * names them all, with weights.
 */
export function wantedFormat(accept = '', native = false): Format {
  const weights: Record<Format, number> = { native: 0, openmetrics: 0, plain: 0 }
  for (const range of accept.toLowerCase().split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim())
    const of = (name: string) =>
      parameters.find((parameter) => parameter.startsWith(`${name}=`))?.slice(name.length + 1)
    const weight = Number(of('q') ?? 1)
    if (type === 'application/vnd.google.protobuf') {
      const isOurs = of('proto') === 'io.prometheus.client.metricfamily' && of('encoding') === 'delimited'
      if (native && isOurs) weights.native = Math.max(weights.native, weight)
    } else if (type === 'application/openmetrics-text') {
      if ((of('version') ?? '1.0.0') === '1.0.0') weights.openmetrics = Math.max(weights.openmetrics, weight)
    } else if (type === 'text/plain') weights.plain = Math.max(weights.plain, weight)
  }
  const { native: n, openmetrics: o, plain: p } = weights
  if (n > 0 && n >= o && n >= p) return 'native'
  return o > 0 && o >= p ? 'openmetrics' : 'plain'
}

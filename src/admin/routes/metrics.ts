import type { FastifyInstance } from 'fastify'
import type { TextFormat } from '../../telemetry/export/text-format.js'
import type { AdminDeps } from '../deps.js'

const TYPES: Readonly<Record<TextFormat, string>> = {
  plain: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

export function metricsRoutes(app: FastifyInstance, { metrics }: Pick<AdminDeps, 'metrics'>): void {
  app.get('/metrics', async ({ headers }, reply) => {
    const format = wantedFormat(headers.accept)
    reply.type(TYPES[format])
    return metrics.scrape(format)
  })
}

/**
 * Chooses the exposition format with the highest weight; plain text unless another is named. Prometheus names all, with
 * weights.
 */
export function wantedFormat(accept = ''): TextFormat {
  const weights: Record<TextFormat, number> = { openmetrics: 0, plain: 0 }
  for (const range of accept.toLowerCase().split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim())
    const of = (name: string) =>
      parameters.find((parameter) => parameter.startsWith(`${name}=`))?.slice(name.length + 1)
    const weight = Number(of('q') ?? 1)
    if (type === 'application/openmetrics-text') {
      if ((of('version') ?? '1.0.0') === '1.0.0') weights.openmetrics = Math.max(weights.openmetrics, weight)
    } else if (type === 'text/plain') weights.plain = Math.max(weights.plain, weight)
  }
  return weights.openmetrics > 0 && weights.openmetrics >= weights.plain ? 'openmetrics' : 'plain'
}

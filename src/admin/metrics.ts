import type { FastifyInstance } from 'fastify'
import type { TextFormat } from '../telemetry/text-format.js'
import type { AdminDeps } from './deps.js'

const TYPES: Readonly<Record<TextFormat, string>> = {
  plain: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

export function metricsRoutes(app: FastifyInstance, deps: Pick<AdminDeps, 'metrics'>): void {
  app.get('/metrics', async ({ headers }, reply) => {
    const format = wantedFormat(headers.accept)
    reply.type(TYPES[format])
    return deps.metrics.scrape(format)
  })
}

/** OpenMetrics when it is asked for by name, at least as much as plain text is; which is what Prometheus does. */
export function wantedFormat(accept = ''): TextFormat {
  let plain = 0
  let open = 0
  for (const range of accept.toLowerCase().split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim())
    const q = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
    const weight = q === undefined ? 1 : Number(q)
    if (type === 'application/openmetrics-text') {
      const version = parameters.find((parameter) => parameter.startsWith('version='))?.slice(8) ?? '1.0.0'
      if (version === '1.0.0' && weight > open) open = weight
    } else if (type === 'text/plain' && weight > plain) plain = weight
  }
  return open > 0 && open >= plain ? 'openmetrics' : 'plain'
}

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { createFamilies } from '../../src/telemetry/families.js'
import { createMetrics } from '../../src/telemetry/metrics.js'
import { parseExposition, sampleOf } from '../support/exposition.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../support/snapshot.js'

const snapshot = exampleSnapshot()

interface Push {
  readonly path: string | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: {
    readonly resourceMetrics: readonly {
      readonly resource: {
        readonly attributes: readonly { readonly key: string; readonly value: { stringValue?: string } }[]
      }
      readonly scopeMetrics: readonly { readonly metrics: readonly PushedMetric[] }[]
    }[]
  }
}

interface PushedMetric {
  readonly name: string
  readonly unit: string
  readonly sum?: {
    readonly isMonotonic: boolean
    readonly dataPoints: readonly { readonly asDouble: number }[]
  }
  readonly gauge?: unknown
  readonly histogram?: {
    readonly dataPoints: readonly {
      readonly count: number
      readonly sum: number
      readonly bucketCounts: readonly number[]
      readonly explicitBounds: readonly number[]
      readonly attributes: readonly { readonly key: string; readonly value: object }[]
    }[]
  }
}

async function collector(t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function metricsTo(url: string, intervalMs: number, warned: string[] = []) {
  return createMetrics({
    storeState: () => 'up',
    upstreams: () => [
      {
        service: 'payments',
        upstream: 'http://127.0.0.1:9001',
        healthy: true,
        inFlight: 0,
        ejections: 0,
        checksPassed: 0,
        checksFailed: 0,
      },
    ],
    logLinesDropped: () => 0,
    serviceName: 'edge-eu',
    otlp: { url, intervalMs, headers: { authorization: 'Bearer s3cret' } },
    log: { warn: (details, message) => warned.push(JSON.stringify(details) + message) },
  })
}

/** The name that Prometheus' OTLP receiver gives by default: dots to underscores, then the unit, then `_total`. */
function nameFromOtlp({ name, unit, sum }: Pick<PushedMetric, 'name' | 'unit' | 'sum'>): string {
  const words = name.split(/[^a-zA-Z0-9]+/)
  if (unit === 's' && !words.includes('seconds')) words.push('seconds')
  if (sum?.isMonotonic === true) words.push('total')
  return words.join('_')
}

t.test(
  'pushes the same series over OTLP that /metrics shows, under the same names once Prometheus has taken them',
  async (t) => {
    const pushes: Push[] = []
    const url = await collector(t, (request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk) => chunks.push(chunk))
      request.on('end', () => {
        pushes.push({
          path: request.url,
          headers: request.headers,
          body: JSON.parse(Buffer.concat(chunks).toString()),
        })
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
      })
    })
    const metrics = metricsTo(url, 60_000)
    metrics.loaded(snapshot)
    metrics.record(exampleRecord(snapshot, { durationMs: 13.25 }))
    metrics.record(
      exampleRecord(snapshot, { decision: exampleDecision({ decidedBy: 'open', reason: 'timeout' }) }),
    )
    const scraped = parseExposition(await metrics.scrape())
    await metrics.close()

    t.equal(pushes.length, 1, 'the last figures go out at the end')
    t.equal(pushes[0]?.path, '/v1/metrics')
    t.equal(pushes[0]?.headers.authorization, 'Bearer s3cret')
    const resource = pushes[0]?.body.resourceMetrics[0]
    const attributes = Object.fromEntries(
      (resource?.resource.attributes ?? []).map(({ key, value }) => [key, value.stringValue]),
    )
    t.equal(attributes['service.name'], 'edge-eu')
    t.ok(attributes['service.instance.id'], 'two nodes do not overwrite each other')

    const pushed = resource?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
    const own = [...scraped.types.keys()].filter((name) => /^(?:http|tidegate)_/.test(name))
    t.same(pushed.map(nameFromOtlp).sort(), own.sort())
    const server = pushed.find(({ name }) => name === 'http.server.request.duration')
    t.equal(server?.unit, 's')
    const point = server?.histogram?.dataPoints[0]
    t.equal(point?.count, 2)
    t.match(point?.sum, 0.0265)
    t.equal(point?.bucketCounts.length, (point?.explicitBounds.length ?? 0) + 1)
    t.match(Object.fromEntries(point?.attributes.map(({ key, value }) => [key, value]) ?? []), {
      'http.route': { stringValue: '/payments/*' },
      'http.response.status_code': { intValue: 200 },
      'tidegate.service': { stringValue: 'payments' },
    })
  },
)

t.test('both names of every metric agree', async (t) => {
  for (const { definition } of Object.values(createFamilies())) {
    const sum = { isMonotonic: definition.kind === 'counter', dataPoints: [] }
    t.equal(nameFromOtlp({ name: definition.otlp, unit: definition.unit, sum }), definition.prometheus)
  }
})

t.test('a collector that refuses is counted, logged once, and costs nothing else', async (t) => {
  let asked = 0
  const url = await collector(t, (request, response) => {
    asked++
    request.resume()
    response.writeHead(400).end()
  })
  const warned: string[] = []
  const metrics = metricsTo(`${url}/custom/path?key=s3cret`, 20, warned)
  while (asked < 3) await new Promise((resolve) => setTimeout(resolve, 10))
  const failures = sampleOf(await metrics.scrape(), 'tidegate_otlp_export_failures_total') ?? 0
  await metrics.close()
  t.ok(failures >= 2, `${failures} counted when the third was under way`)
  t.equal(warned.length, 1)
  t.match(warned[0], /could not be pushed/)
  t.notMatch(warned[0], /s3cret/)
})

t.test('a collector that hangs does not hold the end up for more than two seconds', async (t) => {
  const url = await collector(t, () => {})
  const metrics = metricsTo(url, 3000)
  const began = performance.now()
  await metrics.close()
  t.ok(performance.now() - began < 8_000, 'two, and room for a machine with much else to do')
})

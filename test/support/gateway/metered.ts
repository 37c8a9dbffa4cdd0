import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Ajv } from 'ajv'
import type { Test } from 'tap'
import { Pool } from 'undici'
import type { UsageEvent } from '../../../src/metering/events.js'
import { openMetering } from '../../../src/metering/metering.js'
import type { GatewayProcess } from './process.js'
import { exampleRecord, exampleSnapshot } from './snapshot.js'

const ajv = new Ajv({
  allErrors: true,
  allowUnionTypes: true,
  formats: {
    'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
    uri: (text) => URL.canParse(text),
    'uri-reference': (text) => URL.canParse(text, 'http://base/') && !/[\s<>"{}|\\^`]/.test(text),
  },
})
/** What receivers ask of an event. */
const schemas = ['cloudevents-1.0', 'openmeter-event'].map((name) => {
  const file = new URL(`../../fixtures/metering/${name}.json`, import.meta.url)
  return { name, isValid: ajv.compile(JSON.parse(readFileSync(file, 'utf8'))) }
})

/** Returns why receivers would refuse a request; undefined if they take it. */
export function refusalOf(type: string | undefined, batch: unknown): string | undefined {
  // OpenMeter's first API compares it as a whole.
  if (type !== 'application/cloudevents-batch+json') return `content-type: ${type}`
  if (!Array.isArray(batch) || batch.length === 0) return 'no batch'
  for (const event of batch) {
    for (const { name, isValid } of schemas)
      if (!isValid(event)) return `${name}: ${ajv.errorsText(isValid.errors)} in ${JSON.stringify(event)}`
  }
  return undefined
}

/**
 * Starts a receiver of usage events that removes duplicates by source and id, as OpenMeter does, and that can be switched off. An
 * event that the receivers of `docs/metering.md` would refuse fails the test.
 *
 * @param answer chooses the status for a batch
 */
export async function startReceiver(t: Test, answer: (events: readonly UsageEvent[]) => number = () => 204) {
  const events = new Map<string, UsageEvent>()
  const requests: {
    readonly type: string | undefined
    readonly token: string | undefined
    readonly events: number
  }[] = []
  const state = { up: true }
  const server = createServer(async (req, res) => {
    let text = ''
    for await (const piece of req.setEncoding('utf8')) text += piece
    const batch = JSON.parse(text) as UsageEvent[]
    const { 'content-type': type, authorization: token } = req.headers
    requests.push({ type, token, events: batch.length })
    const refusal = refusalOf(type, batch)
    if (refusal !== undefined) t.fail(`the receiver refuses ${refusal}`)
    const status = state.up ? answer(batch) : 503
    // Half of the time it was switched off only after it had taken them.
    if (status < 300 || (!state.up && Math.random() < 0.5)) {
      for (const event of batch) events.set(`${event.source} ${event.id}`, event)
    }
    res.writeHead(status, status === 503 ? { 'retry-after': '1' } : {}).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const count = (name: string, id?: string) =>
    [...events.values()]
      .filter(({ subject }) => id === undefined || subject === id)
      .reduce((sum, { data }) => sum + Number(data[name] ?? 0), 0)
  return { url: `http://127.0.0.1:${port}/api/v1/events?a=b`, events, requests, state, count }
}

/** Returns the configuration of a gateway that meters in intervals of a second. */
export const meteredConfig = (upstream: string, receiver: string, spool: string, limit = 'unlimited') => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: [anyone] } }]
services: { api: { upstreams: [${upstream}], limits: { free: ${limit} } } }
routes: [{ path: /*, service: api }]
metering: { every: 1s, spool: { path: ${spool} }, to: { http: { url: "${receiver}" } } }
server: { shutdown_delay: 0 }
log: { access: off }
`

/** Sends requests to a gateway from four clients until it is stopped. The gateway may be replaced by another meanwhile. */
export function startLoad(gateway: () => GatewayProcess) {
  let served = 0
  let asked = 0
  let stopped = false
  const client = async (id: number) => {
    let origin = gateway().address
    let pool = new Pool(origin)
    while (!stopped) {
      if (gateway().address !== origin) {
        void pool.destroy()
        origin = gateway().address
        pool = new Pool(origin)
      }
      asked++
      await pool
        .request({ method: 'GET', path: '/', headers: { 'x-user-id': `c${id}` } })
        .then(async ({ statusCode, body }) => {
          await body.dump()
          if (statusCode === 200) served++
        })
        .catch(() => new Promise((resolve) => setTimeout(resolve, 20)))
    }
    await pool.close()
  }
  const clients = [0, 1, 2, 3].map(client)
  return {
    /** Returns the requests that were answered with 200. */
    served: () => served,
    /** Returns the requests that were sent. */
    asked: () => asked,
    async stop() {
      stopped = true
      await Promise.all(clients)
    },
  }
}

/** The clock of `openMeter` begins here. */
export const METERED_SINCE = 1_760_000_040_000
const snapshot = exampleSnapshot()
const upstream = snapshot.services[0]!.upstreams[0]
const log = { warn() {}, info() {} }

type Settings = Parameters<typeof openMetering>[0]['settings']

/** Opens the metering of one process, with a clock that the test sets and intervals of a minute. */
export async function openMeter(t: Test, path: string, to: Settings['to'], changes: Partial<Settings> = {}) {
  const clock = { now: METERED_SINCE }
  const metering = await openMetering({
    settings: {
      every: 60_000,
      spool: { path, size: 1e9 },
      to,
      by: ['consumer', 'tenant', 'service', 'tier'],
      count: ['requests', 'cost', 'denied', { requests: { status: '2xx' } }],
      addresses: false,
      max_groups: 100_000,
      source: 'gateway-eu',
      ...changes,
    },
    log,
    now: () => clock.now,
  })
  t.teardown(() => metering.close())
  return {
    metering,
    clock,
    request: (consumer: string, more: Parameters<typeof exampleRecord>[1] = {}) =>
      metering.record(exampleRecord(snapshot, { upstream, consumer, bytesIn: 0, bytesOut: 0, ...more })),
  }
}

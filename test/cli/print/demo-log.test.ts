import t from 'tap'
import { createDemoLog, describeRequest } from '../../../src/cli/print/demo-log.js'
import type { Decision } from '../../../src/limiter/limiter.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const snapshot = snapshotOf(`
tiers: [free, pro]
services: { api: { upstreams: [http://127.0.0.1:1], limits: { free: 10/min, pro: unlimited } } }
routes: [{ path: /*, service: api, cost: 5 }]
`)
const allowed: Decision = {
  allowed: true,
  decidedBy: 'store',
  reason: undefined,
  binding: 0,
  violated: 0,
  remaining: 5,
  resetMs: 60_000,
  retryMs: 0,
  at: 0,
}
const record: RequestRecord = {
  snapshot,
  requestId: 'r',
  trace: undefined,
  method: 'GET',
  target: '/hello?token=secret',
  host: 'localhost',
  route: snapshot.routes[0],
  tier: 0,
  tierFrom: 'default',
  tierSource: undefined,
  tierStale: false,
  tierUnchecked: false,
  limitsUnchecked: false,
  tierUntil: undefined,
  consumer: 'ann',
  identifiedBy: 'header',
  tenant: undefined,
  keyId: undefined,
  clientIp: '127.0.0.1',
  policy: snapshot.services[0]!.policies[0],
  decision: allowed,
  limitMs: 0,
  cost: undefined,
  status: 200,
  error: undefined,
  cause: undefined,
  upstream: undefined,
  upstreamMs: 0,
  durationMs: 1,
  bytesIn: 0,
  bytesOut: 0,
}
const plain = (_style: string, text: string) => text
const line = (changes: Partial<RequestRecord>) =>
  describeRequest({ ...record, ...changes }, plain)
    .replace(/ {2,}/g, ' ')
    .trim()
const denied = (changes: Partial<Decision>): Partial<RequestRecord> => ({
  status: 429,
  error: 'quota_exceeded',
  decision: { ...allowed, allowed: false, violated: 1, ...changes },
})

t.test('a request is one line: status, request, consumer, and what is left', async (t) => {
  t.equal(line({}), '200 GET /hello ann (free) minute: 5 left')
  t.equal(line({ tier: 1, decision: undefined }), '200 GET /hello ann (pro) unlimited')
  t.equal(
    line(denied({ remaining: 0, retryMs: 41_200 })),
    '429 GET /hello ann (free) minute: spent, again in 42 s',
  )
  t.equal(
    line(denied({ remaining: 4, retryMs: 300 })),
    '429 GET /hello ann (free) minute: 4 left, 5 needed, again in 1 s',
  )
  t.equal(
    line(denied({ remaining: 3, retryMs: -1 })),
    '429 GET /hello ann (free) minute: 3 left, 5 needed, never enough',
  )
  const lost = { route: undefined, tier: -1, consumer: undefined, decision: undefined }
  t.equal(line({ ...lost, status: 404, error: 'no_route' }), '404 GET /hello no_route')
  t.equal(line({ status: 502, error: 'upstream_refused' }), '502 GET /hello ann (free) upstream_refused')
})

t.test('what a client sends neither controls the terminal nor fills it', async (t) => {
  const sent = line({
    target: `/\u001b[2J\u0007${'x'.repeat(5000)}`,
    consumer: `\u001b]0;${'y'.repeat(5000)}`,
  })
  t.match(sent, /^[\x20-\x7e…]+$/)
  t.ok(sent.length < 200)
})

t.test('at most twenty lines a second are shown, and the rest is counted', async (t) => {
  const lines: string[] = []
  let now = 1_000_000
  const { accessLog } = createDemoLog(
    (text) => lines.push(text),
    plain,
    () => now,
  )
  for (let i = 0; i < 500; i++) accessLog.write(record)
  t.equal(lines.length, 20)
  now += 1000
  accessLog.write(record)
  t.equal(lines.length, 22)
  t.equal(lines[20], '  … and 480 more')
})

t.test('of the events, only reloads and problems are shown', async (t) => {
  const lines: string[] = []
  const { events } = createDemoLog((text) => lines.push(text), plain)
  events.log.info({ listen: 'x' }, 'started')
  events.log.info(
    { changed: ['services.api.limits.free: 10/min -> 20/min'], messages: [] },
    'configuration applied',
  )
  events.log.warn({}, 'the store does not answer')
  t.strictSame(lines, [
    '  configuration applied',
    '    services.api.limits.free: 10/min -> 20/min',
    '  the store does not answer',
  ])
})

// Tests src/telemetry/record/target.ts
import fc from 'fast-check'
import t from 'tap'
import { createLineBuilder } from '../../../src/telemetry/logs/access-line.js'
import type { RequestRecord } from '../../../src/telemetry/record/record.js'
import { codePoint } from '../../support/code-point.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

const snapshot = exampleSnapshot()
const at = Date.parse('2026-03-04T05:06:07.089Z')

/** The builder, with its lines as text. */
function builder(now: () => number): (r: RequestRecord) => string {
  const line = createLineBuilder(now)
  return (r) => line(r).toString('latin1')
}

function lineOf(changes: Parameters<typeof exampleRecord>[1], now = at): Record<string, unknown> {
  const text = builder(() => now)(exampleRecord(snapshot, changes))
  if (!/^[ -~]*\n$/.test(text)) throw new Error(`not ASCII: ${text}`)
  if (!text.endsWith('}\n') || text.indexOf('\n') !== text.length - 1)
    throw new Error(`not one line: ${text}`)
  return JSON.parse(text)
}

t.test('a successful request is one line with everything known of it', async (t) => {
  t.same(lineOf({}), {
    time: '2026-03-04T05:06:07.089Z',
    request_id: 'req-1',
    method: 'GET',
    host: 'api.example.com',
    path: '/payments/1',
    route: '/payments/*',
    service: 'payments',
    cost: 1,
    tier: 'free',
    config: '0123456789ab',
    consumer: 'alice',
    client_ip: '192.0.2.7',
    status: 200,
    decided_by: 'store',
    remaining: 9,
    limit_ms: 0.4,
    upstream: '127.0.0.1:9001',
    upstream_ms: 12.5,
    duration_ms: 13.25,
    bytes_in: 0,
    bytes_out: 512,
  })
})

t.test('a request with a trace names the trace and its span', async (t) => {
  const trace = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: false }
  t.match(lineOf({ trace }), { trace_id: trace.traceId, span_id: trace.spanId })
  t.notOk('trace_id' in lineOf({}) || 'span_id' in lineOf({}))
})

t.test('a denied request names the limit that denied it', async (t) => {
  const decision = exampleDecision({ allowed: false, binding: 1, violated: 2, remaining: 0, retryMs: 900 })
  const line = lineOf({
    tier: 1,
    status: 429,
    error: 'quota_exceeded',
    decision,
    upstream: undefined,
    upstreamMs: 0,
  })
  t.match(line, { status: 429, error: 'quota_exceeded', tier: 'pro', limit: 'minute', remaining: 0 })
  t.notOk('upstream' in line || 'upstream_ms' in line)
})

t.test("a line shows a cost that differs from the route's, and the tenant", async (t) => {
  const line = builder(() => at)
  const costOf = (cost: number | undefined) => JSON.parse(line(exampleRecord(snapshot, { cost }))).cost
  t.same([undefined, 7, 0, 1, undefined, 7].map(costOf), [1, 7, 0, 1, 1, 7])
  t.match(lineOf({ tenant: 'acme "group"' }), { consumer: 'alice', tenant: 'acme "group"' })
  t.notOk('tenant' in lineOf({}))
})

t.test('a request refused before it had a route leaves out unknown fields', async (t) => {
  const line = lineOf({
    route: undefined,
    tier: -1,
    consumer: undefined,
    decision: undefined,
    upstream: undefined,
    status: 400,
    error: 'bad_target',
    cause: 'dot segment',
    target: '/a/../b',
  })
  t.same(Object.keys(line), [
    ...['time', 'request_id', 'method', 'host', 'path', 'config', 'client_ip', 'status', 'error', 'cause'],
    ...['duration_ms', 'bytes_in', 'bytes_out'],
  ])
})

t.test('a decision without the store shows no quota', async (t) => {
  const line = lineOf({ decision: exampleDecision({ decidedBy: 'open', reason: 'timeout', remaining: 0 }) })
  t.match(line, { decided_by: 'open', degraded: 'timeout' })
  t.notOk('remaining' in line)
})

t.test('the line leaves out the query and credentials of the target', async (t) => {
  const paths = {
    '/a?token=s3cret': '/a',
    '/a%3Fb': '/a%3Fb',
    '/a@b': '/a@b',
    '/': '/',
    'http://user:s3cret@h.example/a?b=s3cret': '/a',
    'http://user:s3cret@h.example': '/',
    'http://h.example?s3cret': '/',
    'user:s3cret@h.example:443': 'h.example:443',
    '*': '*',
    '': '',
  }
  for (const [target, path] of Object.entries(paths)) t.equal(lineOf({ target }).path, path, target)
})

t.test('long text is cut', async (t) => {
  const path = String(lineOf({ target: `/${'a'.repeat(5000)}` }).path)
  t.equal(path.length, 1027)
  t.ok(path.endsWith('a...'))
})

t.test('whatever a client sends, the line is one line of ASCII JSON with the same values', async (t) => {
  const anything = fc.string({ unit: codePoint, maxLength: 40 })
  fc.assert(
    fc.property(anything, anything, anything, anything, anything, (method, host, consumer, path, cause) => {
      const target = `/${path.replaceAll('?', '')}`
      const line = lineOf({ method, host, consumer, cause, target })
      const said = [line.method, line.host, line.consumer, line.cause, line.path]
      return JSON.stringify(said) === JSON.stringify([method, host, consumer, cause, target])
    }),
    { numRuns: 100 },
  )
  t.pass('100 times')
})

t.test('the time is right to the millisecond, also after the clock is set back', async (t) => {
  let now = 0
  const line = builder(() => now)
  const record = exampleRecord(snapshot)
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }), (date) => {
      now = date.getTime()
      t.equal(JSON.parse(line(record)).time, date.toISOString())
    }),
  )
})

t.test('durations have at most three decimals and are never negative', async (t) => {
  const durations = [0, -1, 0.0004, 0.0005, 0.9996, 1, 12.3456, 59_999.9999, Number.NaN]
  t.same(
    durations.map((durationMs) => lineOf({ durationMs }).duration_ms),
    [0, 0, 0, 0.001, 1, 1, 12.346, 60_000, 0],
  )
})

t.test('each line has the configuration of its own request, also during a reload', async (t) => {
  const next = exampleSnapshot({ hash: 'ffffffffffff' })
  const line = builder(() => at)
  const hashes = [snapshot, next, snapshot, next].map((one) => JSON.parse(line(exampleRecord(one))).config)
  t.same(hashes, ['0123456789ab', 'ffffffffffff', '0123456789ab', 'ffffffffffff'])
})

/** Text of any kind: what needs escapes, what does not, and what is longer than a line repeats. */
const anyText = fc.oneof(
  fc.string({ unit: codePoint, maxLength: 40 }),
  fc.string({ maxLength: 40 }),
  fc.string({
    unit: fc.constantFrom('a', '"', '\\', '\u0000', '\ud800', 'é'),
    minLength: 1020,
    maxLength: 1030,
  }),
)
const anyNumber = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
)
const anyMs = fc.oneof(
  fc.nat(3_000_000).map((n) => n / 1000),
  fc.double({ min: -1, max: 1e9, noNaN: true }),
)
const anyRecord = fc.record({
  requestId: anyText,
  trace: fc.option(
    fc.record({
      traceId: fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 32 }),
      spanId: fc.constant('b7ad6b7169203331'),
      sampled: fc.boolean(),
    }),
    { nil: undefined },
  ),
  method: anyText,
  host: anyText,
  target: anyText.map((text) => `/${text.replaceAll('?', '')}`),
  route: fc.constantFrom(undefined, ...snapshot.routes),
  tier: fc.constantFrom(-1, 0, 1, 2),
  cost: fc.option(fc.nat(), { nil: undefined }),
  consumer: fc.option(anyText, { nil: undefined }),
  tenant: fc.option(anyText, { nil: undefined }),
  clientIp: anyText,
  status: fc.integer({ min: 0, max: 999 }),
  error: fc.constantFrom(undefined, 'quota_exceeded' as const, 'bad_target' as const),
  cause: fc.option(anyText, { nil: undefined }),
  decision: fc.option(
    fc.record({
      allowed: fc.boolean(),
      decidedBy: fc.constantFrom(
        'store' as const,
        'cache' as const,
        'local' as const,
        'open' as const,
        'closed' as const,
      ),
      reason: fc.constantFrom(undefined, 'timeout' as const, 'error' as const, 'breaker' as const),
      remaining: anyNumber,
    }),
    { nil: undefined },
  ),
  limitName: anyText,
  limitMs: anyMs,
  upstream: fc.constantFrom(undefined, ...snapshot.services.flatMap((service) => service.upstreams)),
  upstreamMs: anyMs,
  durationMs: anyMs,
  bytesIn: anyNumber,
  bytesOut: anyNumber,
})

/** The line as it is defined: the fields through `JSON.stringify`, and ASCII only. */
function definedLine(r: RequestRecord): string {
  const cut = (text: string) => (text.length > 1024 ? `${text.slice(0, 1024)}...` : text)
  // Three decimals, or none: JSON has no way to ask for them, so the quotes go afterwards.
  const ms = (n: number) => (Math.max(Math.round(n * 1000), 0) / 1000).toFixed(3).replace('.000', '')
  const { decision, route, upstream } = r
  const counts = decision !== undefined && decision.decidedBy !== 'open' && decision.decidedBy !== 'closed'
  const fields = {
    time: new Date(at).toISOString(),
    request_id: cut(r.requestId),
    ...(r.trace && { trace_id: r.trace.traceId, span_id: r.trace.spanId }),
    method: cut(r.method),
    host: cut(r.host),
    path: cut(r.target),
    ...(route && { route: route.label, service: route.service.name, cost: r.cost ?? route.cost }),
    ...(r.tier >= 0 && { tier: r.snapshot.tiers[r.tier] }),
    config: r.snapshot.hash,
    ...(r.consumer !== undefined && { consumer: cut(r.consumer) }),
    ...(r.consumer !== undefined && r.tenant !== undefined && { tenant: cut(r.tenant) }),
    client_ip: cut(r.clientIp),
    status: r.status,
    ...(r.error && { error: r.error }),
    ...(r.cause !== undefined && { cause: cut(r.cause) }),
    ...(decision && { decided_by: decision.decidedBy }),
    ...(decision?.reason && { degraded: decision.reason }),
    ...(counts && { remaining: decision.remaining }),
    ...(counts && !decision.allowed && { limit: cut(r.policy!.limits[0]!.name) }),
    ...(decision && { limit_ms: ms(r.limitMs) }),
    ...(upstream && { upstream: new URL(upstream.origin).host, upstream_ms: ms(r.upstreamMs) }),
    duration_ms: ms(r.durationMs),
    bytes_in: r.bytesIn,
    bytes_out: r.bytesOut,
  }
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  const json = JSON.stringify(fields).replace(/(_ms":)"([\d.]+)"/g, '$1$2')
  return `${json.replace(/[\x7f-\uffff]/g, escaped)}\n`
}

t.test('a line is what JSON.stringify makes of its fields, byte for byte', async (t) => {
  const line = builder(() => at)
  fc.assert(
    fc.property(anyRecord, ({ limitName, decision, ...changes }) => {
      const policy = {
        ...exampleRecord(snapshot).policy!,
        limits: [{ ...snapshot.services[0]!.policies[0]!.limits[0]!, name: limitName }],
      }
      const record = exampleRecord(snapshot, {
        ...changes,
        policy,
        decision: decision && exampleDecision({ ...decision, binding: 0 }),
      })
      t.equal(line(record), definedLine(record))
    }),
    { numRuns: Number(process.env.CONTRACT_RUNS ?? 200) },
  )
})

t.test('the longest line is whole', async (t) => {
  const worst = '\u0000'.repeat(2000)
  const [route] = snapshot.routes
  const [limit] = snapshot.services[0]!.policies[0]!.limits
  const record = exampleRecord(exampleSnapshot(), {
    ...{ requestId: worst, method: worst, host: worst, target: `/${worst}`, clientIp: worst, cause: worst },
    ...{ consumer: worst, tenant: worst, bytesIn: -Number.MAX_VALUE, bytesOut: Number.MIN_VALUE },
    trace: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: false },
    route: { ...route!, label: worst, service: { ...route!.service, name: worst } },
    policy: { ...exampleRecord(snapshot).policy!, limits: [{ ...limit!, name: worst }] },
    decision: exampleDecision({ allowed: false, decidedBy: 'local', reason: 'breaker' }),
  })
  const line = builder(() => at)(record)
  t.equal(JSON.parse(line).bytes_out, Number.MIN_VALUE)
  t.ok(line.length > 65_536, `${line.length} characters`)
})

// Tests src/telemetry/record/target.ts
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { createAccessLog, createLineBuilder } from '../../../src/telemetry/logs/access-log.js'
import { codePoint } from '../../support/code-point.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

const snapshot = exampleSnapshot()
const at = Date.parse('2026-03-04T05:06:07.089Z')

function lineOf(changes: Parameters<typeof exampleRecord>[1], now = at): Record<string, unknown> {
  const text = createLineBuilder(() => now)(exampleRecord(snapshot, changes))
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
  const line = createLineBuilder(() => at)
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
  const line = createLineBuilder(() => now)
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
  const line = createLineBuilder(() => at)
  const hashes = [snapshot, next, snapshot, next].map((one) => JSON.parse(line(exampleRecord(one))).config)
  t.same(hashes, ['0123456789ab', 'ffffffffffff', '0123456789ab', 'ffffffffffff'])
})

t.test('the log writes to a file, and off writes nothing', async (t) => {
  const path = join(t.testdir(), 'access.log')
  const log = createAccessLog({ destination: path })
  log.write(exampleRecord(snapshot, { requestId: 'a' }))
  log.write(exampleRecord(snapshot, { requestId: 'b' }))
  await log.close()
  const ids = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).request_id)
  t.same(ids, ['a', 'b'])
  const off = createAccessLog({ destination: 'off' })
  off.write(exampleRecord(snapshot))
  await off.flush()
  off.reopen()
  await off.close()
  t.equal(off.dropped(), 0)
})

const child = fileURLToPath(new URL('../../../dist-test/support/gateway/log-to-stdout.js', import.meta.url))

async function logToStdout(lines: number, reader: 'asleep' | 'gone') {
  const args = [...process.execArgv, child, String(lines)]
  const run = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  if (reader === 'gone') run.stdout.destroy()
  let said = ''
  run.stderr.on('data', (chunk) => {
    said += chunk
  })
  const [code] = await once(run, 'close')
  return { code, said, figures: JSON.parse(said) }
}

t.test('a stdout that nobody reads, or whose reader left, costs lines, but no time or memory', async (t) => {
  const [asleep, gone] = await Promise.all([logToStdout(60_000, 'asleep'), logToStdout(5000, 'gone')])
  t.equal(asleep.code, 0, asleep.said)
  const { dropped, slowest, rss } = asleep.figures
  t.ok(dropped > 30_000, `${dropped} of 60,000 lines of 400 bytes dropped, 8 MiB kept`)
  t.ok(slowest < 5000, `no line waited: ${slowest} ms`)
  t.ok(rss < 400e6, `${rss} bytes`)
  t.equal(gone.code, 0, gone.said)
  t.ok(gone.figures.dropped > 4000, gone.said)
})

t.test('with other processes on a pipe, no line is longer than one atomic write', async (t) => {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  // Opens both ends at once, so that neither waits for the other.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  t.teardown(() => closeSync(fd))
  const log = createAccessLog({ destination: path, shared: true })
  const long = '\u{1f600}'.repeat(500)
  const plain = exampleRecord(snapshot)
  log.write({ ...plain, host: long, target: `/${long}`, consumer: long, cause: long })
  log.write(plain)
  await log.close()
  const bytes = Buffer.alloc(65_536)
  const text = bytes.toString('latin1', 0, readSync(fd, bytes))
  const [first, second] = text.trimEnd().split('\n')
  t.ok(first!.length < 4096, `${first!.length}`)
  t.match(JSON.parse(first!), { method: plain.method, consumer: /^.{64}\.\.\.$/s })
  t.equal(JSON.parse(second!).host, plain.host)
})

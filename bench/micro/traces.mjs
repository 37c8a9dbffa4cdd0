// What traces cost a request, in ns of the process's CPU: node bench/micro/traces.mjs, after npm run build.
// Medians of interleaved rounds; with --expose-gc also what spans that wait take of memory.
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  answerCall,
  beginCall,
  beginLimit,
  endCall,
  endTrace,
  readGrpcStatus,
  traceOfCaller,
} from '../../dist/gateway/exchange/trace.js'
import { createSampler } from '../../dist/telemetry/traces/sampler.js'
import { BATCH, MAX_WAITING } from '../../dist/telemetry/traces/span-queue.js'
import { createSpanMaker } from '../../dist/telemetry/traces/spans.js'

const ROUNDS = 15
const CALLS = 200_000

const upstream = { origin: 'http://10.0.0.1:9001', host: '', basePath: '', protocol: 'http1' }
const limits = [{ name: 'minute', amount: 100, burst: 100 }]
const service = { index: 0, name: 'payments', upstreams: [upstream], policies: [{ limits }] }
const snapshot = {
  hash: '0123456789ab',
  config: { store: { redis: 'redis://127.0.0.1:6379' } },
  tiers: ['free'],
  isTrustedProxy: (address) => address === '10.0.0.1',
}
const route = { index: 0, label: '/payments/*', service, quotaOf: service, cost: 1 }
const forward = ['user-agent', 'curl/8.14.1', 'accept', '*/*', 'accept-encoding', 'gzip']
const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

function exchange(i, traceparent, peer = '192.0.2.7') {
  return {
    snapshot,
    requestId: `5f400c11db6b-${i.toString(36)}`,
    method: 'GET',
    target: `/payments/${i}?page=2`,
    host: 'api.example.com',
    headers: { traceparent, tracestate: undefined, forward },
    peer,
    clientIp: peer,
    started: performance.now(),
    route,
    tier: 0,
    consumer: 'alice',
    policy: service.policies[0],
    decision: { allowed: true, decidedBy: 'store', binding: 0, remaining: 50 },
    limitMs: 0.4,
    status: 200,
    durationMs: 13,
    trace: undefined,
  }
}

const details = () => ({ scheme: 'http', version: '1.1', userAgent: 'curl/8.14.1' })
const never = createSampler({ sample: 0, parent: 'trusted', maxPerSecond: 1e9 }, () => {})
const seldom = createSampler({ sample: 1e-9, parent: 'trusted', maxPerSecond: 1e9 }, () => {})
const always = createSampler({ sample: 1, parent: 'trusted', maxPerSecond: 1e9 }, () => {})
const spans = createSpanMaker(resourceFromAttributes({ 'service.name': 'bench' }))
const plain = exchange(1)
const called = exchange(1, PARENT)
const fields = [...forward, 'Host', 'x', 'X-Request-Id', 'y']

function recorded(i) {
  const x = exchange(i)
  x.trace = always.begin(x, undefined, details)
  x.trace.recording.limitAt = performance.now()
  beginCall(x, upstream, '/payments/1?page=2', fields.slice())
  endCall(x)
  return spans.ofRequest(x, x.trace.recording)
}

/** Everything that a request passes which is not recorded. */
function passed(sampler, x) {
  x.trace = sampler.begin(x, undefined, details)
  beginLimit(x, 1)
  beginCall(x, upstream, '/', fields)
  answerCall(x, 200, null)
  readGrpcStatus(x, null)
  endCall(x)
  endTrace(undefined, x)
  return x.trace
}

let kept = 0
const note = (trace) => {
  if (trace !== undefined) kept++
}
const cases = {
  'sample: 0, no traceparent': () => note(passed(never, plain)),
  'chance says no, no traceparent': () => note(passed(seldom, plain)),
  'chance says no, a traceparent': () => note(passed(seldom, called)),
  'without telemetry.traces, a traceparent': () => note(traceOfCaller(PARENT)),
  'recorded, made into three spans': (i) => {
    if (i < CALLS / 10) kept += recorded(i).length
  },
}
const batch = Array.from({ length: Math.ceil(BATCH / 3) }, (_, i) => recorded(i))
  .flat()
  .slice(0, BATCH)
cases[`${BATCH} spans made into bytes`] = (i) => {
  if (i < CALLS / 1000) kept += ProtobufTraceSerializer.serializeRequest(batch).length
}
const callsOf = (name) =>
  name.includes('bytes') ? CALLS / 1000 : name.includes('three') ? CALLS / 10 : CALLS

const results = Object.fromEntries(Object.keys(cases).map((name) => [name, []]))
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, run] of Object.entries(cases)) {
    const began = process.cpuUsage()
    for (let i = 0; i < CALLS; i++) run(i)
    const { user, system } = process.cpuUsage(began)
    results[name].push(((user + system) * 1000) / callsOf(name))
  }
}
for (const [name, times] of Object.entries(results)) {
  times.sort((a, b) => a - b)
  console.log(`${name.padEnd(44)} ${times[times.length >> 1].toFixed(0).padStart(8)} ns`)
}
console.log(
  `${ProtobufTraceSerializer.serializeRequest(batch).length} bytes for ${BATCH} spans, ${kept} kept`,
)

if (globalThis.gc !== undefined) {
  globalThis.gc()
  const before = process.memoryUsage().heapUsed
  const waiting = Array.from({ length: MAX_WAITING / 3 }, (_, i) => recorded(i)).flat()
  globalThis.gc()
  const grown = process.memoryUsage().heapUsed - before
  console.log(`${waiting.length} spans that wait: ${(grown / 1e6).toFixed(1)} MB`)
}

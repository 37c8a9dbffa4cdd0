/** One round of a contender: the same load, its CPU from the kernel, and the proofs that it did all of the work. */
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import { cpuMs, GATEWAY_CORE, watchCore } from './machine.mjs'
import { ask } from './process.mjs'

/**
 * Runs one round and returns its figures, with `wrong`: the signs that the work was not done, if any.
 *
 * @param scenario `service` is what it asks for, `consumers` how many ask, `connections` how many requests are under way at once, `down`
 *   and `up` the bytes of a body, and `load` sends them: it takes the contender's URL of the service and seconds, and resolves with what `wrk` does
 * @param pollsPerSecond reads of the store by all processes that use it, besides those of requests
 */
export async function round(contender, scenario, seconds, { upstream, store, pollsPerSecond }) {
  const { service, consumers, connections, down = 0, up = 0 } = scenario
  const limited = contender.decisionCommand !== undefined && service !== 'free'
  // By then everything that the last load left has finished.
  await sleep(200)
  await store.clear()
  await store.resetCalls()
  contender.accessLines?.()
  const before = await contender.metrics?.()
  const asked = await ask(upstream.child)
  const own = () => (contender.pid === undefined ? 0 : cpuMs(contender.pid))
  const disturbed = watchCore(GATEWAY_CORE)
  const cpuBefore = [own(), store.cpuMs()]
  const load = await scenario.load(`${contender.url}/${service}`, seconds)
  const [gateway, redis] = [own() - cpuBefore[0], store.cpuMs() - cpuBefore[1]]
  const others = disturbed(gateway)

  const passed = load.requests - load.refused
  const seen = await ask(upstream.child)
  const wrong = []
  // At its end the load hangs up with one request in flight on each connection, and one answered that it has not counted: the
  // contender worked on those, too.
  const counts = (what, n, expected, slack = 2 * connections) => {
    if (n < expected || n > expected + slack) wrong.push(`${what}: ${n}, the load counted ${expected}`)
  }
  if (load.broken > 0) wrong.push(`${load.broken} broken connections`)
  if (load.requests === 0) wrong.push('no request was answered')
  counts('upstream hits', seen.hits - asked.hits, passed)
  if (seen.bytes - asked.bytes < up * passed)
    wrong.push(`the upstream got ${seen.bytes - asked.bytes} bytes of ${passed} bodies`)
  if (load.bytes < down * passed) wrong.push(`${load.bytes} bytes came back for ${passed} requests`)
  if (service !== 'denied' && load.refused > 0) wrong.push(`${load.refused} answers above 399, none expected`)
  if (service === 'denied' && load.refused < 0.95 * load.requests) {
    wrong.push(`only ${load.refused} of ${load.requests} were denied`)
  }
  if (limited) {
    const decisions = (await store.calls())[contender.decisionCommand] ?? 0
    // A denial that is remembered to the millisecond may spare Redis the question; a request that passed may not.
    if (service === 'denied' && contender.remembersDenials) {
      if (decisions < passed) wrong.push(`${decisions} decisions in Redis for ${passed} that passed`)
    } else {
      counts(
        'decisions in Redis',
        decisions,
        load.requests,
        2 * connections + pollsPerSecond * (seconds + 1) + (contender.looksFirst ?? 0) * load.requests,
      )
    }
    const keys = await store.keys()
    const expected = Math.min(consumers, load.requests)
    // Up to ten others are the gateway's own.
    if (keys < expected || keys > 2 * expected + 10)
      wrong.push(`${keys} keys in Redis for ${expected} consumers`)
  }
  if (before) {
    const labels = { tidegate_service: service }
    const delta = (after, name, more = {}) =>
      after(name, { ...labels, ...more }) - before(name, { ...labels, ...more })
    const after = await contender.metrics()
    const total = (m) => delta(m, 'http_server_request_duration_seconds_count')
    counts('requests in /metrics', total(after), load.requests)
    if (limited)
      counts(
        'decisions of the store in /metrics',
        ['store', 'cache'].reduce(
          (sum, by) => sum + delta(after, 'tidegate_limit_decisions_total', { decided_by: by }),
          0,
        ),
        load.requests,
      )
    counts(
      '429s in /metrics',
      delta(after, 'http_server_request_duration_seconds_count', { http_response_status_code: '429' }),
      load.refused,
    )
    const open = delta(after, 'tidegate_fail_open_total')
    if (open > 0) wrong.push(`${open} decisions were made without the store`)
  }
  if (contender.accessLines) {
    await sleep(300)
    counts('access log lines', contender.accessLines(), load.requests)
  }

  const perRequest = (ms) => (ms * 1000) / load.requests
  return {
    name: contender.name,
    cpu: perRequest(gateway),
    rate: load.requests / load.seconds,
    p50: load.p50,
    p99: load.p99,
    busy: gateway / (load.seconds * 1000),
    redis: perRequest(redis),
    others,
    wrong,
  }
}

/** Returns how often a second these contenders read the store besides requests: those that wait for their turn do, too. */
export const pollsOf = (contenders) => contenders.reduce((sum, c) => sum + (c.pollsPerSecond ?? 0), 0)

/** Sends one request; certificates are not checked. Resolves with its status, headers and text. */
async function call(url, headers = {}) {
  const client = url.startsWith('https:') ? https : http
  const request = client.get(url, { agent: false, rejectUnauthorized: false, headers })
  const [answer] = await once(request, 'response')
  let text = ''
  for await (const chunk of answer.setEncoding('latin1')) text += chunk
  return { status: answer.statusCode, headers: answer.headers, text }
}

/** Resolves with the protocols and the cipher that a contender negotiates with a client of HTTP/2 and HTTP/1.1. */
export async function encryptionOf({ url }) {
  const { hostname: host, port } = new URL(url)
  const socket = tls.connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ['h2', 'http/1.1'] })
  await once(socket, 'secureConnect')
  const key = socket.getPeerCertificate()
  const found = [
    socket.getProtocol(),
    socket.getCipher().name,
    socket.alpnProtocol || 'http/1.1',
    key.nistCurve ?? `RSA ${key.bits}`,
  ]
  socket.destroy()
  return found.join(', ')
}

/** Checks the responses that every contender must give before its time counts; on a busy machine one may fail open, so thrice. */
export async function probe(contender, upstream, store) {
  for (let left = 2; ; left--) {
    // Two Tidegates would share each other's counts.
    await store.clear()
    try {
      return await probeOnce(contender, upstream)
    } catch (error) {
      if (left === 0) throw error
    }
  }
}

async function probeOnce(contender, upstream) {
  const hits = (await ask(upstream.child)).hits
  const to = (service) => call(`${contender.url}/${service}/orders/1`, { 'x-user-id': 'probe' })
  const fail = (what) => {
    throw new Error(`${contender.name} does not do the work: ${what}`)
  }
  const first = await to('open')
  if (first.status !== 200 || JSON.parse(first.text).id !== 'ord_81723') fail(`${first.status} ${first.text}`)
  if (!contender.withoutIds && !first.headers['x-request-id']) fail('no request id')
  if (contender.decisionCommand) {
    if (!first.headers['x-ratelimit-remaining']) fail('no rate limit fields')
    const [passed, denied] = [await to('denied'), await to('denied')]
    if (passed.status !== 200 || denied.status !== 429)
      fail(`limit of one: ${passed.status}, then ${denied.status}`)
    if (!denied.headers['retry-after']) fail('429 without Retry-After')
  }
  const seen = (await ask(upstream.child)).hits - hits
  if (seen !== (contender.decisionCommand ? 2 : 1)) fail(`the upstream saw ${seen} requests`)
}

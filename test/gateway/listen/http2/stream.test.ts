import { constants } from 'node:http2'
import t, { type Test } from 'tap'
import { SINGLE_VALUE_FIELDS } from '../../../../src/upstream/http2/fields.js'
import { eventually } from '../../../support/eventually.js'
import { startGateway } from '../../../support/gateway/gateway.js'
import { http2Client } from '../../../support/http/http2-client.js'
import { FLAG, frame, headerBlock, rawHttp2Upstream, TYPE } from '../../../support/http/http2-frames.js'
import { http2Upstream } from '../../../support/http/http2-upstream.js'
import { type RawRequest, rawUpstream, respond } from '../../../support/http/raw-upstream.js'

/** Every header field that Node knows by name. */
const KNOWN = Object.entries(constants)
  .filter(([key, value]) => key.startsWith('HTTP2_HEADER_') && typeof value === 'string')
  .map(([, value]) => value as string)
  .filter((name) => !name.startsWith(':'))

/** These fields belong to the connection, frame the body or are the gateway's own, so they are not passed on. */
const NOT_ALONE = new Set([
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'te',
  'upgrade',
])

async function site(t: Test, handler: (request: RawRequest) => void) {
  const upstream = await rawUpstream(t, handler)
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], concurrency: { min: 300, max: 400 }, outliers: false } }
routes: [{ path: /*, service: api, timeouts: { total: 5s } }]
server: { http2: true }
`,
  )
  /** Resolves when the gateway holds nothing of finished requests. */
  const released = () =>
    eventually('all is over', () => {
      const [state] = gateway.guards.describe(gateway.snapshot())
      return gateway.watchdog.size() === 0 && state!.concurrency!.in_flight === 0
    })
  return { gateway, client: await http2Client(t, gateway.origin), released }
}

t.test("the gateway's list of single fields is the one that Node enforces", async (t) => {
  const upstream = await http2Upstream(t)
  const { session } = await http2Client(t, upstream.origin)
  const single = KNOWN.filter((name) => {
    try {
      const stream = session.request({ ':path': '/', [name]: ['a', 'b'] })
      stream.on('error', () => {})
      stream.close()
      return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ERR_HTTP2_HEADER_SINGLE_VALUE'
    }
  })
  t.ok(single.length > 20)
  t.same([...SINGLE_VALUE_FIELDS].sort(), single.sort())
})

t.test('a field that an upstream repeats does not break its response or the connection', async (t) => {
  const { gateway, client, released } = await site(t, (request) => {
    const [, name, where] = request.target.split('/')
    const twice = `${name}: 1\r\n${name}: 2\r\n`
    // In one packet with the body, and so with the end of the response.
    if (where === 'head') respond(request, `HTTP/1.1 200 OK\r\n${twice}Content-Length: 2\r\n\r\nok`)
    else if (where === 'alone') {
      respond(request, `HTTP/1.1 200 OK\r\n${twice}Content-Length: 2\r\n\r\n`)
      setImmediate(() => respond(request, 'ok'))
    } else
      respond(request, `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${twice}\r\n`)
  })
  for (const where of ['head', 'alone', 'trailer']) {
    const names = KNOWN.filter((one) => !NOT_ALONE.has(one))
    const answers = await Promise.all(names.map((name) => client.ask(`/${name}/${where}`)))
    for (const [i, answer] of answers.entries())
      t.match(answer, { status: 200, body: 'ok', code: 0 }, `${names[i]} in the ${where}`)
  }
  await released()
  t.equal(gateway.records.filter(({ status }) => status !== 200).length, 0)
  t.same(gateway.logged, [])
})

t.test('a status of 600 and above is 502', async (t) => {
  const { gateway, client, released } = await site(t, (request) =>
    respond(request, `HTTP/1.1 ${request.target.slice(1)} Odd\r\nContent-Length: 2\r\n\r\nok`),
  )
  for (const status of [600, 601, 999]) {
    const answer = await client.ask(`/${status}`)
    t.match(answer, { status: 502, code: 0 })
    t.equal(JSON.parse(answer.body).code, 'upstream_bad_response')
  }
  t.match(await client.ask('/599'), { status: 599, body: 'ok' })
  await released()
  t.match(gateway.records[0], { error: 'upstream_bad_response', cause: /600/ })
})

t.test('an invalid status of an HTTP/2 upstream is 502', async (t) => {
  let status = ''
  const upstream = await rawHttp2Upstream(t, ({ type, stream }, send) => {
    if (type !== TYPE.headers) return
    send(
      frame(TYPE.headers, FLAG.endHeaders, stream, headerBlock([[':status', status]])),
      frame(TYPE.data, FLAG.endStream, stream, 'ok'),
    )
  })
  const gateway = await startGateway(
    t,
    `
tiers: [free]
services: { api: { upstreams: ['${upstream.origin}'], protocol: http2, outliers: false } }
routes: [{ path: /*, service: api }]
`,
  )
  for (const [sent, expected] of [
    ['099', 502],
    ['000', 502],
    ['600', 502],
    ['200', 200],
  ] as const) {
    status = sent
    const answer = await fetch(gateway.origin)
    t.equal(answer.status, expected, sent)
    t.equal((await answer.text()) === 'ok', expected === 200)
  }
  await eventually('all is over', () => gateway.watchdog.size() === 0)
})

// Tests src/gateway/listen/{connection,server}.ts
import t from 'tap'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/** Tests one connection, and the requests that come over it one after the other. */

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 100000/s } }
  marketing: { upstreams: [MARKETING], limits: { free: 2/min } }
routes:
  - { path: /payments/*, service: payments }
  - { path: /payments/small, methods: [POST], service: payments, body_limit: 10 }
  - { path: /payments/quiet, service: payments, access_log: false }
  - { path: /marketing/*, service: marketing }
`

t.test('a connection is kept after 404, 405, 401 and 429 without a body', async (t) => {
  const { gateway, marketing } = await startSite(t, SITE)
  const lines = [
    'GET /nowhere',
    'TRACE /payments/x',
    'GET /marketing/1',
    'GET /marketing/2',
    'GET /marketing/3',
    'GET /payments/x',
  ]
  const connection = await openRaw(gateway.port)
  for (const [i, line] of lines.entries()) {
    connection.write(rawRequest(line))
    await connection.until(line, () => connection.responses().length === i + 1)
  }
  t.same(
    connection.responses().map(({ status }) => status),
    [404, 405, 200, 200, 429, 200],
  )
  t.notOk(connection.isClosed())
  t.same(
    connection.responses().map((response) => response.header('connection')),
    Array(6).fill('keep-alive'),
  )
  t.equal(marketing.received.length, 2)
  connection.socket.destroy()
})

t.test('requests sent in one packet are answered in order, and recorded once each', async (t) => {
  const slow = await recordingUpstream(t, (req, res) => {
    const wait = Number(/\d+$/.exec(req.url!)?.[0] ?? 0)
    req.resume().on('end', () => setTimeout(() => res.end(req.url), wait))
  })
  const { gateway } = await startSite(t, SITE, { payments: slow })
  const lines = [
    'GET /payments/60',
    'GET /nowhere',
    'GET /payments/30',
    'GET /payments/0',
    'HEAD /payments/1',
  ]
  const { responses, text } = await rawExchange(
    gateway.port,
    lines
      .slice(0, 4)
      .map((line) => rawRequest(line))
      .join(''),
    {
      responses: 4,
    },
  )
  t.same(
    responses.map(({ status, body }) => (status === 200 ? body : status)),
    ['/payments/60', 404, '/payments/30', '/payments/0'],
  )
  t.equal(text.split('HTTP/1.1').length, 5)
  await gateway.recorded(4)
  t.same(gateway.records.map(({ target }) => target).sort(), [
    '/nowhere',
    '/payments/0',
    '/payments/30',
    '/payments/60',
  ])
})

t.test('of requests sent in one packet, those after a refusal that closes are not served', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const lines = [
    rawRequest('GET /payments/1'),
    rawRequest('GET /payments/../2'),
    rawRequest('GET /payments/3'),
    rawRequest('POST /payments/4', 'Content-Length: 3'),
    'abc',
  ]
  const { responses, closed } = await rawExchange(gateway.port, lines.join(''), { responses: 2 })
  t.same(
    responses.map(({ status }) => status),
    [200, 400],
  )
  t.ok(closed)
  await gateway.recorded(2)
  t.same(
    payments.received.map(({ url }) => url),
    ['/payments/1'],
  )
  t.equal(gateway.records.length, 2)
})

t.test('a client that leaves with open requests is recorded once for each', async (t) => {
  const silent = await recordingUpstream(t, () => {})
  const { gateway } = await startSite(t, SITE, { payments: silent })
  const connection = await openRaw(gateway.port)
  connection.write(
    rawRequest('GET /payments/1') + rawRequest('GET /payments/2') + rawRequest('GET /payments/3'),
  )
  while (silent.received.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  connection.socket.destroy()
  await gateway.recorded(3)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.same(
    gateway.records.map(({ status, error }) => `${status} ${error}`),
    Array(3).fill('499 client_closed'),
  )
})

t.test('HTTP/1.0 is answered, and its connection closed unless it asks otherwise', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const plain = await rawExchange(gateway.port, 'GET /payments/1 HTTP/1.0\r\n\r\n')
  t.match(plain.responses, [{ status: 200, body: 'ok' }])
  t.ok(plain.closed)
  const kept = await openRaw(gateway.port)
  for (const count of [1, 2]) {
    kept.write('GET /payments/2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
    await kept.until('the response', () => kept.responses().length === count)
  }
  t.notOk(kept.isClosed())
  kept.socket.destroy()
  t.equal(payments.received.length, 3)
  const refused = await rawExchange(gateway.port, 'GET /nowhere HTTP/1.0\r\n\r\n')
  t.match(refused.responses, [{ status: 404 }])
  t.ok(refused.closed)
})

t.test('HEAD gets the header of the response and no body, refused or not', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const lines = [
    'HEAD /payments/x',
    'HEAD /nowhere',
    'HEAD /marketing/1',
    'HEAD /marketing/2',
    'HEAD /marketing/3',
  ]
  const bytes = lines.map((line) => rawRequest(line)).join('')
  const { responses, text } = await rawExchange(gateway.port, bytes, { responses: lines.length, head: true })
  t.same(
    responses.map(({ status }) => status),
    [200, 404, 200, 200, 429],
  )
  t.ok(Number(responses[1]!.header('content-length')) > 100)
  t.ok(text.endsWith('\r\n\r\n'), 'nothing but headers')
  t.notMatch(text, /"code"/)
  t.equal(payments.received[0]!.method, 'HEAD')
  const bad = await rawExchange(gateway.port, rawRequest('HEAD /payments/..'), { head: true })
  t.match(bad.responses, [{ status: 400 }])
  t.ok(bad.text.endsWith('\r\n\r\n'))
  await gateway.recorded(6)
  t.equal(gateway.records.at(-1)!.bytesOut, 0)
})

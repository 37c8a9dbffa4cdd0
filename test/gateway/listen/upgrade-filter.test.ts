import t from 'tap'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS] }
  marketing: { upstreams: [MARKETING] }
routes:
  - { path: /payments/*, service: payments, websocket: true }
  - { path: /marketing/*, service: marketing }
`
const OFFER = ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__']

t.test('an offer of h2c is ignored, and the request is answered as a plain one', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const connection = await openRaw(gateway.port)
  connection.write(rawRequest('GET /payments/a', ...OFFER))
  await connection.until('the first answer', () => connection.responses().length === 1)
  connection.write(`${rawRequest('POST /payments/b', ...OFFER, 'Content-Length: 5')}hello`)
  await connection.until('the second answer', () => connection.responses().length === 2)
  connection.write(rawRequest('GET /payments/c'))
  await connection.until('the third answer', () => connection.responses().length === 3)
  t.same(
    connection.responses().map(({ status }) => status),
    [200, 200, 200],
  )
  t.same(
    payments.received.map(({ method, url, body }) => [method, url, body]),
    [
      ['GET', '/payments/a', ''],
      ['POST', '/payments/b', 'hello'],
      ['GET', '/payments/c', ''],
    ],
  )
  t.same(payments.received[0]!.values('upgrade'), [])
  t.same(payments.received[0]!.values('http2-settings'), [])
})

t.test('CONNECT is no plain request, whatever it offers', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const { responses, closed } = await rawExchange(
    gateway.port,
    'CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
  )
  t.equal(responses[0]!.status, 405)
  t.ok(closed)
  t.equal(payments.received.length, 0)
})

t.test('bytes after a request that says close do not cost its response', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const { responses } = await rawExchange(
    gateway.port,
    `${rawRequest('GET /payments/a', 'Connection: close')}GET /payments/b HTTP/1.1\r\nHost: a\r\n\r\n`,
  )
  t.same(
    responses.map(({ status }) => status),
    [200],
  )
  t.same(
    payments.received.map(({ url }) => url),
    ['/payments/a'],
  )
})

import t from 'tap'
import { eventually } from '../support/eventually.js'
import { problemOf, startSite } from '../support/gateway/site.js'
import { openRaw, rawExchange, rawRequest } from '../support/http/raw.js'

/** Tests clients that are slow, numerous or send nonsense. */

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

t.test('a header that comes too slowly, or not at all, is 408 in time', async (t) => {
  const site = await startSite(t, `${SITE}\nserver: { header_timeout: 1s }`)
  const { gateway } = site
  const dripping = await openRaw(gateway.port)
  const drip = setInterval(() => dripping.write('a'), 50)
  dripping.write('GET /payments/x HTTP/1.1\r\nHost: a\r\nX: ')
  const late = { status: 408, code: 'request_timeout' } as const
  const half = 'GET /payments/x HTTP/1.1\r\nHost: gateway.example\r\n'
  const kept = await openRaw(gateway.port)
  kept.write(rawRequest('GET /payments/first'))
  await kept.until('the response', () => kept.responses().length === 1)
  kept.write(half)
  // Within header_timeout and the 2 s between two checks, and some slack.
  const inTime = 12_000
  await Promise.all([
    dripping.closed(inTime).finally(() => clearInterval(drip)),
    kept.closed(inTime),
    openRaw(gateway.port).then((idle) => idle.closed(inTime)),
  ])
  t.match(dripping.responses(), [{ status: 408 }])
  t.equal(problemOf(dripping.responses()[0]!).code, late.code)
  t.match(kept.responses(), [{ status: 200 }, { status: 408 }])
  await gateway.recorded(4)
  t.same(
    gateway.records.map(({ status, error }) => `${status} ${error}`),
    ['200 undefined', ...Array(3).fill('408 request_timeout')],
  )
  t.equal(site.received(), 1)
})

t.test('connections above max_connections are closed at once; the others are served', async (t) => {
  const { gateway } = await startSite(t, `${SITE}\nserver: { max_connections: 3 }`)
  const held = await Promise.all([openRaw(gateway.port), openRaw(gateway.port), openRaw(gateway.port)])
  const surplus = await Promise.all(Array.from({ length: 20 }, () => openRaw(gateway.port)))
  await Promise.all(surplus.map((connection) => connection.closed()))
  for (const connection of held) {
    connection.write(rawRequest('GET /payments/x'))
    await connection.until('the response', () => connection.responses().length === 1)
    connection.socket.destroy()
    await connection.closed()
  }
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /payments/x'))
  t.match(responses, [{ status: 200 }])
})

t.test('5,000 connections with junk leave the gateway as it was', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const junk = [
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'GET / HTTP/9.9\r\n\r\n',
    'GET /payments/../x HTTP/1.1\r\nHost: a\r\n\r\n',
    'POST /payments/x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n',
    'GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    `GET /${'\xff'.repeat(100)}`,
    'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
    '\r\n\r\n\r\nfoo\r\n\r\n',
    '{"method":"eth_getWork"}\n',
    'POST /payments/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  ]
  const TOTAL = 5_000
  let next = 0
  const worker = async () => {
    while (next < TOTAL) {
      const bytes = junk[next++ % junk.length]!
      const connection = await openRaw(gateway.port)
      connection.write(bytes)
      await connection.closed()
    }
  }
  await Promise.all(Array.from({ length: 20 }, worker))
  await gateway.recorded(TOTAL)
  const open = () =>
    new Promise<number>((resolve) => gateway.app.server.getConnections((_, count) => resolve(count)))
  await eventually('no connection is left open', async () => (await open()) === 0)
  t.equal(gateway.records.length, TOTAL, 'each is recorded once')
  t.notOk(
    gateway.records.some(({ status }) => status < 400 || status >= 506),
    'none passed',
  )
  t.notOk(payments.received.some(({ complete }) => complete))
  t.same(gateway.logged, [])
  t.equal(gateway.watchdog.size(), 0, 'nothing is left under way')
  const { responses } = await rawExchange(gateway.port, rawRequest('GET /payments/x'))
  t.match(responses, [{ status: 200 }])
})

// Tests src/gateway/{accept,request-lifecycle}.ts src/gateway/stages/record.ts
import { METHODS } from 'node:http'
import t from 'tap'
import type { Decision } from '../../src/limiter/limiter.js'
import { eventually } from '../support/eventually.js'
import { problemOf, startSite } from '../support/gateway/site.js'
import { exampleDecision } from '../support/gateway/snapshot.js'
import { openRaw, rawExchange, rawRequest } from '../support/http/raw.js'

/** Tests all stages together: what a client sees, and what is recorded. */

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

t.test('a spent quota is answered with exactly these bytes', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const bytes = rawRequest('GET /marketing/x', 'X-Request-Id: req-1')
  const { responses: passed } = await rawExchange(gateway.port, bytes + bytes, { responses: 2 })
  const fieldsOf = (head: string) => head.split('\r\n').filter((line) => /ratelimit/i.test(line))
  t.same(fieldsOf(passed[0]!.head), [
    'RateLimit-Policy: "minute";q=2;w=60',
    'RateLimit: "minute";r=1;t=60',
    'X-RateLimit-Limit: 2',
    'X-RateLimit-Remaining: 1',
    'X-RateLimit-Reset: 60',
  ])
  t.same(fieldsOf(passed[1]!.head)[1], 'RateLimit: "minute";r=0;t=60')
  const { responses } = await rawExchange(gateway.port, bytes)
  const { head, body } = responses[0]!
  t.equal(
    head.replace(/\r\nDate: [^\r]+/, ''),
    [
      'HTTP/1.1 429 Too Many Requests',
      'Content-Type: application/problem+json',
      `Content-Length: ${body.length}`,
      'Cache-Control: no-store',
      'X-Request-Id: req-1',
      'RateLimit-Policy: "minute";q=2;w=60',
      'RateLimit: "minute";r=0;t=90',
      'X-RateLimit-Limit: 2',
      'X-RateLimit-Remaining: 0',
      'X-RateLimit-Reset: 90',
      'Retry-After: 90',
      'Connection: keep-alive',
      'Keep-Alive: timeout=72',
    ].join('\r\n'),
  )
  t.equal(
    body,
    '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded",' +
      '"status":429,"detail":"The quota \\"minute\\" (2 per 60 s) of tier free on marketing is used up; try again in 90 s.",' +
      '"code":"quota_exceeded","violated-policies":["minute"],"request_id":"req-1"}',
  )
})

t.test('every method that Node can parse passes unchanged, except CONNECT and TRACE', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  for (const method of METHODS.filter((name) => name !== 'CONNECT' && name !== 'TRACE')) {
    const { responses } = await rawExchange(gateway.port, rawRequest(`${method} /payments/x`), {
      head: method === 'HEAD',
    })
    t.match(responses, [{ status: 200 }], method)
    t.equal(payments.received.at(-1)!.method, method)
  }
})

t.test('while the gateway drains, every response closes its connection', async (t) => {
  const { gateway } = await startSite(t, SITE)
  gateway.drain(true)
  for (const line of ['GET /payments/x', 'GET /nowhere']) {
    const { responses, closed } = await rawExchange(gateway.port, rawRequest(line))
    t.equal(responses[0]!.header('connection'), 'close', line)
    t.ok(closed, line)
  }
})

t.test('a stage that fails gives 500, and only the log has the reason', async (t) => {
  for (const take of [
    () => {
      throw new Error('the limiter at 10.0.0.5 broke')
    },
    () => Promise.reject(new Error('the limiter at 10.0.0.5 broke')),
  ]) {
    const { gateway, payments } = await startSite(t, SITE, {}, { limiter: { take } })
    const { responses, text } = await rawExchange(gateway.port, rawRequest('GET /payments/x'))
    t.match(responses, [{ status: 500 }])
    t.equal(problemOf(responses[0]!).code, 'internal')
    t.notMatch(text, /10\.0\.0\.5|limiter|at /)
    await gateway.recorded(1)
    t.match(gateway.records, [{ status: 500, error: 'internal', cause: /10\.0\.0\.5/ }])
    t.match(gateway.logged, [
      {
        message: 'a request failed because of a fault in the gateway',
        fields: { request_id: problemOf(responses[0]!).request_id, error: /10\.0\.0\.5/ },
      },
    ])
    t.equal(payments.received.length, 0)
  }
})

t.test(
  'a client that leaves during the store call is recorded as gone, and nothing is forwarded',
  async (t) => {
    let decide: ((decision: Decision) => void) | undefined
    const limiter = {
      take: () =>
        new Promise<Decision>((resolve) => {
          decide = resolve
        }),
    }
    const { gateway, payments } = await startSite(t, SITE, {}, { limiter })
    const connection = await openRaw(gateway.port)
    connection.write(rawRequest('GET /payments/x'))
    await eventually('the store is asked', () => decide !== undefined)
    connection.socket.destroy()
    await gateway.recorded(1)
    decide!(exampleDecision())
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.match(gateway.records, [{ status: 499, error: 'client_closed' }])
    t.equal(payments.received.length, 0)
  },
)

t.test('a store that fails after the client has left leaves nothing behind', async (t) => {
  let fail: (error: Error) => void = () => {}
  const take = () =>
    new Promise<Decision>((_, reject) => {
      fail = reject
    })
  const { gateway } = await startSite(t, SITE, {}, { limiter: { take } })
  const connection = await openRaw(gateway.port)
  connection.write(rawRequest('GET /payments/x'))
  await eventually('the store is asked', () => fail.length === 1)
  connection.socket.destroy()
  await gateway.recorded(1)
  fail(new Error('too late'))
  await eventually('it is logged', () => gateway.logged.length === 1)
  t.equal(gateway.watchdog.size(), 0)
  t.match(gateway.records, [{ status: 499, error: 'client_closed' }])
})

t.test('a request keeps the configuration that it began with', async (t) => {
  let decide: ((decision: Decision) => void) | undefined
  const limiter = {
    take: () =>
      new Promise<Decision>((resolve) => {
        decide = resolve
      }),
  }
  const site = await startSite(t, SITE, {}, { limiter })
  const { gateway, payments, marketing } = site
  const before = gateway.snapshot()
  const first = rawExchange(gateway.port, rawRequest('GET /payments/x'))
  await eventually('the store is asked', () => decide !== undefined)
  const decideFirst = decide!
  decide = undefined
  gateway.use(SITE.replaceAll('PAYMENTS', marketing.origin).replaceAll('MARKETING', payments.origin))
  decideFirst(exampleDecision())
  t.match((await first).responses, [{ status: 200 }])
  t.equal(payments.received.length, 1)
  await gateway.recorded(1)
  t.equal(gateway.records[0]!.snapshot, before)
  const second = rawExchange(gateway.port, rawRequest('GET /payments/x'))
  await eventually('the store is asked again', () => decide !== undefined)
  decide!(exampleDecision())
  t.match((await second).responses, [{ status: 200 }])
  t.equal(marketing.received.length, 1)
})

t.test('a route may be left out of the access log, and is still counted', async (t) => {
  const { gateway } = await startSite(t, SITE)
  await rawExchange(gateway.port, rawRequest('GET /payments/quiet') + rawRequest('GET /payments/x'), {
    responses: 2,
  })
  await gateway.recorded(2)
  t.same(
    gateway.accessLines.map(({ target }) => target),
    ['/payments/x'],
  )
  t.equal(gateway.records.length, 2)
})

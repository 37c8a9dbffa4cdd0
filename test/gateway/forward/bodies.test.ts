// Tests src/gateway/forward/request-body.ts
import t from 'tap'
import type { Decision } from '../../../src/limiter/limiter.js'
import { eventually } from '../../support/eventually.js'
import { expectRefused, startSite } from '../../support/gateway/site.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { startFaces } from '../../support/http/faces.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/** Tests bodies that nobody wants, that are too large, or that wait for 100 Continue. */

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

t.test('a denied request with a body is answered at once, and its body is dropped', async (t) => {
  // Node's parser does not tell that the body has come, and its connection ends.
  const { gateway, marketing } = await startSite(t, `${SITE}server: { plain_path: true }\n`)
  const get = rawRequest('GET /marketing/x')
  await rawExchange(gateway.port, get + get, { responses: 2 })
  // A body that has come as a whole keeps its connection: nothing is left to read.
  const whole = `${rawRequest('POST /marketing/x', 'Content-Length: 5')}abcde`
  const kept = await rawExchange(gateway.port, whole)
  t.match(kept, { responses: [{ status: 429 }], closed: false })
  t.equal(kept.responses[0]!.header('connection'), 'keep-alive')
  const refusals: Record<string, [string, number]> = {
    'Content-Length': [`${rawRequest('POST /marketing/x', 'X:  y', 'Content-Length: 5')}abcde`, 429],
    chunked: [`${rawRequest('PUT /marketing/x', 'Transfer-Encoding: chunked')}5\r\nabcde\r\n0\r\n\r\n`, 429],
    'a body that does not come': [rawRequest('POST /marketing/x', 'Content-Length: 5'), 429],
    'a body that does not end': [
      `${rawRequest('POST /nowhere', 'Transfer-Encoding: chunked')}5\r\nabcde\r\n`,
      404,
    ],
    'a body of 3 MB': [
      `${rawRequest('POST /marketing/x', 'Content-Length: 3000000')}${'a'.repeat(3_000_000)}`,
      429,
    ],
  }
  for (const [what, [bytes, status]] of Object.entries(refusals)) {
    // That is, without a long wait.
    const { responses, closed } = await rawExchange(gateway.port, bytes, { timeoutMs: 10_000 })
    t.match(responses, [{ status }], what)
    t.equal(responses[0]!.header('connection'), 'close', what)
    t.ok(closed, what)
  }
  t.equal(marketing.received.length, 2)
  await gateway.recorded(3 + Object.keys(refusals).length)
  t.equal(gateway.records.length, 3 + Object.keys(refusals).length)
  t.same(gateway.logged, [])
})

t.test('a body above the limit of its route is 413, announced or not', async (t) => {
  const site = await startSite(t, SITE)
  const large = { status: 413, code: 'payload_too_large' } as const
  const announced = `${rawRequest('POST /payments/small', 'Content-Length: 11')}abcdefghijk`
  await expectRefused(t, site, 'announced', announced, large)
  const chunked = `${rawRequest('POST /payments/small', 'Transfer-Encoding: chunked')}b\r\nabcdefghijk\r\n0\r\n\r\n`
  const { responses, closed } = await rawExchange(site.gateway.port, chunked)
  t.match(responses, [{ status: 413 }])
  t.ok(closed)
  t.notOk(site.payments.received.some(({ complete }) => complete))
  const { responses: fit } = await rawExchange(
    site.gateway.port,
    `${rawRequest('POST /payments/small', 'Content-Length: 10')}abcdefghij`,
  )
  t.match(fit, [{ status: 200 }])
})

t.test('endless chunk extensions are refused, on every face', async (t) => {
  const upstream = await recordingUpstream(t)
  const yaml = `
tiers: [free]
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api }]
`
  const start = rawRequest('POST /x', 'Transfer-Encoding: chunked')
  const extended = (chunks: number, bytes: number) =>
    `${`1;${'x'.repeat(bytes)}\r\na\r\n`.repeat(chunks)}0\r\n\r\n`
  for (const { name, open, gateway } of await startFaces(t, yaml)) {
    // A handshake has no body, and a connection with chunks leaves the plain path.
    if (open === undefined || name === 'plain' || name === 'upgrade') continue
    for (const [what, body] of [
      ['one of 64 KiB', extended(1, 65_536)],
      ['2,000 of 1 KB', extended(2_000, 1_000)],
      ['20,000 of 100 bytes', extended(20_000, 100)],
    ] as const) {
      const before = gateway.records.length
      const connection = await open()
      connection.write(start + body)
      await connection.until('an answer', () => connection.responses().length > 0)
      t.match(connection.responses(), [{ status: 400 }], `${name}: ${what}`)
      await connection.closed()
      await gateway.recorded(before + 1)
      t.match(gateway.records.at(-1), { status: 400, error: 'bad_request' }, `${name}: ${what}`)
    }
    t.notOk(upstream.received.some(({ complete }) => complete))
    for (const [what, pieces] of [
      ['none', Array.from({ length: 5_000 }, () => '1\r\na\r\n')],
      ['some', Array.from({ length: 100 }, () => `1;${'x'.repeat(500)}\r\na\r\n`)],
    ] as const) {
      const connection = await open()
      connection.write(start)
      // Each in a packet of its own, and over TLS in a record of its own.
      for (const piece of pieces) connection.write(piece)
      connection.write('0\r\n\r\n')
      await connection.until('an answer', () => connection.responses().length > 0)
      t.match(connection.responses(), [{ status: 200 }], `${name}: ${what}`)
      connection.socket.destroy()
      t.equal(upstream.received.at(-1)!.body.length, pieces.length)
      upstream.received.length = 0
    }
  }
})

t.test('the gateway sends 100 Continue after it has taken the quota, not before', async (t) => {
  let decide: ((decision: Decision) => void) | undefined
  const limiter = {
    take: () =>
      new Promise<Decision>((resolve) => {
        decide = resolve
      }),
  }
  const { gateway, payments } = await startSite(t, SITE, {}, { limiter })
  const upload = rawRequest('POST /payments/x', 'Expect: 100-continue', 'Content-Length: 5')
  const allowed = await openRaw(gateway.port)
  allowed.write(upload)
  await eventually('the store is asked', () => decide !== undefined)
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.equal(allowed.received(), '', 'while the quota is asked for')
  decide!(exampleDecision())
  decide = undefined
  await allowed.until('100 Continue', () => allowed.received().startsWith('HTTP/1.1 100 Continue\r\n\r\n'))
  allowed.write('abcde')
  await allowed.until('the response', () => allowed.responses().length === 1)
  t.match(allowed.responses(), [{ status: 200, body: 'ok' }])
  t.match(payments.received, [{ body: 'abcde', complete: true }])
  t.same(payments.received[0]!.values('expect'), [], 'the expectation was met here')
  allowed.socket.destroy()

  const denied = await openRaw(gateway.port)
  denied.write(upload)
  await eventually('the store is asked again', () => decide !== undefined)
  decide!(exampleDecision({ allowed: false, violated: 1, remaining: 0, retryMs: 1_000 }))
  await denied.closed()
  t.match(denied.responses(), [{ status: 429 }])
  t.notMatch(denied.received(), /100 Continue/)
  t.equal(payments.received.length, 1)
})

t.test('HTTP/1.0 gets no 100 Continue and does not wait for it', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const bytes = 'POST /payments/x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde'
  const { responses, text } = await rawExchange(gateway.port, bytes)
  t.match(responses, [{ status: 200 }])
  t.notMatch(text, /100 Continue/)
  t.match(payments.received, [{ body: 'abcde' }])
})

t.test('an expectation without a body gets the response at once', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const { responses, text } = await rawExchange(
    gateway.port,
    rawRequest('GET /payments/x', 'Expect: 100-continue'),
  )
  t.match(responses, [{ status: 200 }])
  t.notMatch(text, /100 Continue/)
})

t.test('any other expectation is 417', async (t) => {
  const site = await startSite(t, SITE)
  for (const value of ['x', '200-ok', '100-continue, x', '100-continue; y=1', 'x 100-continue', '']) {
    const bytes = `${rawRequest('POST /payments/x', `Expect: ${value}`, 'Content-Length: 5')}abcde`
    await expectRefused(t, site, value, bytes, { status: 417, code: 'expectation_failed' })
  }
})

import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Decision } from '../../../src/limiter/limiter.js'
import { startSite } from '../../support/gateway/site.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, rawExchange, rawRequest } from '../../support/http/raw.js'

/** Tests short bodies that have come by the time the store answers: they are forwarded in one piece. */

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 100000/s } }
  marketing: { upstreams: [REFUSING, MARKETING], limits: { free: 100000/s } }
routes:
  - { path: /payments/*, service: payments }
  - { path: /marketing/*, service: marketing }
`

/** Like Redis, it answers in a later turn. */
const later = {
  limiter: {
    async take(): Promise<Decision> {
      await turn()
      return exampleDecision()
    },
  },
}

async function start(t: Parameters<typeof startSite>[0]) {
  return startSite(t, SITE.replace('REFUSING', (await refusingPort()).origin), {}, later)
}

t.test('bodies of every length up to a piece and beyond arrive as sent, and are counted', async (t) => {
  const { gateway, payments } = await start(t)
  const lengths = [1, 2, 100, 16_383, 16_384, 16_385, 70_000]
  for (const length of lengths) {
    const body = 'abcdefghij'.repeat(length / 10 + 1).slice(0, length)
    const bytes = rawRequest('POST /payments/x', `Content-Length: ${length}`) + body
    const { responses } = await rawExchange(gateway.port, bytes, { responses: 1 })
    t.match(responses, [{ status: 200 }], `${length} bytes`)
    t.equal(payments.received.at(-1)?.body.toString(), body, `${length} bytes`)
  }
  await gateway.recorded(lengths.length)
  t.same(
    gateway.records.map(({ bytesIn }) => bytesIn),
    lengths,
  )
})

t.test('bytes after a short body are the next request', async (t) => {
  const { gateway, payments } = await start(t)
  const post = (body: string) => rawRequest('POST /payments/x', `Content-Length: ${body.length}`) + body
  const { responses } = await rawExchange(
    gateway.port,
    `${post('first')}${rawRequest('GET /payments/y')}${post('GET /payments/z HTTP/1.1')}`,
    { responses: 3 },
  )
  t.same(
    responses.map(({ status }) => status),
    [200, 200, 200],
  )
  t.same(payments.received.map(({ body }) => body.toString()).sort(), [
    '',
    'GET /payments/z HTTP/1.1',
    'first',
  ])
})

t.test('a short body that one upstream did not take goes to the next', async (t) => {
  const { gateway, marketing } = await start(t)
  for (const body of ['one', 'two', 'three', 'four']) {
    const bytes = rawRequest('POST /marketing/x', `Content-Length: ${body.length}`) + body
    const { responses } = await rawExchange(gateway.port, bytes, { responses: 1 })
    t.match(responses, [{ status: 200 }], body)
  }
  t.same(
    marketing.received.map(({ body }) => body.toString()),
    ['one', 'two', 'three', 'four'],
  )
})

t.test('a short body whose last byte is late arrives complete', async (t) => {
  const { gateway, payments } = await start(t)
  const connection = await openRaw(gateway.port)
  connection.write(`${rawRequest('PUT /payments/x', 'Content-Length: 5')}abcd`)
  await new Promise((resolve) => setTimeout(resolve, 50))
  connection.write('e')
  await connection.until('the answer', () => connection.responses().length === 1)
  t.equal(payments.received[0]?.body.toString(), 'abcde')
  connection.socket.destroy()
})

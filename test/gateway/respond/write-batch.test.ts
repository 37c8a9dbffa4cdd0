import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawRequest } from '../../support/http/raw.js'

/** Tests that responses wait for the end of the event loop's turn, which nobody notices but by the clock. */

const SITE = `
tiers: [free]
services:
  payments: { upstreams: [PAYMENTS], limits: { free: 100000/s } }
routes:
  - { path: /payments/*, service: payments }
`

t.test('a refusal is sent before malformed bytes behind it are answered', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const connection = await openRaw(gateway.port)
  connection.write(`${rawRequest('GET /nowhere')}no request at all\r\n\r\n`)
  await connection.closed()
  t.same(
    connection.responses().map(({ status }) => status),
    [404, 400],
  )
})

t.test('fifty refusals for one write are fifty responses in order', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const connection = await openRaw(gateway.port)
  const ids = Array.from({ length: 50 }, (_, i) => `id-${i}`)
  connection.write(ids.map((id) => rawRequest('GET /nowhere', `X-Request-Id: ${id}`)).join(''))
  await connection.until('all answers', () => connection.responses().length === 50)
  t.same(
    connection.responses().map((response) => response.header('x-request-id')),
    ids,
  )
  t.notOk(connection.isClosed())
  connection.socket.destroy()
})

t.test('a client that leaves before its response is written is recorded, and harms no other', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const stays = await openRaw(gateway.port)
  for (let i = 0; i < 20; i++) {
    const leaves = await openRaw(gateway.port)
    leaves.write(rawRequest(`GET /nowhere/${i}`))
    leaves.socket.resetAndDestroy()
    stays.write(rawRequest('GET /nowhere/stays'))
  }
  await stays.until('all answers', () => stays.responses().length === 20)
  stays.socket.destroy()
  await eventually(
    'those who stay are recorded',
    () => gateway.records.filter(({ target }) => target === '/nowhere/stays').length === 20,
  )
  t.ok(gateway.records.every(({ status }) => status === 404 || status === 499))
})

t.test('an upgrade after a refused request on its connection is read, and refused', async (t) => {
  const { gateway } = await startSite(t, SITE)
  const connection = await openRaw(gateway.port)
  const upgrade = rawRequest('GET /nowhere/ws', 'Connection: Upgrade', 'Upgrade: websocket')
  connection.write(rawRequest('GET /nowhere') + upgrade)
  await connection.closed()
  t.same(
    connection.responses().map(({ status }) => status),
    [404, 404],
  )
})

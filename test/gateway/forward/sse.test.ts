import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import t from 'tap'
import { startSite } from '../../support/gateway/site.js'
import { openRaw, rawRequest } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/** Tests server-sent events and other streams: nothing waits for more to come. */

const SITE = `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS], limits: { free: 100/min } } }
routes: [{ path: /*, service: payments }]
`

t.test('each event arrives before the next is sent', async (t) => {
  let stream: ServerResponse | undefined
  const upstream = await recordingUpstream(t, (_, res) => {
    stream = res
    res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    res.flushHeaders()
  })
  const { gateway } = await startSite(t, SITE, { payments: upstream })
  const client = await openRaw(gateway.port)
  client.write(rawRequest('GET /events', 'Accept: text/event-stream', 'Accept-Encoding: gzip, br'))
  await client.until('the header, with no event sent', () => client.received().includes('\r\n\r\n'))
  t.match(client.received(), /content-type: text\/event-stream/i)
  t.match(client.received(), /cache-control: no-cache/i)
  for (let i = 0; i < 20; i++) {
    const event = `id: ${i}\ndata: ${'x'.repeat(i * 7)}\n\n`
    stream!.write(event)
    await client.until(`event ${i}`, () => client.received().includes(event))
  }
  stream!.end()
  await client.until('the end', () => client.responses().length === 1)
  t.match(client.responses(), [{ status: 200 }])
  client.socket.destroy()
})

t.test('the upstream learns at once that the client has left', async (t) => {
  let closed: Promise<unknown> | undefined
  const upstream = await recordingUpstream(t, (_, res) => {
    closed = once(res, 'close')
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    res.write('data: 1\n\n')
  })
  const { gateway } = await startSite(t, SITE, { payments: upstream })
  const client = await openRaw(gateway.port)
  client.write(rawRequest('GET /events'))
  await client.until('the event', () => client.received().includes('data: 1'))
  client.socket.destroy()
  await closed
  await gateway.recorded(1)
  t.match(gateway.records, [{ status: 200, error: 'client_closed' }])
})

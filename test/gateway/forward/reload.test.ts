import t from 'tap'
import type { Limiter } from '../../../src/limiter/limiter.js'
import { createNames } from '../../../src/upstream/pool/dns.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream, respond } from '../../support/http/raw-upstream.js'

function yamlFor(origin: string, limits = ''): string {
  return `
tiers: [free]
services: { api: { upstreams: ['${origin}']${limits} } }
routes: [{ path: /*, service: api }]
`
}

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const answer = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`

t.test('a request in flight finishes on the upstream that it began on', async (t) => {
  const before = await rawUpstream(t, () => {})
  const after = await rawUpstream(t, (request) => respond(request, answer('after')))
  const gateway = await startGateway(t, yamlFor(before.origin))
  const waiting = await openRaw(gateway.port)
  waiting.write(GET)
  const downloading = await openRaw(gateway.port)
  downloading.write(GET)
  await eventually('both arrive', () => before.requests.length === 2)
  respond(before.requests[1]!, 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
  await downloading.until('the beginning', () => downloading.received().endsWith('hello'))

  gateway.use(yamlFor(after.origin))
  const { responses } = await rawExchange(gateway.port, GET)
  t.equal(responses[0]!.body, 'after')
  t.strictSame(
    before.requests.map(({ closed }) => closed),
    [false, false],
  )
  respond(before.requests[0]!, answer('before'))
  respond(before.requests[1]!, 'world')
  await waiting.until('answer', () => waiting.responses().length === 1)
  await downloading.until('answer', () => downloading.responses().length === 1)
  t.equal(waiting.responses()[0]!.body, 'before')
  t.equal(downloading.responses()[0]!.body, 'helloworld')
  await eventually('the connections to the old one close', () =>
    before.requests.every(({ closed }) => closed),
  )
  waiting.write(GET)
  await waiting.until('answer', () => waiting.responses().length === 2)
  t.equal(waiting.responses()[1]!.body, 'after', 'the same client sees the new one')
  for (const client of [waiting, downloading]) client.socket.destroy()
})

t.test('a request that waited for the store meanwhile is forwarded as it was matched', async (t) => {
  const before = await rawUpstream(t, (request) => respond(request, answer('before')))
  const after = await rawUpstream(t, (request) => respond(request, answer('after')))
  let release = () => {}
  const slow: Pick<Limiter, 'take'> = {
    take: () =>
      new Promise((resolve) => {
        release = () =>
          resolve({
            allowed: true,
            decidedBy: 'store',
            reason: undefined,
            binding: 0,
            violated: 0,
            remaining: 1,
            resetMs: 1_000,
            retryMs: 0,
            at: 0,
          })
      }),
  }
  const gateway = await startGateway(t, yamlFor(before.origin, ', limits: { free: 5/min }'), {
    limiter: slow,
  })
  const client = await openRaw(gateway.port)
  let asked = release
  client.write(GET)
  await eventually('the store is asked', () => release !== asked)
  asked = release
  gateway.use(yamlFor(after.origin))
  release()
  await client.until('answer', () => client.responses().length === 1)
  t.equal(client.responses()[0]!.body, 'before')
  await eventually('and its connection is not kept', () => before.requests[0]!.closed)
  client.socket.destroy()
})

t.test("when a name's address changes, requests follow and none is lost", async (t) => {
  const upstream = await rawUpstream(t, (request) => {
    if (request.target !== '/slow') respond(request, answer('ok'))
  })
  const yaml = yamlFor(`http://backend.test:${upstream.port}`)
  let addresses = [{ address: '127.0.0.1', family: 4 }]
  const names = createNames({ resolve: () => Promise.resolve(addresses), refreshMs: 20 })
  const upstreams = createUpstreams(snapshotOf(yaml), { names })
  t.teardown(() => upstreams.close())
  const gateway = await startGateway(t, yaml, { upstreams })
  const slow = await openRaw(gateway.port)
  slow.write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
  await eventually('it arrives', () => upstream.requests.length === 1)
  await rawExchange(gateway.port, GET)
  t.equal(upstream.connections(), 2)
  addresses = [...addresses, { address: '127.0.0.2', family: 4 }]
  await eventually('the name is looked up', () => upstreams.describe()[0]!.resolved?.length === 2)
  t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
  t.equal(upstream.connections(), 3)
  await eventually('the idle one closes', () => upstream.requests[1]!.closed)
  t.equal(upstream.requests[0]!.closed, false)
  respond(upstream.requests[0]!, answer('late'))
  await slow.until('answer', () => slow.responses().length === 1)
  t.equal(slow.responses()[0]!.body, 'late')
  await eventually('and so does the other', () => upstream.requests[0]!.closed)
  slow.socket.destroy()
})

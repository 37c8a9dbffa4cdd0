// Tests src/gateway/forward/hash-key.ts
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import {
  type RawRequest,
  type RawUpstream,
  rawUpstream,
  reset,
  respond,
} from '../../support/http/raw-upstream.js'
import { startChat } from '../../support/http/websocket.js'

function yamlFor(origins: readonly string[], more = '', route = ''): string {
  return `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services: { api: { upstreams: [${origins.map((origin) => `'${origin}'`).join(', ')}]${more} } }
routes: [{ path: /*, service: api${route} }]
`
}

// These tests mostly wait.
t.jobs = 4
const APART = { buffered: true }

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const get = (fields = '') => `GET /x HTTP/1.1\r\nHost: a\r\n${fields}\r\n`
const statusOf = async (gateway: TestGateway, bytes = get()) =>
  (await rawExchange(gateway.port, bytes)).responses[0]!.status
const hits = (upstreams: readonly RawUpstream[]) => upstreams.map(({ requests }) => requests.length)
const stateOf = ({ upstreams }: TestGateway, { origin }: { origin: string }) =>
  upstreams.describe().find(({ address }) => address === origin)!

async function several(t: Test, count: number, handler?: (request: RawRequest) => void) {
  return Promise.all(Array.from({ length: count }, () => rawUpstream(t, handler)))
}

t.test('requests are spread by weight', APART, async (t) => {
  const [a, b] = (await several(t, 2)) as [RawUpstream, RawUpstream]
  const yaml = yamlFor([a.origin, b.origin]).replace(`'${a.origin}'`, `{ url: '${a.origin}', weight: 3 }`)
  const gateway = await startGateway(t, yaml)
  for (let i = 0; i < 8; i++) await statusOf(gateway)
  t.strictSame(hits([a, b]), [6, 2])
})

t.test('of two upstreams, the one with fewer requests in flight gets the next', APART, async (t) => {
  const stuck = await rawUpstream(t, () => {})
  const quick = await rawUpstream(t)
  const gateway = await startGateway(t, yamlFor([stuck.origin, quick.origin], ', balance: least_requests'))
  const held = await openRaw(gateway.port)
  // Sooner or later one request goes to the upstream that never answers, and none after it.
  for (let i = 0; stuck.requests.length === 0; i++) {
    held.write(get())
    await eventually('it is with one of them', () => stuck.requests.length + quick.requests.length > i)
  }
  const before = quick.requests.length
  for (let i = 0; i < 10; i++) t.equal(await statusOf(gateway), 200)
  t.strictSame(hits([stuck, quick]), [1, before + 10])
  held.socket.destroy()
})

t.test('hashing keeps', APART, async (t) => {
  const ask = async (gateway: TestGateway, upstreams: readonly RawUpstream[], fields: string) => {
    const before = hits(upstreams)
    for (let i = 0; i < 2; i++) await statusOf(gateway, get(fields))
    const grown = hits(upstreams).map((count, i) => count - before[i]!)
    return grown.indexOf(2)
  }
  // So many names that each of the three gets some, whatever its port.
  const names = Array.from({ length: 40 }, (_, i) => `user-${i}`)

  t.test('a consumer at its upstream', async (t) => {
    const upstreams = await several(t, 3)
    const gateway = await startGateway(
      t,
      yamlFor(
        upstreams.map(({ origin }) => origin),
        ', balance: { hash: consumer }',
      ),
    )
    const owners: number[] = []
    for (const name of names) owners.push(await ask(gateway, upstreams, `X-User-Id: ${name}\r\n`))
    t.notOk(owners.includes(-1), 'each stays where it is')
    t.equal(new Set(owners).size, 3, 'and all are used')
    t.not(await ask(gateway, upstreams, ''), -1, 'an address is a consumer, too')

    gateway.upstreams.setState('api', upstreams[0]!.origin, 'drained')
    for (const [i, name] of names.entries()) {
      const owner = await ask(gateway, upstreams, `X-User-Id: ${name}\r\n`)
      if (owners[i] === 0) t.ok(owner > 0, 'consumers of the drained upstream move')
      else t.equal(owner, owners[i], 'and no others')
    }
  })

  t.test('the same header at the same upstream, and spreads requests without it', async (t) => {
    const upstreams = await several(t, 3)
    const origins = upstreams.map(({ origin }) => origin)
    const gateway = await startGateway(t, yamlFor(origins, ', balance: { hash: { header: X-Session } }'))
    const owners: number[] = []
    for (const name of names) owners.push(await ask(gateway, upstreams, `x-SESSION: ${name}\r\n`))
    t.notOk(owners.includes(-1))
    t.equal(new Set(owners).size, 3)
    t.equal(await ask(gateway, upstreams, ''), -1)
  })
})

t.test('requests that wait for an upstream', APART, async (t) => {
  const LIMITS = ', max_connections: 1, max_wait: 20s'

  t.test('go in order of arrival, to whichever is free', async (t) => {
    const upstreams = await several(t, 2, () => {})
    const gateway = await startGateway(
      t,
      yamlFor(
        upstreams.map(({ origin }) => origin),
        LIMITS,
      ),
    )
    const clients = await Promise.all(Array.from({ length: 6 }, () => openRaw(gateway.port)))
    for (const [i, client] of clients.entries()) {
      client.write(get(`X-Number: ${i}\r\n`))
      await eventually('it is under way', () => gateway.watchdog.size() === i + 1)
    }
    t.strictSame([...gateway.upstreams.waiting()], [['api', 4]])
    // A client that leaves is skipped.
    clients[3]!.socket.destroy()
    await gateway.recorded(1)
    t.match(gateway.records[0], { status: 499, error: 'client_closed', upstream: undefined })
    t.strictSame([...gateway.upstreams.waiting()], [['api', 3]])

    const numbers = () => upstreams.map(({ requests }) => requests.map((r) => r.values('x-number')[0]))
    const answerAt = async (place: number) => {
      const { requests } = upstreams[place]!
      const count = requests.length
      respond(requests.at(-1)!, OK)
      await eventually('the next one comes', () => requests.length > count)
    }
    await answerAt(1)
    await answerAt(1)
    await answerAt(0)
    t.strictSame(numbers(), [
      ['0', '5'],
      ['1', '2', '4'],
    ])
    for (const { requests } of upstreams) respond(requests.at(-1)!, OK)
    for (const client of clients) client.socket.destroy()
  })

  t.test('are refused when too many wait, and when it takes too long', async (t) => {
    const upstream = await rawUpstream(t, () => {})
    const gateway = await startGateway(
      t,
      yamlFor([upstream.origin], ', max_connections: 1, max_waiting: 1, max_wait: 2s'),
    )
    const first = await openRaw(gateway.port)
    first.write(get())
    await eventually('it has the connection', () => upstream.requests.length === 1)
    const began = performance.now()
    const second = await openRaw(gateway.port)
    second.write('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello')
    await eventually('it waits', () => gateway.watchdog.size() === 2)
    const third = (await rawExchange(gateway.port, get())).responses[0]!
    t.match(third, { status: 503 })
    t.equal(second.responses().length, 0, 'at once')
    t.equal(third.header('retry-after'), '1')
    await second.until('answer', () => second.responses().length === 1)
    t.ok(performance.now() - began >= 1_990)
    t.match(second.responses(), [{ status: 503 }])
    t.equal(second.responses()[0]!.header('retry-after'), '1')
    await gateway.recorded(2)
    t.match(gateway.records, [
      { error: 'overloaded', cause: '1 requests already wait for an upstream', upstreamMs: 0 },
      { error: 'overloaded', cause: 'no upstream was free within 2000 ms', upstreamMs: 0 },
    ])
    respond(upstream.requests[0]!, OK)
    await first.until('answer', () => first.responses().length === 1)
    t.equal(upstream.requests.length, 1, 'nothing of them reached the upstream')
    first.socket.destroy()
  })

  t.test('are served by one that comes back meanwhile', async (t) => {
    const [a, b] = (await several(t, 2, () => {})) as [RawUpstream, RawUpstream]
    const gateway = await startGateway(t, yamlFor([a.origin, b.origin], LIMITS))
    gateway.upstreams.setState('api', b.origin, 'drained')
    const clients = await Promise.all([openRaw(gateway.port), openRaw(gateway.port)])
    for (const client of clients) client.write(get())
    await eventually('one waits', () => gateway.watchdog.size() === 2 && a.requests.length === 1)
    t.equal(b.requests.length, 0)
    gateway.upstreams.setState('api', b.origin, 'serving')
    await eventually('it is with the other', () => b.requests.length === 1)
    for (const { requests } of [a, b]) respond(requests[0]!, OK)
    for (const client of clients) {
      await client.until('answer', () => client.responses().length === 1)
      client.socket.destroy()
    }
  })

  t.test('are never WebSockets: tunnels take no connection', async (t) => {
    const chat = await startChat(t)
    const gateway = await startGateway(t, yamlFor([chat.origin], LIMITS, ', websocket: true'))
    const open = async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/room`)
      await new Promise((resolve) => socket.once('open', resolve))
      return socket
    }
    const sockets = [await open(), await open()]
    t.match(gateway.upstreams.describe(), [{ in_flight: 0, tunnels: 2 }])
    t.match([...gateway.upstreams.health()], [{ inFlight: 2 }])
    for (const socket of sockets) socket.close()
    await eventually('all is over', () => gateway.upstreams.describe()[0]!.tunnels === 0)
  })
})

t.test('an upstream is ejected', APART, async (t) => {
  const ways: [what: string, handler: (request: RawRequest) => void, route?: string][] = [
    ['that answers 503', (r) => respond(r, 'HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy')],
    ['that resets', (r) => reset(r.socket)],
    ['that breaks off in a body', (r) => r.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')],
    [
      'that stops in a body',
      (r) => r.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'),
      ', timeouts: { idle: 1s }',
    ],
    ['that says nothing', () => {}, ', timeouts: { headers: 1s }'],
    ['that speaks no HTTP', (r) => respond(r, 'hello\r\n\r\n')],
  ]
  for (const [what, handler, route] of ways) {
    t.test(what, async (t) => {
      const [bad, fine] = [await rawUpstream(t, handler), await rawUpstream(t)]
      const yaml = yamlFor([bad.origin, fine.origin], ', outliers: { consecutive_failures: 3 }', route)
      const gateway = await startGateway(t, yaml)
      for (let i = 0; i < 6; i++) {
        // A POST is sent once, whatever happens.
        const client = await openRaw(gateway.port)
        client.write('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n')
        await gateway.recorded(i + 1)
        client.socket.destroy()
      }
      t.match(stateOf(gateway, bad), { state: 'ejected', why: /^3 failures in a row, the last: / })
      const before = hits([bad, fine])
      for (let i = 0; i < 5; i++) t.equal(await statusOf(gateway), 200)
      t.strictSame(hits([bad, fine]), [before[0], before[1]! + 5])
    })
  }

  t.test('but not for what a client does, a 500, or a dead idle connection', async (t) => {
    const patient = await rawUpstream(t, ({ target, socket }) => {
      if (target === '/500') socket.write('HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n')
    })
    const gateway = await startGateway(
      t,
      yamlFor([patient.origin, 'http://127.0.0.1:1'], ', outliers: { consecutive_failures: 2 }'),
    )
    gateway.upstreams.setState('api', 'http://127.0.0.1:1', 'drained')
    for (let i = 0; i < 4; i++) {
      t.equal(await statusOf(gateway, get().replace('/x', '/500')), 500)
      const client = await openRaw(gateway.port)
      client.write(get())
      await eventually('it has come', () => patient.requests.length === 2 * i + 2)
      client.socket.destroy()
      await gateway.recorded(2 * i + 2)
    }
    t.match(stateOf(gateway, patient), { state: 'serving', ejections: 0 })
  })
})

t.test('when an operator has drained all upstreams, the service is unavailable', APART, async (t) => {
  const upstream = await rawUpstream(t, () => {})
  const gateway = await startGateway(t, yamlFor([upstream.origin]))
  const client = await openRaw(gateway.port)
  client.write(get())
  await eventually('it has come', () => upstream.requests.length === 1)
  gateway.upstreams.setState('api', upstream.origin, 'drained')
  const { responses } = await rawExchange(gateway.port, get())
  t.equal(responses[0]!.status, 503)
  t.match(JSON.parse(responses[0]!.body), { code: 'no_upstream' })
  respond(upstream.requests[0]!, OK)
  await client.until('answer', () => client.responses().length === 1)
  t.match(client.responses(), [{ status: 200 }], 'the running request goes on')
  client.socket.destroy()
})

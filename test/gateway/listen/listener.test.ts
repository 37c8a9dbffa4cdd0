import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { type EntranceSite, openFrom, startEntrance } from '../../support/http/entrance.js'
import { proxyV1, proxyV2 } from '../../support/http/proxy-header.js'
import { openRaw, type RawConnection, rawRequest } from '../../support/http/raw.js'

/** Tests what happens to a connection before its first request: who may connect, how often, and who is behind a proxy. */

const SITE = `
tiers: [free]
consumers: [{ ip: {} }]
services: { payments: { upstreams: [PAYMENTS] }, marketing: { upstreams: [MARKETING] } }
routes: [{ path: /payments/*, service: payments }, { path: /marketing/*, service: marketing }]
`
const PROXIED = `${SITE}
trusted_proxies: [127.0.0.1, 198.51.100.0/24]
server: { proxy_protocol: true, header_timeout: 1m, max_connections_per_client: 2 }
`
const REQUEST = rawRequest('GET /payments/1', 'X-Forwarded-For: 203.0.113.99')

async function answered(connection: RawConnection, count = 1): Promise<number[]> {
  await connection.until(`${count} responses`, () => connection.responses().length >= count)
  return connection.responses().map(({ status }) => status)
}

/** Sends the pieces one by one on a connection of its own. */
async function sent(site: EntranceSite, ...pieces: Buffer[]): Promise<RawConnection> {
  const connection = await openRaw(site.gateway.port)
  for (const piece of pieces) {
    connection.socket.write(piece)
    if (pieces.length > 1) await new Promise((resolve) => setImmediate(resolve))
  }
  return connection
}

const request = Buffer.from(REQUEST)

t.test('the client in a PROXY header is counted, logged and named to the upstream', async (t) => {
  const site = await startEntrance(t, PROXIED)
  const { gateway, payments } = site
  const long = Buffer.alloc(3_000, 4)
  const cases: [what: string, client: string, pieces: Buffer[]][] = [
    [
      'version 1 and the request in one piece',
      '192.0.2.1',
      [Buffer.concat([proxyV1('192.0.2.1', 7), request])],
    ],
    [
      'version 2 and the request in one piece',
      '192.0.2.2',
      [Buffer.concat([proxyV2('192.0.2.2', 7), request])],
    ],
    ['the request after the header', '192.0.2.3', [proxyV1('192.0.2.3', 7), request]],
    ['version 2 with much that is not addresses', '192.0.2.4', [proxyV2('192.0.2.4', 7, long), request]],
    ['IPv6 in version 1', '2001:db8::1', [proxyV1('2001:db8::1', 7), request]],
    ['IPv6 in version 2', '2001:db8::2', [proxyV2('2001:db8::2', 7), request]],
    ['IPv4 in IPv6', '192.0.2.5', [proxyV2('::ffff:c000:0205', 7), request]],
    [
      'byte by byte',
      '192.0.2.6',
      [...Buffer.concat([proxyV1('192.0.2.6', 7), request])].map((byte) => Buffer.of(byte)),
    ],
    [
      'byte by byte, version 2',
      '2001:db8:0:5::3',
      [...proxyV2('2001:db8:0:5::3', 7), ...request].map((byte) => Buffer.of(byte)),
    ],
  ]
  for (const [what, client, pieces] of cases) {
    const count = payments.received.length
    const connection = await sent(site, ...pieces)
    t.same(await answered(connection), [200], what)
    t.equal(payments.received[count]!.values('x-forwarded-for').join(), client, what)
    await gateway.recorded(count + 1)
    t.equal(gateway.records[count]!.clientIp, client, what)
    connection.socket.destroy()
  }
  t.equal(site.counts.rejected.proxy_header, 0)
})

t.test(
  'later and pipelined requests on the connection are of the same client, answered in order',
  async (t) => {
    const site = await startEntrance(t, PROXIED)
    const connection = await sent(site, Buffer.concat([proxyV2('192.0.2.9', 7), request, request, request]))
    t.same(await answered(connection, 3), [200, 200, 200])
    connection.write(REQUEST)
    t.same(await answered(connection, 4), [200, 200, 200, 200])
    t.same(
      site.payments.received.map((one) => one.values('x-forwarded-for').join()),
      Array(4).fill('192.0.2.9'),
    )
    connection.socket.destroy()
  },
)

t.test('X-Forwarded-For is believed from trusted proxies, in front or named by a PROXY header', async (t) => {
  const site = await startEntrance(t, PROXIED)
  const cases: [what: string, header: Buffer, expected: string][] = [
    ['from trusted_proxies', proxyV1('198.51.100.7', 7), '203.0.113.99, 198.51.100.7'],
    [
      'LOCAL: the proxy speaks for itself',
      proxyV2('192.0.2.1', 7, Buffer.alloc(0), 0),
      '203.0.113.99, 127.0.0.1',
    ],
    ['UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), '0.0.0.0'],
  ]
  for (const [what, header, expected] of cases) {
    const connection = await sent(site, header, request)
    t.same(await answered(connection), [200], what)
    t.equal(site.payments.received.at(-1)!.values('x-forwarded-for').join(), expected, what)
    connection.socket.destroy()
  }
})

t.test('with proxy_protocol, a missing, bad or late header closes the connection', async (t) => {
  const site = await startEntrance(t, PROXIED.replace('1m', '300ms'))
  const { counts, lines } = site
  for (const bytes of [REQUEST, 'PROXY TCP4 1.2.3.4\r\n', 'PROXY TCP4 ', '', `PROXY ${'A'.repeat(200)}`]) {
    const connection = await sent(site, Buffer.from(bytes))
    await connection.closed()
    t.equal(connection.received(), '', JSON.stringify(bytes.slice(0, 20)))
  }
  t.equal(counts.rejected.proxy_header, 5)
  t.equal(site.received(), 0)
  await eventually('all are closed', () => counts.open === 0)
  t.match(lines, [{ level: 'warn', fields: { peer: '127.0.0.1' }, message: /without a good header/ }])
  t.equal(lines.length, 1, 'one line a minute, however many there are')
})

t.test('with proxy_protocol, only trusted_proxies may connect', async (t) => {
  const site = await startEntrance(t, PROXIED)
  const stranger = await openFrom('127.0.0.2', site.gateway.port)
  stranger.socket.write(Buffer.concat([proxyV1('192.0.2.1', 7), request]))
  await stranger.closed()
  t.equal(stranger.received(), '')
  t.equal(site.counts.rejected.untrusted, 1)
  t.equal(site.received(), 0)
  t.match(site.lines, [{ level: 'warn', fields: { peer: '127.0.0.2' }, message: /list the proxy there/ }])
})

t.test('connections are limited by the address in the PROXY header, IPv6 by its /64', async (t) => {
  const site = await startEntrance(t, PROXIED)
  const open: RawConnection[] = []
  for (const host of ['1', 'ffff']) {
    open.push(await sent(site, proxyV2(`2001:db8:0:7::${host}`, 7), request))
    t.same(await answered(open.at(-1)!), [200])
  }
  const surplus = await sent(site, proxyV2('2001:db8:0:7::2', 7), request)
  await surplus.closed()
  t.equal(surplus.received(), '')
  t.equal(site.counts.rejected.per_client, 1)
  const neighbour = await sent(site, proxyV2('2001:db8:0:8::1', 7), request)
  t.same(await answered(neighbour), [200])
  for (const connection of [...open, neighbour]) connection.socket.destroy()
  await eventually('all are closed', () => site.counts.open === 0)
})

t.test('a client has a maximum of open connections, and a closed one makes room', async (t) => {
  const site = await startEntrance(t, `${SITE}server: { max_connections_per_client: 2 }`)
  const { counts, gateway } = site
  const first = await openRaw(gateway.port)
  const second = await openRaw(gateway.port)
  await eventually('both are open', () => counts.open === 2)
  const surplus = await openRaw(gateway.port)
  surplus.write(REQUEST)
  await surplus.closed()
  t.equal(surplus.received(), '')
  t.equal(counts.rejected.per_client, 1)
  const other = await openFrom('127.0.0.2', gateway.port)
  other.write(REQUEST)
  t.same(await answered(other), [200], 'another client is not concerned')
  first.socket.destroy()
  await eventually('one is closed', () => counts.open === 2)
  const third = await openRaw(gateway.port)
  third.write(REQUEST)
  t.same(await answered(third), [200])
  second.write(REQUEST)
  t.same(await answered(second), [200])
  for (const { socket } of [second, third, other]) socket.destroy()
  await eventually('all are closed', () => counts.open === 0)
  t.match(site.lines, [
    { level: 'warn', fields: { client: '127.0.0.1' }, message: /max_connections_per_client/ },
  ])
})

t.test('trusted proxies may have more connections than one client', async (t) => {
  const site = await startEntrance(
    t,
    `${SITE}trusted_proxies: [127.0.0.1]\nserver: { max_connections_per_client: 1 }`,
  )
  const connections = [await openRaw(site.gateway.port), await openRaw(site.gateway.port)]
  for (const connection of connections) {
    connection.write(REQUEST)
    t.same(await answered(connection), [200])
    connection.socket.destroy()
  }
  t.equal(site.counts.rejected.per_client, 0)
})

t.test('connections above max_connections are closed at once and counted', async (t) => {
  const site = await startEntrance(t, `${SITE}server: { max_connections: 2 }`)
  const { counts, gateway } = site
  const kept = [await openRaw(gateway.port), await openRaw(gateway.port)]
  await eventually('both are open', () => counts.open === 2)
  const surplus = await openRaw(gateway.port)
  await surplus.closed()
  t.equal(counts.rejected.total, 1)
  t.equal(counts.open, 2)
  for (const connection of kept) {
    connection.write(REQUEST)
    t.same(await answered(connection), [200])
    connection.socket.destroy()
  }
  t.match(site.lines, [{ level: 'warn', fields: { max_connections: 2 }, message: /server\.max_connections/ }])
})

t.test('a connection that has not sent its PROXY header does not delay a drain', async (t) => {
  const site = await startEntrance(t, PROXIED)
  const silent = await openRaw(site.gateway.port)
  await eventually('it is there', () => site.counts.open === 1)
  await site.gateway.app.close()
  await silent.closed()
  t.equal(silent.received(), '')
})

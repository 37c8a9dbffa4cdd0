import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createShares } from '../../src/shares.js'
import { eventually } from '../support/eventually.js'
import { call, startAdmin, type TestAdmin } from '../support/gateway/admin.js'

const NEIGHBOUR = '127.0.0.2'

/** Opens connections from an address. */
async function open(t: Test, port: number, count: number, from = NEIGHBOUR): Promise<Socket[]> {
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect({ port, host: '127.0.0.1', localAddress: from })
      socket.on('error', () => {})
      await once(socket, 'connect')
      return socket
    }),
  )
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  return sockets
}

const held = (shares: ReturnType<typeof createShares>) => [...shares.all()][0]!

/** Makes `/metrics` answer only when told to. */
function slowMetrics() {
  const waiting: (() => void)[] = []
  const scrape = () => new Promise<string>((resolve) => waiting.push(() => resolve('up 1\n')))
  return { waiting, metrics: { scrape, traffic: () => ({}) as never, limitCounts: () => [] } }
}

const scrapeOf = ({ port }: TestAdmin) => `GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`

async function seen(admin: TestAdmin): Promise<number[]> {
  const paths = ['/healthz', '/readyz', '/metrics']
  return Promise.all(paths.map(async (path) => (await call(admin.port, 'GET', path)).status))
}

t.test('256 idle connections of one address block no probe and no scrape', async (t) => {
  const admin = await startAdmin(t)
  await open(t, admin.port, 300)
  t.strictSame(await seen(admin), [200, 200, 200])
})

t.test('even if the probes come from the same address', async (t) => {
  const shares = createShares()
  const admin = await startAdmin(t, { shares })
  const idle = await open(t, admin.port, 300, '127.0.0.1')
  t.strictSame(await seen(admin), [200, 200, 200])
  await eventually('the state is reached', () => idle.filter((socket) => !socket.closed).length <= 64)
  t.ok(held(shares).held <= 64)
  t.ok(held(shares).refused.caller >= 236)
})

t.test('when many addresses hold all connections, the longest idle one is closed', async (t) => {
  const shares = createShares()
  const admin = await startAdmin(t, { shares })
  const [first] = await open(t, admin.port, 1, '127.0.1.1')
  for (let i = 2; i <= 6; i++) await open(t, admin.port, 51, `127.0.1.${i}`)
  await eventually('the state is reached', () => held(shares).held === 256)
  t.strictSame(await seen(admin), [200, 200, 200])
  await eventually('the state is reached', () => first!.closed)
  t.ok(held(shares).refused.all > 0)
})

t.test('a request in progress keeps its connection; an address at its share gets no more', async (t) => {
  const { waiting, metrics } = slowMetrics()
  const shares = createShares()
  const admin = await startAdmin(t, { metrics, shares })
  const sockets = await open(t, admin.port, 64)
  for (const socket of sockets) socket.write(scrapeOf(admin))
  await eventually('the state is reached', () => waiting.length === 64)
  const [more] = await open(t, admin.port, 1)
  more!.resume()
  await once(more!, 'close')
  t.equal(sockets.filter((socket) => socket.closed).length, 0)
  t.equal((await call(admin.port, 'GET', '/readyz')).status, 200)
  for (const answer of waiting) answer()
})

t.test('the last connections are for probes and scrapes only', async (t) => {
  const { waiting, metrics } = slowMetrics()
  const admin = await startAdmin(t, { metrics })
  for (let i = 1; i <= 4; i++) {
    for (const socket of await open(t, admin.port, 56, `127.0.1.${i}`)) socket.write(scrapeOf(admin))
  }
  await eventually('the state is reached', () => waiting.length === 224)
  const other = await call(admin.port, 'GET', '/config')
  t.match(other, {
    status: 503,
    headers: { 'retry-after': '1', connection: 'close' },
    json: { code: 'crowded' },
  })
  t.equal((await call(admin.port, 'GET', '/healthz')).status, 200)
  t.equal((await call(admin.port, 'GET', '/readyz')).status, 200)
  for (const answer of waiting) answer()
})

t.test('a trusted proxy may use all connections', async (t) => {
  const shares = createShares({ callerOf: (address) => (address === NEIGHBOUR ? undefined : address) })
  const admin = await startAdmin(t, { shares })
  await open(t, admin.port, 200)
  await eventually('the state is reached', () => held(shares).held === 200)
  t.strictSame(held(shares).refused, { caller: 0, all: 0 })
})

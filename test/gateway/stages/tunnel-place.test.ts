import { request } from 'node:http'
import t, { type Test } from 'tap'
import { type ClientOptions, WebSocket } from 'ws'
import { createShares, type Shares } from '../../../src/shares.js'
import { eventually } from '../../support/eventually.js'
import { startGateway, type TestGateway } from '../../support/gateway/gateway.js'
import { exampleDecision } from '../../support/gateway/snapshot.js'
import { refusingPort } from '../../support/http/hanging-listener.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { rawUpstream } from '../../support/http/raw-upstream.js'
import { handshake, startChat } from '../../support/http/websocket.js'

const ATTACKER: ClientOptions = { localAddress: '127.0.0.2' }

const config = (chat: string, more = '', limits = '') => `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services:
  both: { upstreams: ['${chat}'], max_wait: 50ms${more}${limits} }
routes:
  - { path: /*, service: both, websocket: true }
`

async function open(t: Test, { port }: TestGateway, count: number, options: ClientOptions = {}) {
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/room`, options)
      const status = await new Promise<number>((resolve) => {
        socket.on('error', () => {})
        socket.on('open', () => resolve(101))
        socket.on('unexpected-response', (_, response) => resolve(response.statusCode!))
      })
      return { socket, status }
    }),
  )
  t.teardown(() => {
    for (const { socket } of sockets) socket.terminate()
  })
  return sockets
}

/** Sends a plain request and returns its status. */
function status({ port }: TestGateway, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/x', headers, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode!)
    })
    sent.on('error', reject)
    sent.end()
  })
}

const statuses = (opened: { status: number }[]) => [...new Set(opened.map((one) => one.status))]
const tunnelsOf = (shares: Shares) => [...shares.all()].find(({ name }) => name === 'tunnels')!

t.test('130 idle WebSockets of one address take no connection from requests of others', async (t) => {
  const chat = await startChat(t)
  const gateway = await startGateway(t, config(chat.origin, ', max_connections: 2'))
  t.strictSame(statuses(await open(t, gateway, 130, ATTACKER)), [101])
  for (let i = 0; i < 5; i++) t.equal(await status(gateway), 426, 'the answer of the upstream')
  t.strictSame(
    gateway.upstreams.describe().map(({ in_flight, tunnels }) => [in_flight, tunnels > 0]),
    [[0, true]],
  )
  t.strictSame(statuses(await open(t, gateway, 1)), [101], 'and no tunnel')
})

t.test('one address or consumer has a quarter of the tunnels, and others find theirs', async (t) => {
  const chat = await startChat(t)
  const told: string[] = []
  const shares = createShares({ onRefused: ({ service }, caller) => told.push(`${service} ${caller}`) })
  const limits = ', limits: { free: { amount: 3, window: 1h } }'
  const gateway = await startGateway(t, config(chat.origin, ', max_tunnels: 8', limits), {
    shares,
  })
  const [first] = await open(t, gateway, 2, ATTACKER)
  const refused = await rawExchange(gateway.port, handshake('/room', { 'X-User-Id': undefined }))
  t.equal(refused.responses[0]?.status, 101, 'from another address')
  t.strictSame(statuses(await open(t, gateway, 1, ATTACKER)), [429])
  t.strictSame(told, ['both 127.0.0.2'])
  t.match(
    gateway.records.at(-1),
    { status: 429, error: 'share_exceeded', decision: undefined },
    'no quota is taken',
  )
  first!.socket.close()
  await eventually('it is given back', () => tunnelsOf(shares).holders.get('127.0.0.2') === 1)
  t.strictSame(statuses(await open(t, gateway, 1, ATTACKER)), [101])

  const alice = { ...ATTACKER, headers: { 'x-user-id': 'alice' } }
  t.strictSame(statuses(await open(t, gateway, 2, alice)), [101], 'a consumer has its own, wherever it is')
  t.strictSame(statuses(await open(t, gateway, 1, { headers: { 'x-user-id': 'alice' } })), [429])
})

t.test('when all tunnels are taken the answer is 503; without a cap one client may have all', async (t) => {
  const chat = await startChat(t)
  const more = ', max_tunnels: 5, max_tunnels_per_client: 0'
  const shares = createShares()
  const gateway = await startGateway(t, config(chat.origin, more), { shares })
  t.strictSame(statuses(await open(t, gateway, 5, ATTACKER)), [101])
  const { responses } = await rawExchange(gateway.port, handshake('/room'))
  t.match(responses[0], { status: 503 })
  t.equal(responses[0]!.header('retry-after'), '1')
  t.match(JSON.parse(responses[0]!.body), { code: 'overloaded' })
  t.equal(tunnelsOf(shares).held, 5)
})

t.test('a trusted proxy may have all tunnels', async (t) => {
  const chat = await startChat(t)
  const shares = createShares({ callerOf: () => undefined })
  const gateway = await startGateway(t, config(chat.origin, ', max_tunnels: 8'), { shares })
  t.strictSame(statuses(await open(t, gateway, 8, ATTACKER)), [101])
  t.strictSame(statuses(await open(t, gateway, 1, ATTACKER)), [503])
})

t.test('a place is given back however the handshake ends', async (t) => {
  const { origin: refusing } = await refusingPort()
  const plain = await rawUpstream(t)
  const shares = createShares()
  const gone = await startGateway(t, config(refusing), { shares })
  t.strictSame(statuses(await open(t, gone, 2)), [502])
  t.equal(tunnelsOf(shares).held, 0, 'no upstream')

  const other = createShares()
  const answering = await startGateway(t, config(plain.origin), { shares: other })
  t.strictSame(statuses(await open(t, answering, 2)), [200])
  await eventually('an upstream that does not switch', () => tunnelsOf(other).held === 0)

  const chat = await startChat(t)
  const denied = createShares()
  const limits = ', limits: { free: { amount: 1, window: 1h } }'
  const limited = await startGateway(t, config(chat.origin, '', limits), { shares: denied })
  const [one] = await open(t, limited, 1)
  t.strictSame(statuses(await open(t, limited, 3)), [429])
  t.equal(tunnelsOf(denied).held, 1, 'no quota')
  one!.socket.terminate()
  await eventually('a cut', () => tunnelsOf(denied).held === 0)

  let decide: (() => void) | undefined
  const leaving = createShares()
  const take = () =>
    new Promise<ReturnType<typeof exampleDecision>>((resolve) => {
      decide = () => resolve(exampleDecision())
    })
  const slow = await startGateway(t, config(chat.origin, '', limits), {
    shares: leaving,
    limiter: { take },
  })
  const client = await openRaw(slow.port)
  client.write(handshake('/room'))
  await eventually('it waits for its quota', () => decide !== undefined)
  t.equal(tunnelsOf(leaving).held, 1)
  client.socket.destroy()
  await slow.recorded(1)
  t.equal(tunnelsOf(leaving).held, 0, 'a client that left')
  decide!()
})

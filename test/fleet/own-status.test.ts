import t from 'tap'
import { readStatus } from '../../src/fleet/gateway-status.js'
import { createOwnStatus, type OwnStatusOptions } from '../../src/fleet/own-status.js'
import { snapshotOf } from '../support/gateway/gateway.js'

const AT = Date.parse('2026-11-25T12:00:00Z')

function snapshot(limit: string, loadedAt: number) {
  const { hash, config } = snapshotOf(`
group: canary
tiers: [free]
services: { api: { upstreams: [http://127.0.0.1:9001], limits: { free: ${limit} } } }
routes: [{ path: /*, service: api }]
`)
  return { hash, loadedAt, config }
}

t.test('a process says which configurations it has taken, and what it is behind', async (t) => {
  let now = AT
  let current = snapshot('1/s', AT - 10)
  let lastError: { at: string; messages: string[] } | null = null
  let confirmed = AT
  const sent: string[] = []
  const options = {
    gateway: 'gw-1~1',
    worker: 2,
    version: '1.2.3',
    config: { current: () => current, status: () => ({ lastError }) },
    draining: () => false,
    degraded: () => true,
    faults: () => new Array(20).fill('the store\nis away'),
    maps: () => [
      { history: () => ({ what: 'bans' }), confirmedAt: () => confirmed },
      { history: () => ({ what: 'API keys' }), confirmedAt: () => now },
    ],
    requests: () => 0,
    ready: Promise.resolve(),
    heartbeat: { setStatus: (text: string) => void sent.push(text) },
    now: () => now,
  } as unknown as OwnStatusOptions
  const status = createOwnStatus(options)
  t.teardown(() => status.close())
  t.same(sent, [], 'before the store has answered, nothing is known')
  await options.ready
  const first = current.hash
  t.match(readStatus(sent[0]!), {
    gateway: 'gw-1~1',
    worker: 2,
    group: 'canary',
    version: '1.2.3',
    started: AT,
    receipts: [{ hash: first, at: AT - 10 }],
    rejected: null,
    degraded: true,
    lagMs: 0,
    behind: [],
  })
  now += 2000
  t.match(status.read(), { lagMs: 0 }, 'heartbeats come once a second')
  now += 1600
  t.match(status.read(), { lagMs: 4000, behind: ['bans'] })
  confirmed = now

  for (let i = 1; i <= 7; i++) {
    current = snapshot(`${i + 1}/s`, AT + i)
    status.read()
  }
  lastError = { at: '2026-11-25T12:00:01.000Z', messages: ['a.yaml:1:1: no\u001b[1m', 'x'] }
  const { receipts, rejected, ...rest } = status.read()
  t.equal(receipts.length, 5)
  t.strictSame(receipts[0], { hash: current.hash, at: AT + 7 })
  t.strictSame(rejected, { at: AT + 1000, message: 'a.yaml:1:1: no\ufffd[1m (and 1 more)' })
  t.strictSame(readStatus(JSON.stringify({ receipts, rejected, ...rest })), status.read())
})

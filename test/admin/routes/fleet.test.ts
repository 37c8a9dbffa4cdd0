import t from 'tap'
import { LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import type { ProcessStatus } from '../../../src/fleet/gateway-status.js'
import { LIBRARY_STATUS, type Member } from '../../../src/limiter/redis/heartbeat.js'
import { NOW, startAdmin } from '../../support/gateway/admin.js'

const OWN: ProcessStatus = {
  gateway: 'gw-1~1',
  worker: null,
  group: null,
  version: '1.2.3',
  started: NOW - 1000,
  receipts: [{ hash: '0123456789ab', at: NOW - 1000 }],
  rejected: null,
  draining: false,
  degraded: false,
  faults: [],
  lagMs: 0,
  behind: [],
  rate: 12,
}
const read = (status: ProcessStatus) => ({ read: () => status })
const member = (status: object | string | undefined): Member => ({
  id: Math.random().toString(),
  status: typeof status === 'object' ? JSON.stringify(status) : status,
  older: status === undefined,
  shards: 1,
})

function fleetOf(members: readonly Member[], ids: readonly string[] = []) {
  return {
    fleet: { ...LONE_FLEET, node: 'gw-1', members: async () => ids },
    heartbeat: { members: async () => members },
  }
}

t.test('without a store, GET /fleet shows this gateway', async (t) => {
  const { call } = await startAdmin(t, { parts: { status: read(OWN) } })
  const { status, json } = await call('GET', '/fleet')
  t.equal(status, 200)
  t.match(json, { node: LONE_FLEET.node, left_out: 0, libraries: 0, problem: null })
  t.strictSame(json.gateways, [
    {
      name: 'gw-1',
      group: null,
      versions: ['1.2.3'],
      workers: null,
      state: 'serving',
      started: new Date(NOW - 1000).toISOString(),
      config: {
        hash: '0123456789ab',
        since: new Date(NOW - 1000).toISOString(),
        others: [],
        rejected: null,
        receipts: [{ hash: '0123456789ab', at: new Date(NOW - 1000).toISOString() }],
      },
      differs: [],
      faults: [],
      lag_ms: 0,
      behind: [],
      requests_per_second: 12,
    },
  ])
  t.strictSame(json.unknown, { processes: 0, names: [] })
})

t.test('GET /fleet shows what the gateways say in the store, and its own gateway as it is now', async (t) => {
  const later = { ...OWN, receipts: [{ hash: 'ba9876543210', at: NOW }] }
  const members = [
    member({ ...OWN, rate: 1 }),
    member({ ...later, gateway: 'gw-2~1', worker: 1 }),
    member({ ...later, gateway: 'gw-2~1', worker: 2 }),
    member({ ...later, gateway: 'gw-3~1', rejected: { at: NOW, message: 'no' } }),
    member(LIBRARY_STATUS),
  ]
  const { call } = await startAdmin(t, {
    ...fleetOf(members, ['gw-1~1', 'gw-2~1', 'gw-3~1', 'gw-dead~1']),
    parts: { status: read(OWN) },
  })
  const { json } = await call('GET', '/fleet')
  t.match(json, {
    node: 'gw-1',
    gateways: [
      { name: 'gw-1', requests_per_second: 12, differs: ['configuration'] },
      { name: 'gw-2', workers: 2, requests_per_second: 24, differs: [] },
      { name: 'gw-3', config: { rejected: { message: 'no', at: new Date(NOW).toISOString() } } },
    ],
    unknown: { processes: 0, names: [] },
    libraries: 1,
  })
})

t.test('gateways without a status are counted, and named as far as their names can be shown', async (t) => {
  const hostile = member(`{"gateway":"\u001b[2J~1"}`)
  const members = [member(OWN), member(undefined), hostile]
  const ids = ['gw-1~1', 'old-2:7~1', 'old-1:7~1', 'bad\u001b[2J~1']
  const { call } = await startAdmin(t, { ...fleetOf(members, ids), parts: { status: read(OWN) } })
  const { json } = await call('GET', '/fleet')
  t.match(json, { gateways: [{ name: 'gw-1' }], unknown: { processes: 2, names: ['old-1:7', 'old-2:7'] } })
  t.equal(json.gateways.length, 1)
})

t.test('anybody may write many statuses; only so many are shown', async (t) => {
  const members = Array.from({ length: 1010 }, (_, i) => member({ ...OWN, gateway: `gw-${i}~1` }))
  const { call } = await startAdmin(t, { ...fleetOf(members), parts: { status: read(OWN) } })
  const { json } = await call('GET', '/fleet')
  t.equal(json.gateways.length, 1000)
  t.equal(json.left_out, 10)
})

t.test('while the store is away, GET /fleet shows this gateway and says so', async (t) => {
  const heartbeat = { members: () => Promise.reject(new Error('no answer')) }
  const { call } = await startAdmin(t, { heartbeat, parts: { status: read({ ...OWN, degraded: true }) } })
  t.match((await call('GET', '/fleet')).json, {
    gateways: [{ name: 'gw-1', state: 'degraded' }],
    problem: 'the gateways could not be read from the store',
  })
})

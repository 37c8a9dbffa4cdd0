import t from 'tap'
import { quantile } from '../../../src/admin/routes/history.js'
import { DURATIONS_MS } from '../../../src/telemetry/metrics/overview.js'
import { eventually } from '../../support/eventually.js'
import { startAdmin } from '../../support/gateway/admin.js'
import { startWhole } from '../../support/gateway/whole-gateway.js'
import { startRedis } from '../../support/redis/redis.js'

const EVERY = 10_000

t.test('GET /history tells the counts of each ten seconds, quantiles and events', async (t) => {
  const at = Math.floor(Date.now() / EVERY) * EVERY - 2 * EVERY
  const asked: number[] = []
  const { call } = await startAdmin(t, {
    history: {
      read(since) {
        asked.push(since)
        return {
          bounds_ms: DURATIONS_MS,
          samples: [
            [at, 90, 4, 5, 1, 3, 2, 50, 50, ...new Array(17).fill(0)],
            [at + EVERY, ...new Array(25).fill(0)],
          ],
          events: [{ at: at + 1, kind: 'started', text: 'Started, version 1.2.3' }],
        }
      },
    },
  })
  const { status, json } = await call('GET', '/history')
  t.equal(status, 200)
  const { from, to, ...rest } = json
  t.equal(Date.parse(to) - Date.parse(from), 3_600_000)
  t.strictSame(rest, {
    every_ms: EVERY,
    nodes: { answered: 1, silent: [], problem: null },
    samples: [
      {
        at: new Date(at).toISOString(),
        gateways: 1,
        responses: { ok: 90, client_error: 4, limited: 5, server_error: 1 },
        shed: 3,
        without_store: 2,
        p50_ms: 0.5,
        p95_ms: 0.95,
        p99_ms: 0.99,
      },
      {
        at: new Date(at + EVERY).toISOString(),
        gateways: 1,
        responses: { ok: 0, client_error: 0, limited: 0, server_error: 0 },
        shed: 0,
        without_store: 0,
        p50_ms: null,
        p95_ms: null,
        p99_ms: null,
      },
    ],
    events: [
      {
        at: new Date(at + 1).toISOString(),
        node: json.events[0].node,
        gateways: 1,
        kind: 'started',
        text: 'Started, version 1.2.3',
      },
    ],
  })
  const since = new Date(at + EVERY).toISOString()
  const { json: short } = await call('GET', `/history?of=fleet&since=${since}`)
  t.equal(short.from, since)
  t.equal(short.samples.length, 1)
  t.equal(asked.at(-1), at + EVERY)
})

t.test('an invalid question is refused', async (t) => {
  const { call } = await startAdmin(t)
  for (const [query, detail] of [
    ['of=all', 'of is one of gateway, fleet.'],
    ['since=yesterday', 'since is a moment in ISO 8601, such as 2026-11-25T01:40:10Z.'],
    ['of=fleet&of=gateway', 'Give of once.'],
    ['n=1', 'No parameter "n"; the parameters are of, since.'],
  ] as const)
    t.match((await call('GET', `/history?${query}`)).json, { status: 400, detail }, query)
  t.same((await call('GET', '/history')).json.samples, [], 'a process that is not a gateway has none')
})

t.test('quantiles are exact to the width of a bucket', async (t) => {
  t.equal(quantile([1, 10], [0, 0, 0], 0.5), null)
  t.equal(quantile([1, 10], [10, 0, 0], 0.5), 0.5)
  t.equal(quantile([1, 10], [0, 10, 0], 0.5), 5.5)
  t.equal(quantile([1, 10], [5, 4, 1], 0.99), 10, 'above the last bound')
})

t.test('three gateways on one store: each tells the history of all', async (t) => {
  const redis = await startRedis(t)
  const yaml = (instance: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
instance: ${instance}
log: { access: off }
server: { shed: { event_loop_delay: 0 } }
store: { redis: ${redis.url}, timeout: 2s }
tiers: [free]
consumers: [{ ip: {} }]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: unlimited } } }
routes: [{ path: /x, service: payments }]
`
  const gateways = await Promise.all(['a', 'b', 'c'].map((name) => startWhole(t, yaml(name))))
  const read = async (of: string) => {
    const response = await fetch(`${gateways[0]!.admin}/history?of=${of}`)
    return (await response.json()) as {
      nodes: { answered: number }
      events: { kind: string; node: string; gateways: number }[]
    }
  }
  await eventually('all answer', async () => (await read('fleet')).nodes.answered === 3)
  const { events } = await read('fleet')
  t.equal(
    events.filter(({ kind }) => kind === 'started').reduce((sum, { gateways }) => sum + gateways, 0),
    3,
  )
  const alone = await read('gateway')
  t.equal(alone.nodes.answered, 1)
  t.match(alone.events, [{ kind: 'started', node: 'a', gateways: 1 }])
})

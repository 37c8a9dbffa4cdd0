import t from 'tap'
import type { FleetAnswer, FleetGateway } from '../../../src/admin/routes/fleet.js'
import { widthOf } from '../../../src/cli/print/display-width.js'
import { describeFleet, describeMissing, describeReceipts } from '../../../src/cli/print/fleet-table.js'

const NOW = Date.parse('2026-11-25T12:00:00Z')
const at = (secondsAgo: number) => new Date(NOW - secondsAgo * 1000).toISOString()
const [OLD, NEW] = ['0123456789ab', 'ba9876543210']

function gatewayOf(name: string, changes: Partial<FleetGateway> = {}): FleetGateway {
  return {
    name,
    group: null,
    versions: ['1.2.3'],
    workers: null,
    state: 'serving',
    started: at(90_000),
    config: { hash: NEW, since: at(180), others: [], rejected: null, receipts: [{ hash: NEW, at: at(180) }] },
    differs: [],
    faults: [],
    lag_ms: 0,
    behind: [],
    requests_per_second: 812,
    ...changes,
  }
}

function answerOf(gateways: readonly FleetGateway[], changes: Partial<FleetAnswer> = {}): FleetAnswer {
  const unknown = { processes: 0, names: [] }
  return { at: at(0), node: 'gw-1', gateways, left_out: 0, unknown, libraries: 0, problem: null, ...changes }
}

const REJECTED = gatewayOf('gw-3', {
  config: {
    hash: OLD,
    since: at(172_800),
    others: [],
    rejected: {
      at: at(5),
      message: 'tidegate.yaml:16:36: routes[1].service: no service is named "marketin"',
    },
    receipts: [{ hash: OLD, at: at(172_800) }],
  },
  differs: ['configuration'],
})

t.test('one gateway is one line', async (t) => {
  t.equal(
    describeFleet(answerOf([gatewayOf('gw-1')]), undefined, NOW),
    `1 gateway, 1 configuration, 1 version.

  gateway  version  configuration  since  state    behind  req/s
  gw-1     1.2.3    ba9876543210   3 min  serving  0 s     812`,
  )
})

t.test('what differs, and what is wrong, is behind each gateway', async (t) => {
  const gateways = [
    gatewayOf('gw-1', { workers: 4, versions: ['1.2.3', '1.3.0'], differs: ['version'] }),
    gatewayOf('gw-2', {
      state: 'degraded',
      faults: ['the store is out of reach: the gateway decides without it'],
    }),
    REJECTED,
    gatewayOf('gw-4', { lag_ms: 4000, behind: ['bans', 'tier assignments'], differs: ['name'] }),
    gatewayOf('gw-5', { group: 'canary', config: { ...gatewayOf('').config, others: [OLD] } }),
  ]
  t.equal(
    describeFleet(answerOf(gateways), 110, NOW),
    `5 gateways, 2 groups, 2 configurations, 2 versions.

  gateway  group   version       configuration               since   workers  state     behind  req/s
  gw-1             1.2.3, 1.3.0  ba9876543210                3 min   4        serving   0 s     812
    another version than most of its group
  gw-2             1.2.3         ba9876543210                3 min            degraded  0 s     812
    the store is out of reach: the gateway decides without it
  gw-3             1.2.3         0123456789ab                2 days           serving   0 s     812
    another configuration than most of its group; rejected its file 5 s ago: tidegate.yaml:16:36:
    routes[1].service: no service is named "marketin"
  gw-4             1.2.3         ba9876543210                3 min            serving   4 s     812
    another gateway has this name; may not have the latest bans, tier assignments
  gw-5     canary  1.2.3         ba9876543210, 0123456789ab  3 min            serving   0 s     812
    its workers differ`,
  )
})

t.test('no line is longer than the terminal, except for a word', async (t) => {
  const long = `payments.eu-central-1.prod.example.com:${'i-0abcd1234ef567890'.repeat(2)}`
  const gateways = [...Array.from({ length: 9 }, (_, i) => gatewayOf(`gw-${i}`)), gatewayOf(long), REJECTED]
  const at = (columns: number) => describeFleet(answerOf(gateways), columns, NOW).split('\n')
  for (const columns of [70, 80, 100, 160]) {
    const lines = at(columns)
    for (const line of lines) t.ok(widthOf(line) <= columns, line)
    t.equal(
      lines.filter((line) => /^ {2}gw-\d /.test(line)).length,
      10,
      'a long name does not break the table',
    )
  }
  t.ok(at(50).includes(`  gateway        ${long}`), 'without room for a table, names are whole')
})

t.test('what is not in the table is below it', async (t) => {
  const more = {
    left_out: 3,
    unknown: { processes: 2, names: ['old-1:7', 'old-2:7'] },
    libraries: 1,
    problem: 'the gateways could not be read from the store',
  }
  const below = `This gateway only: the gateways could not be read from the store.
And 3 gateways more.
2 processes without a status, of an older version or just starting: old-1:7, old-2:7.
1 process with the limiter library.`
  t.ok(describeFleet(answerOf([gatewayOf('gw-1')], more), undefined, NOW).endsWith(`\n\n${below}`))
  t.equal(
    describeFleet(answerOf([], { libraries: 2 }), undefined, NOW),
    'No gateway to show.\n\n2 processes with the limiter library.',
  )
})

t.test('receipts say when each gateway took a configuration, the latest first', async (t) => {
  const receipts = [
    { hash: NEW, at: at(2) },
    { hash: OLD, at: at(60) },
  ]
  const config = { ...gatewayOf('').config, receipts }
  t.equal(
    describeReceipts(answerOf([gatewayOf('gw-1', { config }), gatewayOf('gw-2')]), undefined),
    `taken                 configuration  gateway
2026-11-25 11:59:58Z  ba9876543210   gw-1
2026-11-25 11:59:00Z  0123456789ab   gw-1
2026-11-25 11:57:00Z  ba9876543210   gw-2`,
  )
})

t.test('a gateway without a configuration that is waited for says why', async (t) => {
  const has = (changes: Partial<FleetGateway['config']>) => ({
    config: { ...gatewayOf('').config, ...changes },
  })
  const missing = [
    REJECTED,
    gatewayOf('gw-4', has({ hash: OLD })),
    gatewayOf('gw-5', has({ hash: OLD, others: ['aaaaaaaaaaaa'] })),
    gatewayOf('gw-6', { ...has({ hash: OLD, receipts: [] }), state: 'draining' }),
    gatewayOf('gw-7', has({ hash: OLD, receipts: [] })),
  ]
  const unknown = { processes: 1, names: ['old-1:7'] }
  t.equal(
    describeMissing({ hash: 'aaaaaaaaaaaa', missing: missing.slice(2), unknown }, undefined, NOW),
    `  gateway  configuration               since  note
  gw-5     0123456789ab, aaaaaaaaaaaa  3 min  not all of its workers have it
  gw-6     0123456789ab                3 min  it is draining
  gw-7     0123456789ab                3 min  it has not loaded it

1 process without a status, of an older version or just starting: old-1:7.`,
  )
  const lines = describeMissing({ hash: NEW, missing, unknown: { processes: 0, names: [] } }, undefined, NOW)
  t.match(lines, /gw-3 .* rejected its file 5 s ago: tidegate.yaml:16:36: /)
  t.match(lines, /gw-4 .* it loaded it 3 min ago, and another one since$/m)
})

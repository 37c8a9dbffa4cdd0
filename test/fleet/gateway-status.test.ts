import fc from 'fast-check'
import t from 'tap'
import {
  differencesOf,
  gatewaysOf,
  isId,
  type ProcessStatus,
  readStatus,
  STATUS_LENGTH,
  shownText,
} from '../../src/fleet/gateway-status.js'

const OLD = '0123456789ab'
const NEW = 'ba9876543210'
const AT = Date.parse('2026-11-25T12:00:00Z')

function statusOf(name: string, changes: Partial<ProcessStatus> = {}): ProcessStatus {
  return {
    gateway: `${name}~1`,
    worker: null,
    group: null,
    version: '1.2.3',
    started: AT,
    receipts: [{ hash: NEW, at: AT }],
    rejected: null,
    draining: false,
    degraded: false,
    faults: [],
    lagMs: 0,
    behind: [],
    rate: 10,
    ...changes,
  }
}

t.test('a status is read as it was written', async (t) => {
  const full = statusOf('gw-1', {
    worker: 2,
    group: 'canary',
    receipts: [
      { hash: NEW, at: AT },
      { hash: OLD, at: AT - 1 },
    ],
    rejected: { at: AT, message: 'tidegate.yaml:1:1: "tiers" is missing' },
    faults: ['the store is out of reach'],
    behind: ['bans'],
    lagMs: 4000,
    rate: 0.25,
  })
  t.strictSame(readStatus(JSON.stringify(full)), full)
  t.strictSame(readStatus(JSON.stringify({ ...full, later: 'a key of a newer version' })), full)
})

t.test('anything else in the store is no status', async (t) => {
  const wrong: Record<string, unknown>[] = [
    { gateway: 'gw\u001b[2J~1' },
    { gateway: 'gw\u202e~1' },
    { gateway: '~1' },
    { gateway: `${'x'.repeat(400)}~1` },
    { group: 'Canary\n' },
    { worker: 0 },
    { version: '1.0 \u0007' },
    { started: -1 },
    { started: 9e15 },
    { started: '2026' },
    { receipts: [] },
    { receipts: [{ hash: 'x', at: 1 }] },
    { receipts: [null] },
    { receipts: new Array(6).fill({ hash: NEW, at: 1 }) },
    { rejected: { at: AT, message: 'a\u0000b' } },
    { rejected: { at: AT, message: 'x'.repeat(301) } },
    { faults: ['\ud800'] },
    { faults: new Array(17).fill('x') },
    { behind: 'bans' },
    { lagMs: -1 },
    { rate: Number.NaN },
    { rate: 'many' },
    { draining: 1 },
    { degraded: null },
  ]
  for (const one of wrong)
    t.equal(readStatus(JSON.stringify({ ...statusOf('gw-1'), ...one })), undefined, one)
  for (const text of ['', 'library', 'null', '[]', '{}', '"x"', `${' '.repeat(STATUS_LENGTH)}{}`])
    t.equal(readStatus(text), undefined)
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(...Object.keys(statusOf('gw-1'))), (json, key) => {
      const read = readStatus(JSON.stringify({ ...statusOf('gw-1'), [key]: JSON.parse(json) }))
      return read === undefined || !/[\p{Cc}\p{Cf}]/u.test(Object.values(read).flat().join())
    }),
    { numRuns: 200 },
  )
})

t.test('a text of this gateway is one that others accept', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 700 }), (text) => {
      const message = shownText(text)
      return readStatus(JSON.stringify(statusOf('gw-1', { rejected: { at: AT, message } }))) !== undefined
    }),
  )
  t.equal(shownText('x'.repeat(301)), `${'x'.repeat(299)}…`)
  t.ok(isId('gw-1~1'))
  t.notOk(isId('gw\n~1'))
})

t.test('the workers of a gateway are one gateway', async (t) => {
  const [one, two, ...more] = gatewaysOf([
    statusOf('gw-2', { worker: 1, lagMs: 3000, behind: ['bans'], rate: 1.5 }),
    statusOf('gw-1', { rate: 7 }),
    statusOf('gw-2', {
      worker: 2,
      degraded: true,
      faults: ['the store is out of reach'],
      rejected: { at: AT, message: 'x' },
      started: AT - 5,
      receipts: [
        { hash: NEW, at: AT },
        { hash: OLD, at: AT - 9 },
      ],
    }),
    statusOf('gw-2', { worker: 1, draining: true, receipts: [{ hash: OLD, at: 1 }] }),
  ])
  t.same(more, [])
  t.match(one, { name: 'gw-1', workers: null, rate: 7, state: 'serving' })
  t.strictSame(two, {
    id: 'gw-2~1',
    name: 'gw-2',
    group: null,
    workers: 2,
    versions: ['1.2.3'],
    started: AT - 5,
    state: 'degraded',
    hash: NEW,
    since: AT,
    otherHashes: [],
    receipts: [
      { hash: NEW, at: AT },
      { hash: OLD, at: AT - 9 },
    ],
    rejected: { at: AT, message: 'x' },
    faults: ['the store is out of reach'],
    lagMs: 3000,
    behind: ['bans'],
    rate: 11.5,
  })
  const draining = statusOf('gw-3', { draining: true })
  t.match(gatewaysOf([draining, draining]), [{ state: 'draining', workers: null }])
  const [split] = gatewaysOf([
    statusOf('gw-4', { worker: 1, receipts: [{ hash: OLD, at: AT - 1 }] }),
    statusOf('gw-4', { worker: 2 }),
  ])
  t.match(split, { hash: NEW, otherHashes: [OLD] }, 'of two configurations, the later one is shown first')
})

t.test('a gateway is compared with its group', async (t) => {
  const old = [{ hash: OLD, at: AT - 1 }]
  const gateways = gatewaysOf([
    statusOf('a'),
    statusOf('b'),
    statusOf('c', { receipts: old }),
    statusOf('d', { version: '1.3.0' }),
    statusOf('x', { group: 'canary', receipts: old, version: '1.3.0' }),
    statusOf('twin', { gateway: 'twin~1' }),
    statusOf('twin', { gateway: 'twin~2' }),
  ])
  t.strictSame(
    Object.fromEntries(differencesOf(gateways)),
    { 'c~1': ['configuration'], 'd~1': ['version'], 'twin~1': ['name'], 'twin~2': ['name'] },
    'a group may differ from the others',
  )
  const pair = gatewaysOf([statusOf('a', { receipts: old }), statusOf('b')])
  t.strictSame(
    [...differencesOf(pair).keys()],
    ['a~1'],
    'of two, the one with the older configuration differs',
  )
  t.equal(differencesOf([]).size, 0)
})

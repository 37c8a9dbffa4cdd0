// Tests src/admin/service-state.ts
import t, { type Test } from 'tap'
import type { Names } from '../../../src/upstream/pool/dns.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { accessOf, startAdmin } from '../../support/gateway/admin.js'

const NO_NAMES: Names = { lookup() {}, watch: () => () => {}, state: () => undefined, close() {} }
const PAYMENTS = 'http://127.0.0.1:9001'

async function start(t: Test, token?: string) {
  const { deps } = await startAdmin(t)
  const upstreams = createUpstreams(deps.config.current(), { names: NO_NAMES })
  t.teardown(() => upstreams.close())
  return {
    upstreams,
    ...(await startAdmin(t, {
      parts: { upstreams },
      access: accessOf(token === undefined ? {} : { token }),
    })),
  }
}

t.test('GET /upstreams shows every upstream of every service', async (t) => {
  const { call } = await start(t)
  const { status, json } = await call('GET', '/upstreams')
  t.equal(status, 200)
  t.match(json.upstreams, [
    {
      service: 'payments',
      address: PAYMENTS,
      state: 'serving',
      why: null,
      since: /^\d{4}-\d\d-\d\dT/,
      weight: 1,
      in_flight: 0,
      tunnels: 0,
      max_connections: 128,
      waiting: 0,
      ejections: 0,
      last_check: null,
      resolved: null,
      dns_error: null,
    },
    { service: 'marketing', address: 'http://127.0.0.1:9002' },
  ])
  t.equal(json.upstreams.length, 2)
})

t.test('and the breaker, concurrency and retries of every service', async (t) => {
  const retries = { succeeded: 2, failed: 1, no_budget: 0 }
  const guards = {
    describe: () => [
      {
        service: 'payments',
        circuit: 'half_open' as const,
        concurrency: { limit: 40, in_flight: 3 },
        retries,
      },
      { service: 'marketing', circuit: undefined, concurrency: undefined, retries },
    ],
  }
  const { call } = await startAdmin(t, { parts: { guards } })
  const { json } = await call('GET', '/upstreams')
  t.strictSame(json.services, [
    { service: 'payments', circuit: 'half_open', concurrency: { limit: 40, in_flight: 3 }, retries },
    { service: 'marketing', circuit: null, concurrency: null, retries },
  ])
})

t.test('PUT drains an upstream by its address or its host and port, and restores it', async (t) => {
  const { call, upstreams, logged } = await start(t)
  const states = () => upstreams.describe().map(({ state }) => state)
  const put = (address: string, state: string) =>
    call('PUT', `/upstreams/payments/${address}`, { body: { state } })
  t.match(await put(encodeURIComponent(PAYMENTS), 'drained'), {
    status: 200,
    json: { service: 'payments', address: PAYMENTS, state: 'drained', why: 'by hand' },
  })
  t.strictSame(states(), ['drained', 'serving'])
  t.match(await put('127.0.0.1:9001', 'serving'), { status: 200, json: { state: 'serving', why: null } })
  t.strictSame(states(), ['serving', 'serving'])
  t.match(
    logged.map(({ fields }) => fields),
    [
      {
        audit: {
          action: 'upstream.drain',
          target: `payments ${PAYMENTS}`,
          before: 'serving',
          after: 'drained',
        },
      },
      { audit: { action: 'upstream.restore', before: 'drained', after: 'serving' } },
    ],
  )
})

t.test('an unknown upstream is 404 with the known ones; a malformed body is refused', async (t) => {
  const { call, upstreams } = await start(t)
  t.match((await call('PUT', '/upstreams/nope/x', { body: { state: 'drained' } })).json, {
    status: 404,
    detail: 'No service "nope"; the services are payments, marketing.',
  })
  for (const address of ['127.0.0.1:9002', 'x', '', '__proto__', '%2e%2e']) {
    const { json } = await call('PUT', `/upstreams/payments/${address}`, { body: { state: 'drained' } })
    t.match(json, { status: 404 }, address)
  }
  t.match((await call('PUT', '/upstreams/payments/127.0.0.1:1', { body: { state: 'drained' } })).json, {
    detail: `The service payments has no upstream "127.0.0.1:1"; it has ${PAYMENTS}.`,
  })
  for (const body of [
    {},
    [],
    { state: 'ejected' },
    { state: 1 },
    { state: 'drained', also: 1 },
    'null',
    '',
  ]) {
    const { status } = await call('PUT', '/upstreams/payments/127.0.0.1:9001', { body })
    t.equal(status, 400, JSON.stringify(body))
  }
  t.strictSame(
    upstreams.describe().map(({ state }) => state),
    ['serving', 'serving'],
  )
})

t.test('draining is guarded as any other change', async (t) => {
  const { call, upstreams } = await start(t)
  const path = '/upstreams/payments/127.0.0.1:9001'
  const body = { state: 'drained' }
  t.equal((await call('PUT', path, { body, headers: { origin: 'http://evil.example' } })).status, 403)
  t.equal((await call('PUT', path, { body, headers: { host: 'evil.example' } })).status, 403)
  const withToken = await start(t, 'a-token-of-the-operators')
  t.equal((await withToken.call('PUT', path, { body })).status, 401)
  t.equal((await withToken.call('GET', '/upstreams')).status, 401)
  t.ok([...upstreams.describe(), ...withToken.upstreams.describe()].every(({ state }) => state === 'serving'))
})

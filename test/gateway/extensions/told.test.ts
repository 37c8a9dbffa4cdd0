// Tests src/telemetry/decisions/{decision-data,decision-ring,decision-store,why}.ts src/gateway/simulate/explain.ts
// Tests src/telemetry/traces/spans.ts src/gateway/respond/send-response.ts
import t from 'tap'
import { request } from 'undici'
import type { ExtensionRequest } from '../../../src/extension/define.js'
import { respond } from '../../../src/extension/respond.js'
import { createKeptDecisions } from '../../../src/telemetry/decisions/decision-store.js'
import { whyOf } from '../../../src/telemetry/decisions/why.js'
import { explainOver } from '../../support/gateway/explain.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { instances } from '../../support/gateway/hooks.js'
import { startTracing } from '../../support/gateway/traced.js'
import { http2Client } from '../../support/http/http2-client.js'
import { rawExchange } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'
import { handshake } from '../../support/http/websocket.js'

/** Tests what people learn about hooks: from `why`, `explain` and traces, and over each kind of connection. */

const site = (upstream: string) => `
tiers: [free]
server: { http2: true }
decisions: { sample: 1 }
extensions:
  - { name: fraud, module: ./fraud.js, on_error: skip }
  - { name: price, module: ./price.js }
consumers: [{ header: { name: x-user, from: anyone } }, { ip: {} }]
services: { payments: { upstreams: ["${upstream}"], limits: { free: 10/min }, use: [price] } }
routes: [{ path: /*, service: payments, use: [fraud], websocket: true }]
`

const evil = (request: ExtensionRequest) =>
  request.header('x-user') === 'evil' ? respond(403, { title: 'No' }) : undefined

t.test('why says what each hook did, and which one responded', async (t) => {
  const { origin } = await recordingUpstream(t)
  const decisions = createKeptDecisions({ keep: 100, random: () => 0 })
  const gateway = await startGateway(t, site(origin), {
    extensions: instances({
      fraud: {
        onRequest: evil,
        onUpstreamRequest: () => {
          throw new Error('boom')
        },
      },
      price: { cost: () => 3 },
    }),
    decisions: { keep: decisions.keep },
  })
  for (const user of ['good', 'evil']) {
    await (await request(gateway.origin, { headers: { 'x-user': user, 'x-request-id': user } })).body.dump()
  }
  await gateway.recorded(2)
  const found = (id: string) => decisions.find(id)!.decision
  t.same(found('good').hooks, [
    { extension: 'fraud', hook: 'onRequest', effect: 'let the request pass' },
    { extension: 'price', hook: 'cost', effect: 'set the cost' },
    { extension: 'fraud', hook: 'onUpstreamRequest', effect: 'failed and was skipped' },
  ])
  t.match(
    whyOf(found('good')),
    /^Allowed: .* Extensions: onRequest of fraud let the request pass; cost of price set the cost; /,
  )
  t.equal(found('good').cost, 3)
  t.equal(
    whyOf(found('evil')),
    'Answered with 403 by the extension fraud (onRequest). Extensions: onRequest of fraud responded.',
  )
})

t.test('explain runs the hooks that allow it, and names the others', async (t) => {
  const ran: string[] = []
  const hook = (name: string, result: unknown, explain: boolean) => ({
    explain,
    run: () => {
      ran.push(name)
      return result
    },
  })
  const explained = async (explain: boolean, user = 'good') =>
    explainOver(() =>
      snapshotOf(
        site('http://127.0.0.1:9'),
        {},
        instances({
          fraud: {
            onRequest: { explain: true, run: evil },
            onUpstreamRequest: hook('change', undefined, explain),
            onResponse: hook('response', undefined, true),
          },
          price: { cost: hook('cost', 4, explain), onDenied: hook('denied', undefined, true) },
        }),
      ),
    )({ method: 'GET', url: '/', headers: [['x-user', user]], peer: '127.0.0.1' })
  const quiet = await explained(false)
  t.same(ran, [])
  t.match(quiet.why, 'cost of price was not run')
  t.equal(quiet.cost, 1)
  t.same(
    quiet.hooks?.map(({ effect }) => effect),
    ['let the request pass', 'was not run', 'was not run', 'was not run'],
  )
  const told = await explained(true)
  t.same(ran, ['cost', 'change'])
  t.equal(told.cost, 4)
  t.match(await explained(true, 'evil'), {
    status: 403,
    error: null,
    why: /^Answered with 403 by the extension fraud/,
  })
})

t.test('explain tries a kind of consumer whose hook it may not run as if it found nothing', async (t) => {
  const yaml = site('http://127.0.0.1:9').replace('consumers: [', 'consumers: [{ extension: fraud }, ')
  const extensions = instances({
    fraud: { identify: () => t.fail('runs'), onRequest: () => undefined },
    price: { cost: () => 1 },
  })
  const told = await explainOver(() => snapshotOf(yaml, {}, extensions))({
    method: 'GET',
    url: '/',
    headers: [],
    peer: '127.0.0.1',
  })
  t.equal(told.identified_by, 'ip')
  t.match(told.why, 'identify of fraud was not run')
})

t.test('each hook has a span, failed if the hook failed', async (t) => {
  const { tracing, collector } = await startTracing(t)
  const { origin } = await recordingUpstream(t)
  const gateway = await startGateway(t, site(origin), {
    tracing,
    extensions: instances({
      fraud: { onRequest: async () => undefined, onUpstreamRequest: () => 7 },
      price: { cost: () => 1 },
    }),
  })
  await (await request(gateway.origin, { headers: { 'x-request-id': 'one' } })).body.dump()
  const spans = await collector.trace('one')
  const hooks = spans.filter(({ attributes }) => attributes['tidegate.hook'] !== undefined)
  t.same(
    hooks.map(({ name, attributes, failed }) => [name, attributes['tidegate.extension'], failed]),
    [
      ['fraud onRequest', 'fraud', false],
      ['price cost', 'price', false],
      ['fraud onUpstreamRequest', 'fraud', true],
    ],
  )
})

t.test('hooks run for HTTP/2 and for upgrades, and their replies reach the client', async (t) => {
  const { origin, received } = await recordingUpstream(t)
  const gateway = await startGateway(t, site(origin), {
    extensions: instances({
      fraud: {
        onRequest: async (request: ExtensionRequest) =>
          request.header('x-user') === 'evil' ? respond(403, 'Not you.', { 'X-Why': 'fraud' }) : undefined,
        onUpstreamRequest: () => ({ headers: { 'X-Checked': 'yes' } }),
      },
      price: { cost: () => 11 },
    }),
  })
  const client = await http2Client(t, gateway.origin)
  t.match(await client.ask('/', { 'x-user': 'evil' }), {
    status: 403,
    body: 'Not you.',
    headers: { 'x-why': 'fraud' },
  })
  t.match(await client.ask('/', { 'x-user': 'good' }), { status: 429 })
  for (const [user, status] of [
    ['evil', 403],
    ['good', 429],
  ] as const) {
    const { responses } = await rawExchange(gateway.port, handshake('/', { 'X-User': user }))
    t.equal(responses[0]?.status, status)
    if (user === 'evil') t.equal(responses[0]?.body, 'Not you.')
  }
  t.equal(received.length, 0)
  await gateway.recorded(4)
  t.same(
    gateway.records.map(({ status }) => status),
    [403, 429, 403, 429],
  )
})

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { tidegate } from '../support/cli.js'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/process.js'
import { startRedis } from '../support/redis.js'
import { startWhole } from '../support/whole-gateway.js'

t.test('why a request was limited is told by whichever gateway is asked', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id } }]
services:
  api: { upstreams: [${backend.origin}], limits: { free: [2/day, { amount: 100, window: 30d, algorithm: fixed, name: hour }] } }
routes: [{ path: /*, service: api }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const [a, b] = await Promise.all([startWhole(t, yaml), startProcess(t, yaml, {}, ['--workers', '2'])])
  const send = async (to: { address: string }, id: string) => {
    const headers = { 'x-user-id': 'ann', 'x-request-id': id }
    const { statusCode, body } = await request(to.address, { headers })
    await body.dump()
    return statusCode
  }
  const ask = async (of: { admin: string }, id: string) => {
    const { statusCode, body } = await request(`${of.admin}/decisions/${id}`)
    // biome-ignore lint/suspicious/noExplicitAny: a test looks into it
    return { status: statusCode, json: (await body.json()) as any }
  }
  /** One that had no time to answer is silent, and that is no fault. */
  const askUntil = async (of: { admin: string }, id: string, good: (told: Told) => boolean) => {
    let told = await ask(of, id)
    await eventually(`${id} is told`, async () => {
      if (!good(told)) told = await ask(of, id)
      return good(told)
    })
    return told
  }
  type Told = Awaited<ReturnType<typeof ask>>
  t.same(
    [await send(a, 'one'), await send(a, 'two'), await send(a, 'at-a'), await send(b, 'at-b')],
    [200, 200, 429, 429],
  )
  while ((await redis.client.zcard('nodes:{fleet}')) < 2) await delay(20)

  for (const [of, id, worker] of [
    [a, 'at-a', false],
    [b, 'at-a', false],
    [a, 'at-b', true],
    [b, 'at-b', true],
  ] as const) {
    const { status, json } = await askUntil(of, id, ({ status }) => status === 200)
    t.equal(status, 200, id)
    t.match(json, {
      consumer: 'ann',
      status: 429,
      decision: { allowed: false, decided_by: 'store', binding: 'day' },
    })
    t.match(json.limits, [
      { name: 'day', used: 2, denied: true },
      { name: 'hour', used: 2, remaining: 98 },
    ])
    t.equal(typeof json.worker === 'number', worker, 'a worker says which it is')
  }
  const unheard = await askUntil(a, 'unheard-of', ({ json }) => json.nodes.answered === 2)
  t.match(unheard, { status: 404, json: { nodes: { answered: 2, silent: [] } } })

  const off = yaml.replace('admin: { listen: 127.0.0.1:0 }', 'admin: { listen: 127.0.0.1:1 }')
  const files = t.testdir({ 'tidegate.yaml': off })
  const told = await tidegate(['why', 'at-b', '--config', `${files}/tidegate.yaml`])
  t.equal(told.code, 0, told.stderr)
  t.match(told.stdout, /^Denied: the limit "day" \(2\/day\) of ann, tier free on api, had 0 of 2 left/)
  t.match(told.stdout, /^ {2}day +2\/day +2\/2 +0 /m)
  const unknown = await tidegate(['why', 'unheard-of', '--json', '--config', `${files}/tidegate.yaml`])
  t.equal(unknown.code, 1)
  t.match(unknown.stderr, /^tidegate why: No decision on unheard-of is kept \(2 gateways asked\)/)
  const ofAnn = await tidegate(['why', '--consumer', 'ann', '--config', `${files}/tidegate.yaml`])
  t.match(ofAnn, { code: 0, stderr: '', stdout: /^Denied: the limit "day" .+\n\n {2}request +at-b at / })
  for (const { admin } of [a, b]) {
    let found: { nodes?: { answered: number } } = {}
    await eventually('both have answered', async () => {
      const { body } = await request(`${admin}/decisions?consumer=ann&service=api`)
      found = (await body.json()) as typeof found
      return found.nodes?.answered === 2
    })
    t.match(found, { request_id: 'at-b', nodes: { answered: 2, silent: [] } }, 'of two workers')
  }
  t.equal((await tidegate(['why'])).code, 2)
  t.equal((await tidegate(['why', 'at-b', '--consumer', 'ann'])).code, 2)

  const explained = [
    'explain',
    'GET',
    '/x',
    '-H',
    'x-user-id: ann',
    '-H',
    'x-other: 1',
    '--config',
    `${files}/tidegate.yaml`,
  ]
  t.match(
    (await tidegate(explained)).stdout,
    /^Denied: the limit "day" .* had 0 of 2 left/,
    'by the file and the store',
  )
  for (const { admin } of [a, b]) {
    const body = JSON.stringify({ url: '/x', headers: [['x-user-id', 'new']] })
    const headers = { 'content-type': 'application/json' }
    const live = await request(`${admin}/explain`, { method: 'POST', headers, body })
    t.match(
      await live.body.json(),
      { decision: { allowed: true, remaining: 1 }, consumer: 'new' },
      'by a gateway',
    )
  }
})

import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { hasRedisServer, ownRedis, startRedis } from '../support/redis/redis.js'

const skip = hasRedisServer ? false : 'needs a redis-server of its own to kill'

interface Top {
  readonly nodes: { answered: number; silent: string[]; problem: string | null }
  readonly rows: readonly { consumer: string; count: number; error: number; limit: string | null }[]
}

t.test('gateways on one Redis, one of them with workers, answer for each other', async (t) => {
  const own = hasRedisServer ? await ownRedis(t) : undefined
  const redis = own ?? (await startRedis(t))
  const backend = await startBackend(t)
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services:
  api: { upstreams: [${backend.origin}], limits: { free: [2/day, { amount: 100, window: 30d, algorithm: fixed, name: hour }] } }
  costly: { upstreams: [${backend.origin}], limits: { free: 10/day } }
routes: [{ path: /*, service: api }, { path: /costly, service: costly, cost: 2 }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const [single, workers] = await Promise.all([
    startWhole(t, yaml),
    startProcess(t, yaml, {}, ['--workers', '2']),
  ])
  await eventually('they know of each other', async () => (await redis.client.zcard('nodes:{fleet}')) === 2)
  const top = async ({ admin }: { admin: string }, by: string) => {
    const { body } = await request(`${admin}/top?by=${by}`)
    return (await body.json()) as Top
  }

  await t.test('GET /top on either gateway adds up the counts of all gateways on its Redis', async (t) => {
    const send = async ({ address }: { address: string }, user: string, count: number) => {
      for (let i = 0; i < count; i++) {
        const { body } = await request(`${address}/costly`, { headers: { 'x-user-id': user }, reset: true })
        await body.dump()
      }
    }
    await send(single, 'eve', 7)
    await send(workers, 'eve', 12)
    await send(workers, 'bob', 5)

    /** Waits until both gateways answered. One that had no time to answer is listed as silent, which is no fault. */
    const topOfBoth = async (gateway: { admin: string }, by: string): Promise<Top> => {
      let told = await top(gateway, by)
      await eventually('both have answered', async () => {
        told = await top(gateway, by)
        return told.nodes.answered === 2
      })
      return told
    }
    for (const gateway of [single, workers]) {
      const { nodes, rows } = await topOfBoth(gateway, 'limited')
      t.strictSame(nodes, { answered: 2, silent: [], problem: null })
      t.match(rows, [{ consumer: 'eve', count: 14, error: 0, limit: 'day' }])
      t.equal(rows.length, 1)
    }
    const { rows } = await topOfBoth(workers, 'cost')
    t.strictSame(
      rows.map(({ consumer, count }) => [consumer, count]),
      [
        ['eve', 10],
        ['bob', 10],
      ],
    )
    const near = await topOfBoth(single, 'near')
    t.strictSame(near.rows.map(({ consumer, count }) => [consumer, count]).sort(), [
      ['bob', 2],
      ['eve', 2],
    ])
  })

  await t.test('any gateway can tell why a request was denied, whichever one denied it', async (t) => {
    const [a, b] = [single, workers]
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
    /** Asks again until the answer is good: a gateway that had no time to answer is listed as silent, which is no fault. */
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
    t.match(unknown.stderr, /^tidegate why: No gateway has a decision for unheard-of \(2 asked\)/)
    const ofAnn = await tidegate(['why', '--consumer', 'ann', '--config', `${files}/tidegate.yaml`])
    t.match(ofAnn, { code: 0, stderr: '', stdout: /^Denied: the limit "day" .+\n\n {2}request +at-b at / })
    for (const { admin } of [a, b]) {
      let found: { nodes?: { answered: number } } = {}
      await eventually('both have answered', async () => {
        const { body } = await request(`${admin}/decisions?consumer=ann&service=api`)
        found = (await body.json()) as typeof found
        return found.nodes?.answered === 2
      })
      t.match(found, { request_id: 'at-b', nodes: { answered: 2, silent: [] } }, 'found by two workers')
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

  await t.test(
    "GET /top without Redis shows the gateway's own counts and says that it could not ask the others",
    { skip },
    async (t) => {
      await own!.stop()
      // A different query: the answer to the last one is cached for half a second.
      const alone = await top(single, 'limited&tier=free')
      t.equal(alone.nodes.answered, 1)
      t.ok(alone.nodes.problem, 'it says that the others could not be asked')
      t.match(alone.rows, [
        { consumer: 'eve', count: 2 },
        { consumer: 'ann', count: 1 },
      ])
    },
  )
})

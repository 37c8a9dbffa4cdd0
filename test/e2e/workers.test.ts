// Tests src/open-admin.ts
// Tests src/workers/{all-workers,all-workers-metrics,fork,messages,primary,shared-counting,shared-memory}.ts
// Tests src/workers/worker.ts
import { once } from 'node:events'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { request } from 'undici'
import type { FleetAnswer } from '../../src/admin/routes/fleet.js'
import type { ServicesAnswer } from '../../src/admin/routes/services.js'
import { eventually } from '../support/eventually.js'
import { startLoad } from '../support/gateway/load.js'
import { withPaths } from '../support/gateway/paths.js'
import { type GatewayProcess, startBackend, startProcess, tally } from '../support/gateway/process.js'
import { sampleOf } from '../support/telemetry/exposition.js'

const config = (upstream: string, folder: string, extra = '') => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { timeout: 2s }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services:
  api: { upstreams: [${upstream}] }
  limited: { upstreams: [${upstream}], limits: { free: 20/day, pro: { amount: 30, window: 1d } } }
  unused: { upstreams: [${upstream}] }
routes: [{ path: /*, service: api }, { path: /limited, service: limited }${extra}]
server: { shutdown_delay: 4s, shutdown_grace: 10s, shed: { event_loop_delay: 0 } }
log: { access: ${folder}/access.log }
`

interface WorkerStatus {
  readonly worker: number
  readonly pid: number
  readonly generation: number
  readonly state: string
  readonly hash: string
}

interface Status {
  readonly hash: string
  readonly workers: readonly WorkerStatus[]
}

async function ask<T>(
  gateway: GatewayProcess,
  path: string,
  method: 'GET' | 'POST' | 'PUT' = 'GET',
  what?: object,
): Promise<T> {
  const sent =
    what === undefined ? {} : { body: JSON.stringify(what), headers: { 'content-type': 'application/json' } }
  const { body } = await request(gateway.admin + path, { method, ...sent })
  return (await body.json()) as T
}

async function metric(gateway: GatewayProcess, name: string, labels = {}): Promise<number | undefined> {
  const { body } = await request(`${gateway.admin}/metrics`)
  return sampleOf(await body.text(), name, labels)
}

const answered = (gateway: GatewayProcess) =>
  metric(gateway, 'http_server_request_duration_seconds_count', {
    http_route: '/*',
    http_response_status_code: '200',
  })

/** A load below what the workers can take; `npm run bench:restart` takes all they can. */
const CLIENTS = { keepAlive: 8, fresh: 4, pauseMs: 60 }

const serving = ({ workers }: Status, ...not: number[]) =>
  workers.filter(({ state, pid }) => state === 'serving' && !not.includes(pid))

t.test('two workers act as one gateway', async (t) => {
  const backend = await startBackend(t)
  const folder = t.testdir()
  const gateway = await startProcess(t, config(backend.origin, folder), {}, ['--workers', '2'])
  const log = `${folder}/access.log`
  const get = async (path: string, user = 'eve') => {
    const { statusCode, body } = await request(gateway.address + path, {
      reset: true,
      headers: { 'x-user-id': user },
    })
    await body.dump()
    return statusCode
  }
  let asked = 0

  await t.test('both workers serve, and /metrics adds up their figures', async (t) => {
    t.match(gateway.stderr(), /listens on .*, 2 workers$/m)
    const warned = () => gateway.stderr().match(/^.*with warnings.*$/gm) ?? []
    await eventually('what check warns of is in its log', async () => warned().length > 0)
    t.equal(warned().length, 1, 'once, not by each of them')
    t.match(JSON.parse(warned()[0]!), {
      level: 'warn',
      messages: [/^\S+tidegate\.yaml:10:3: services\.unused: no route leads to this service/],
    })
    for (; asked < 40; asked++) await get(`/${asked}`)
    t.equal(await answered(gateway), 40)
    const cpu = await Promise.all(
      ['1', '2', 'primary'].map((worker) => metric(gateway, 'process_cpu_seconds_total', { worker })),
    )
    for (const seconds of cpu) t.ok(seconds! > 0, `${cpu}`)
    t.equal(await metric(gateway, 'tidegate_workers', { state: 'serving' }), 2)
    const ready = await request(`${gateway.admin}/readyz`)
    t.match(await ready.body.json(), { status: 'ready', reasons: [] })
  })

  await t.test('/top names the client that fills the admin port, which no worker listens on', async (t) => {
    const sockets: Socket[] = []
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
    })
    for (let i = 0; i < 65; i++) {
      const socket = connect({
        port: Number(new URL(gateway.admin).port),
        host: '127.0.0.1',
        localAddress: '127.0.0.2',
      })
      socket.on('error', () => {})
      sockets.push(socket)
      await once(socket, 'connect')
    }
    type Top = { rows: { consumer: string; limit: string }[] }
    let rows: Top['rows'] = []
    await eventually('it is counted', async () => {
      rows = (await ask<Top>(gateway, '/top?by=share')).rows
      return rows.length > 0
    })
    t.match(rows, [{ consumer: '127.0.0.2', service: 'none', limit: 'admin_connections' }])
  })

  await t.test('a reload reaches both workers before it is answered', async (t) => {
    const before = await ask<Status>(gateway, '/config')
    const more = config(backend.origin, folder, ', { path: /more/*, service: api }')
    writeFileSync(gateway.configFile, withPaths(more))
    const { hash, workers } = await ask<Status>(gateway, '/config/reload', 'POST')
    t.not(hash, before.hash)
    t.strictSame(
      workers.map((worker) => worker.hash),
      [hash, hash],
    )
    const { reloads } = await ask<{ reloads: object[] }>(gateway, '/config')
    t.match(reloads, [{ result: 'applied', by: 'admin', hash, changed: [/more/] }])
    const { gateways } = await ask<FleetAnswer>(gateway, '/fleet')
    t.match(gateways, [
      { workers: 2, config: { hash, others: [], receipts: [{ hash }, { hash: before.hash }] } },
    ])
    t.equal(gateways.length, 1, 'two workers are one gateway')
    for (let i = 0; i < 10; i++, asked++) await get('/more/x')
    t.equal(
      await metric(gateway, 'http_server_request_duration_seconds_count', { http_route: '/more/*' }),
      10,
      'whichever of them was asked',
    )
  })

  const limited = async (count: number) => {
    asked += count
    const statuses = await Promise.all(Array.from({ length: count }, () => get('/limited', 'ada')))
    return tally(statuses)
  }
  const used = async () => {
    const { limits } = await ask<{ limits: { used: number }[] }>(gateway, '/usage/limited/ada')
    return limits[0]!.used
  }

  await t.test('without Redis, both workers share one store, and a tier set by hand', async (t) => {
    t.strictSame(await limited(25), { 200: 20, 429: 5 })
    t.equal(await used(), 20)
    t.match(await ask(gateway, '/consumers/ada/tier', 'PUT', { tier: 'pro' }), { tier: 'pro' })
    t.strictSame(await limited(15), { 200: 10, 429: 5 })
    const { services } = await ask<ServicesAnswer>(gateway, '/services?match=limited')
    const denied = services[0]!.tiers.map(({ limits }) => limits[0]!.decisions.denied)
    t.strictSame(denied, [5, 5], 'GET /services adds up what both have counted')
  })

  await t.test('a rotation of the access log reaches both workers, and every line is whole', async (t) => {
    await eventually('the lines are written', async () => countOf(log) === asked)
    renameSync(log, `${log}.1`)
    gateway.child.kill('SIGHUP')
    await eventually('both write to the new file', async () => {
      for (let i = 0; i < 4; i++, asked++) await get(`/${'after'.repeat(100)}`)
      try {
        const hosts = linesOf(log).map(({ request_id }) => request_id.split('-')[0])
        return new Set(hosts).size === 2
      } catch {
        return false
      }
    })
    await eventually('no line is lost', async () => countOf(log) + countOf(`${log}.1`) === asked)
    t.equal(linesOf(log).length + linesOf(`${log}.1`).length, asked, 'and each is whole')
    t.ok(linesOf(`${log}.1`).length >= 40)
  })

  await t.test('kill -9 of a worker fails only the requests that it had in flight', async (t) => {
    const [victim] = serving(await ask<Status>(gateway, '/config'))
    const load = startLoad(`${gateway.address}/x`, CLIENTS)
    await eventually('the load is on', async () => load.done() > 100)
    process.kill(victim!.pid, 'SIGKILL')
    const down = load.done()
    await eventually(
      'another has its place',
      async () => serving(await ask<Status>(gateway, '/config'), victim!.pid).length === 2,
    )
    await eventually('and more was asked meanwhile', async () => load.done() > down + 100)
    const { statuses, failures, total } = await load.stop()
    t.comment(`${failures.length} of ${total} requests failed: ${failures}`)
    t.ok(failures.length <= 12, `${failures.length} failed of the 12 in flight at most`)
    t.notOk(
      failures.find((why) => why.startsWith('silent')),
      'no request is left waiting',
    )
    t.strictSame(Object.keys(statuses), ['200'])
    t.equal(await metric(gateway, 'tidegate_worker_exits_total', { result: 'failed' }), 1)
    t.equal((gateway.stderr().match(/a worker ended; another replaces it/g) ?? []).length, 1, 'one line')
  })

  const ofDrained = () => {
    asked += 6
    return Promise.all(Array.from({ length: 6 }, () => get('/limited', 'mallory')))
  }
  await t.test('an upstream drained by hand is drained in both workers', async (t) => {
    const { host } = new URL(backend.origin)
    const set = await ask(gateway, `/upstreams/limited/${host}`, 'PUT', { state: 'drained' })
    t.match(set, { state: 'drained', why: 'by hand' })
    t.strictSame(new Set(await ofDrained()), new Set([503]))
    t.match(await ask(gateway, '/upstreams'), {
      upstreams: [
        { service: 'api', state: 'serving', max_connections: 256 },
        { service: 'limited', state: 'drained' },
        { service: 'unused', state: 'serving' },
      ],
    })
  })

  await t.test('SIGUSR2 under load replaces all workers, and no request fails', async (t) => {
    const before = await ask<Status>(gateway, '/config')
    const counted = (await answered(gateway))!
    const load = startLoad(`${gateway.address}/x`, CLIENTS)
    await eventually('the load is on', async () => load.done() > 100)
    gateway.child.kill('SIGUSR2')
    const old = before.workers.map(({ pid }) => pid)
    await eventually('only new ones are there', async () => {
      const { workers } = await ask<Status>(gateway, '/config')
      t.ok(workers.filter(({ state }) => state !== 'starting').length >= 2, 'never less than two')
      return (
        workers.length === 2 && workers.every(({ pid, state }) => !old.includes(pid) && state === 'serving')
      )
    })
    const { failures, statuses, total } = await load.stop()
    t.comment(`${total} requests`)
    t.strictSame(failures, [])
    t.strictSame(Object.keys(statuses), ['200'])
    t.equal((await answered(gateway))! - counted, total, 'counted by the old and the new together')
    t.strictSame(await limited(6), { 429: 6 }, 'the counts and the tier stay')
    t.equal(await used(), 30)
    t.strictSame(new Set(await ofDrained()), new Set([503]), 'the drained upstream stays drained')
  })

  await t.test('SIGTERM under load: /readyz turns 503, no request fails, exit code 0', async (t) => {
    const load = startLoad(`${gateway.address}/x`, CLIENTS)
    await eventually('the load is on', async () => load.done() > 100)
    const exited = gateway.stop('SIGTERM')
    await eventually('/readyz says 503', async () => {
      const { statusCode, body } = await request(`${gateway.admin}/readyz`)
      await body.dump()
      return statusCode === 503
    })
    const { failures, statuses } = await load.stop()
    t.strictSame(failures, [])
    t.strictSame(Object.keys(statuses), ['200'])
    t.equal(await exited, 0)
  })
})

interface Line {
  readonly path: string
  readonly request_id: string
}

/** Returns the complete lines: a worker may be writing the last one. */
function countOf(file: string): number {
  return readFileSync(file, 'utf8').split('\n').length - 1
}

/** Throws when a line is not whole. */
function linesOf(file: string): Line[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line)
}

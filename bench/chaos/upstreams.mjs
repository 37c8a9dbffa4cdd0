/** Faults of upstreams: each row has a fault, what must hold, and what was seen. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  after,
  forgetful,
  half,
  hangingPort,
  ok,
  reset,
  silent,
  startBackend,
  status,
  trickle,
} from './backend.mjs'
import { config, folder, startGateway } from './gateway.mjs'
import { sleep, startLoad, until } from './load.mjs'

/** Runs load for a second, the fault for some more, and load again until it is over. */
async function fault(
  origins,
  { service = {}, route = {}, more = {}, load: loadOptions = {}, gateway: options },
  { inject, heal },
) {
  const gateway = await startGateway(
    config({ api: { upstreams: origins, ...service } }, more, route),
    options,
  )
  const load = startLoad(() => `${gateway.address}/api/x`, loadOptions)
  await sleep(1_000)
  load.mark()
  await inject(gateway)
  await sleep(3_000)
  await heal(gateway)
  load.heal()
  await sleep(4_000)
  const result = await load.stop()
  const alive = gateway.alive()
  await gateway.stop()
  return { ...result, alive }
}

const only = (result, ...statuses) => Object.keys(result.during).every((one) => statuses.includes(one))

async function pair(change, options = {}) {
  const [a, b] = [await startBackend(), await startBackend()]
  const result = await fault([a.origin, b.origin], options, change(a, b))
  a.stop()
  b.stop()
  return result
}

async function single(change, options = {}) {
  const a = await startBackend(options.serve)
  const result = await fault([a.origin], options, change(a))
  a.stop()
  return result
}

const behaving = (serve) => (a) => ({
  inject: () => {
    a.serve = serve
  },
  heal: () => {
    a.serve = ok
  },
})

export const rows = [
  {
    name: 'one of two upstreams refuses',
    mark: '0 failed',
    run: () => pair((a) => ({ inject: a.stop, heal: a.start })),
    holds: (r) => r.failed === 0,
  },
  {
    name: 'the only upstream refuses',
    mark: '502 in 50 ms (p99); back ≤ 2 s',
    run: () => single((a) => ({ inject: a.stop, heal: a.start })),
    holds: (r) => only(r, '502', '200', '503') && r.p99 < 50 && r.recovered < 2_000,
  },
  {
    name: 'one of two resets every connection',
    mark: '0 failed of GETs once it is out',
    run: () => pair(behaving(reset)),
    holds: (r) => only(r, '200', '502') && r.failed < r.requests * 0.01 && r.recovered < 2_000,
  },
  {
    name: 'the only one resets every connection',
    mark: '502 in 50 ms (p99)',
    run: () => single(behaving(reset)),
    holds: (r) => only(r, '502', '503') && r.p99 < 50,
  },
  {
    name: 'connecting hangs',
    mark: '504 after 2 s',
    async run() {
      const hanging = await hangingPort()
      const gateway = await startGateway(config({ api: { upstreams: [hanging.origin] } }))
      const load = startLoad(() => `${gateway.address}/api/x`, { rate: 20 })
      load.mark()
      await sleep(1_000)
      load.heal()
      const result = await load.stop()
      await gateway.stop()
      await hanging.close()
      return { ...result, recovered: undefined }
    },
    holds: (r) => only(r, '504') && r.p99 > 1_900 && r.p99 < 2_600,
  },
  {
    name: 'no header in time (headers: 1s)',
    mark: '504 after 1 s',
    run: () =>
      single(behaving(silent), {
        route: { timeouts: { headers: '1s' } },
        load: { rate: 50 },
        service: { outliers: false },
      }),
    holds: (r) => only(r, '504') && r.p99 > 950 && r.p99 < 1_600,
  },
  {
    name: 'trickles without end (total: 2s)',
    mark: 'a cut, never a clean end',
    run: () =>
      single(behaving(trickle), {
        route: { timeouts: { total: '2s' } },
        load: { rate: 20 },
        service: { outliers: false },
      }),
    holds: (r) => only(r, 'cut') && r.p99 < 2_600,
  },
  {
    name: 'ends in the middle of a response',
    mark: 'a cut, never a clean end',
    run: () => single(behaving(half), { service: { outliers: false } }),
    holds: (r) => only(r, 'cut'),
  },
  {
    name: 'idle connections die on reuse, GET',
    mark: '0 failed',
    run: () => single(behaving(forgetful)),
    holds: (r) => r.failed === 0,
  },
  {
    name: 'idle connections die on reuse, POST',
    mark: '502 at worst, sent once',
    run: () =>
      single(behaving(forgetful), { load: { method: 'POST', body: 'x' }, service: { outliers: false } }),
    holds: (r) => only(r, '200', '502') && r.failed < r.requests * 0.2,
  },
  {
    name: 'connections used up (4 of 200 ms each, 30 may wait)',
    mark: '503 with Retry-After, waits ≤ 1 s',
    run: () =>
      single(
        (a) => ({
          inject: () => {
            a.serve = after(200)
          },
          heal: () => {
            a.serve = ok
          },
        }),
        { service: { max_connections: 4, max_waiting: 30, outliers: false } },
      ),
    holds: (r) => only(r, '200', '503') && r.during['503'] > 0 && r.retryAfter && r.p99 < 1_600,
  },
  {
    name: 'one of two answers 503 for 3 s',
    mark: 'passed on, then left out',
    run: () => pair(behaving(status(503))),
    holds: (r) =>
      only(r, '200', '503') && (r.during['503'] ?? 0) < r.during['200'] * 0.5 && r.recovered < 1_000,
  },
  {
    name: 'the only one answers 500 for 3 s, with a circuit_breaker (open: 1s)',
    mark: '500, then 503 at once with Retry-After; back ≤ 3 s',
    run: () =>
      single(behaving(status(500)), {
        service: { outliers: false, circuit_breaker: { window: '2s', open: '1s' } },
      }),
    holds: (r) => only(r, '500', '503') && r.during['503'] > 0 && r.retryAfter && r.recovered < 3_000,
  },
  {
    name: 'a name moves to another address',
    mark: '≤ 30 s, 0 failed',
    run: () => dns(false),
    holds: (r) => r.failed === 0 && r.moved < 31_000,
  },
  {
    name: 'DNS fails for 40 s',
    mark: 'the last answer serves on, 0 failed',
    run: () => dns(true),
    holds: (r) => r.failed === 0,
  },
]

/** The gateway's resolver reads a file, so that the machine's own resolver stays as it is. */
async function dns(fails) {
  const dir = folder()
  const file = path.join(dir, 'address')
  const hook = path.join(dir, 'hook.mjs')
  writeFileSync(file, '127.0.0.1')
  writeFileSync(
    hook,
    `import dns from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
const real = dns.lookup
dns.lookup = async (name, options) => {
  if (!name.endsWith('.test')) return real(name, options)
  const address = readFileSync(${JSON.stringify(file)}, 'utf8')
  if (address === '') throw Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' })
  return options?.all ? [{ address, family: 4 }] : { address, family: 4 }
}
syncBuiltinESMExports()
`,
  )
  const a = await startBackend()
  const gateway = await startGateway(config({ api: { upstreams: [`http://backend.test:${a.port}`] } }), {
    nodeArgs: ['--import', hook],
  })
  const load = startLoad(() => `${gateway.address}/api/x`, { rate: 50 })
  await sleep(1_000)
  load.mark()
  let moved
  if (fails) {
    writeFileSync(file, '')
    await sleep(40_000)
  } else {
    // The same backend at another address of this machine; its socket shows which address was asked.
    const began = performance.now()
    writeFileSync(file, '127.0.0.2')
    const proxy = await second(a.port)
    await until('requests go to the new address', 60_000, () => proxy.connections > 0)
    moved = performance.now() - began
    await sleep(1_000)
    proxy.close()
  }
  writeFileSync(file, '127.0.0.1')
  load.heal()
  const result = await load.stop()
  await gateway.stop()
  a.stop()
  return {
    ...result,
    recovered: undefined,
    moved,
    note: moved && `moved after ${(moved / 1000).toFixed(1)} s`,
  }
}

async function second(port) {
  const { createServer } = await import('node:http')
  const { once } = await import('node:events')
  const server = createServer((req, res) => {
    req.resume()
    res.end('ok')
  })
  const counted = { connections: 0, close: () => server.closeIdleConnections() }
  server.on('connection', () => counted.connections++)
  server.listen(port, '127.0.0.2')
  await once(server, 'listening')
  server.unref()
  return counted
}

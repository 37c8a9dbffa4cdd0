/** Faults of the gateway's own process, and of what it runs on. */
import { readdirSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { after, ok, startBackend } from './backend.mjs'
import { config, startGateway } from './gateway.mjs'
import { quantile, sleep, startLoad, tally, until } from './load.mjs'

async function loaded(
  seconds,
  { more = {}, options = {}, load: loadOptions = {}, serve = ok, path = '/api/x' } = {},
  during = async () => ({}),
) {
  const backend = await startBackend(serve)
  const gateway = await startGateway(config({ api: { upstreams: [backend.origin] } }, more), options)
  const load = startLoad(() => gateway.address + path, loadOptions)
  await sleep(500)
  load.mark()
  const extra = await during(gateway)
  await sleep(seconds * 1_000)
  load.heal()
  const end = gateway.alive() ? await endOf(gateway) : {}
  await sleep(500)
  const result = { ...(await load.stop()), ...end, ...extra, alive: gateway.alive() }
  await gateway.stop()
  backend.stop()
  return result
}

async function endOf(gateway) {
  return { dropped: await gateway.metric('tidegate_log_lines_dropped_total'), rss: gateway.rss() }
}

const log = (access) => ({ log: { access } })
const lines = (r) => `${r.dropped} lines dropped, ${r.rss.toFixed(0)} MiB resident`

function childrenOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
}

export const rows = [
  {
    name: 'no file descriptors left (200 in all, 400 connections)',
    mark: 'lives, and serves again ≤ 1 s after',
    async run() {
      return loaded(1, { options: { shell: 'ulimit -n 200' }, load: { connections: 4 } }, async (gateway) => {
        const { port } = new URL(gateway.address)
        // From ten addresses, as one may hold a quarter.
        const sockets = Array.from({ length: 300 }, (_, i) =>
          net
            .connect({ port, host: '127.0.0.1', localAddress: `127.0.0.${2 + (i % 10)}` })
            .on('error', () => {}),
        )
        await sleep(3_000)
        for (const socket of sockets) socket.destroy()
        return {}
      })
    },
    holds: (r) => r.alive && r.recovered < 1_000,
  },
  {
    name: 'the disk of the access log is full',
    mark: '0 failed, lines counted',
    run: () => loaded(3, { more: log('/dev/full') }).then((r) => ({ ...r, note: lines(r) })),
    holds: (r) => r.failed === 0 && r.dropped > 100,
  },
  {
    name: 'nobody reads stdout',
    mark: '0 failed, lines counted, ≤ 200 MiB',
    run: () =>
      loaded(15, {
        more: log('stdout'),
        options: { stdio: ['ignore', 'pipe', 'pipe'] },
        load: { rate: 700 },
        path: `/api/${'x'.repeat(1_000)}`,
      }).then((r) => ({ ...r, note: lines(r) })),
    holds: (r) => r.failed === 0 && r.dropped > 0 && r.rss < 200,
  },
  {
    name: 'the reader of stdout goes away (EPIPE)',
    mark: '0 failed, lines counted',
    run: () =>
      loaded(3, { more: log('stdout'), options: { stdio: ['ignore', 'pipe', 'pipe'] } }, async (gateway) => {
        gateway.child.stdout.destroy()
        return {}
      }).then((r) => ({ ...r, note: lines(r) })),
    holds: (r) => r.failed === 0 && r.dropped > 100,
  },
  {
    name: 'the OTLP collector is down',
    mark: '0 failed',
    run: () =>
      loaded(4, { more: { telemetry: { otlp: { url: 'http://127.0.0.1:9/v1/metrics', interval: '1s' } } } }),
    holds: (r) => r.failed === 0,
  },
  {
    name: 'the process stands still for 300 ms, five times',
    mark: '200, or 503 shed with Retry-After; back ≤ 1 s',
    run: () =>
      loaded(1, { serve: after(20) }, async (gateway) => {
        for (let i = 0; i < 5; i++) {
          gateway.child.kill('SIGSTOP')
          await sleep(300)
          gateway.child.kill('SIGCONT')
          await sleep(300)
        }
        return {}
      }),
    holds: (r) =>
      Object.keys(r.during).every((one) => one === '200' || one === '503') &&
      r.retryAfter &&
      r.recovered < 1_000,
  },
  {
    name: 'SIGTERM at full load, another gateway behind the same balancer',
    mark: '0 failed of 10,000',
    run: () => handover(1),
    holds: (r) => r.failed === 0 && r.requests >= 10_000 && r.code === 0,
  },
  {
    name: 'kill -9 of one of two workers under load',
    mark: 'its own requests only; another one ≤ 3 s',
    run: async () => {
      const r = await loaded(
        4,
        { options: { args: ['--workers', '2'] }, serve: after(5), load: { rate: 400 } },
        async (gateway) => {
          const before = childrenOf(gateway.child.pid)
          process.kill(before[0], 'SIGKILL')
          const began = performance.now()
          await until('two again', 10_000, () => {
            const now = childrenOf(gateway.child.pid)
            return now.length === 2 && !now.includes(before[0])
          })
          return { replaced: performance.now() - began }
        },
      )
      return { ...r, note: `two again after ${(r.replaced / 1000).toFixed(2)} s` }
    },
    holds: (r) => r.alive && r.failed <= 64 && r.recovered < 1_000 && r.replaced < 3_000,
  },
  {
    name: 'SIGUSR2 replaces both workers under load',
    mark: '0 failed of 5,000',
    run: async () => {
      const r = await loaded(
        10,
        {
          options: { args: ['--workers', '2'] },
          load: { rate: 400 },
          more: { server: { shutdown_delay: '500ms' } },
        },
        async (gateway) => {
          const before = childrenOf(gateway.child.pid)
          gateway.child.kill('SIGUSR2')
          await until('all are new', 30_000, () => {
            const now = childrenOf(gateway.child.pid)
            return now.length === 2 && now.every((pid) => !before.includes(pid))
          })
          await sleep(2_000)
          return {}
        },
      )
      return { ...r, note: '' }
    },
    holds: (r) => r.failed === 0 && r.requests >= 5_000,
  },
]

/** Runs clients as fast as they can, through a balancer that asks /readyz ten times a second. */
async function handover() {
  const backend = await startBackend(after(2))
  const text = config(
    { api: { upstreams: [backend.origin] } },
    { server: { shutdown_delay: '2s', shutdown_grace: '10s' } },
  )
  const [first, second] = [await startGateway(text), await startGateway(text)]
  const { Agent, request } = await import('undici')
  const agent = new Agent({ connections: 32, pipelining: 1 })
  let target = first
  let stopping = false
  const seen = []
  const clients = Array.from({ length: 32 }, async () => {
    while (!stopping) {
      const at = performance.now()
      let status
      try {
        const { statusCode, body } = await request(`${target.address}/api/x`, { dispatcher: agent })
        status = (await body.text()) === 'ok' ? statusCode : 'cut'
      } catch {
        status = 'cut'
      }
      seen.push({ at, ms: performance.now() - at, status })
    }
  })
  const balancer = setInterval(async () => {
    if (target === first && !(await first.ready())) target = second
  }, 100)
  await until('5,000 requests', 60_000, () => seen.length > 5_000)
  const at = seen.length
  first.child.kill('SIGTERM')
  const code = await first.exited
  const reached = seen.length
  await until('5,000 more', 60_000, () => seen.length > at + 5_500)
  stopping = true
  await Promise.all(clients)
  clearInterval(balancer)
  await agent.destroy()
  await second.stop()
  backend.stop()
  const times = seen.map(({ ms }) => ms).sort((a, b) => a - b)
  return {
    requests: seen.length,
    failed: seen.filter(({ status }) => status !== 200).length,
    during: tally(seen),
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    code,
    note: `SIGTERM after ${at}, gone after ${reached}, exit ${code}`,
  }
}

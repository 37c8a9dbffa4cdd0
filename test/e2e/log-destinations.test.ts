// Tests src/telemetry/logs/open-access-log.ts
import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Agent, request } from 'undici'
import { eventually } from '../support/eventually.js'
import { freePort } from '../support/free-port.js'
import { spawnCli } from '../support/gateway/cli.js'
import { CLI, type GatewayProcess, startBackend, startProcess, tally } from '../support/gateway/process.js'
import { sampleOf } from '../support/telemetry/exposition.js'

const config = (upstream: string, access: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
log: { access: ${access} }
server: { shutdown_delay: 0s, shed: { event_loop_delay: 0 } }
`

// These tests mostly wait for processes, so they run side by side.
const BESIDE = { buffered: true }

t.test('when the access log cannot be written, the gateway counts lost lines and serves', async (t) => {
  t.jobs = 3
  const backend = await startBackend(t)
  const agent = new Agent({ connections: 16 })
  t.teardown(() => agent.destroy())
  /** Long, so that few requests write many bytes: 2.8 KB a line. */
  const path = `/${'x'.repeat(1_000)}`
  const headers = { 'x-user-id': 'é'.repeat(256) }
  const ask = async (gateway: Pick<GatewayProcess, 'address'>, count: number) => {
    const statuses: number[] = []
    const clients = Array.from({ length: 16 }, async () => {
      while (statuses.length < count) {
        const { statusCode, body } = await request(gateway.address + path, { headers, dispatcher: agent })
        await body.dump()
        statuses.push(statusCode)
      }
    })
    await Promise.all(clients)
    return Object.keys(tally(statuses))
  }
  const dropped = async ({ admin }: Pick<GatewayProcess, 'admin'>) => {
    const { body } = await request(`${admin}/metrics`)
    return sampleOf(await body.text(), 'tidegate_log_lines_dropped_total') ?? 0
  }
  const droppedMore = async (gateway: Pick<GatewayProcess, 'admin'>, than: number) => {
    let now = 0
    await eventually('lines are counted as dropped', async () => {
      now = await dropped(gateway)
      return now > than
    })
    return now
  }
  const residentMiB = ({ child }: GatewayProcess) =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024

  t.test('the disk is full', BESIDE, async (t) => {
    const gateway = await startProcess(t, config(backend.origin, '/dev/full'))
    t.same(await ask(gateway, 300), ['200'])
    t.ok((await droppedMore(gateway, 299)) >= 300)
    await eventually('it says so', () => /ENOSPC/.test(gateway.stderr()))
    t.equal(gateway.stderr().match(/ENOSPC/g)?.length, 1, 'once')
    t.equal(await gateway.stop(), 0)
  })

  t.test('the log goes to stdout, and its reader has gone', BESIDE, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-log-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'tidegate.yaml'), config(backend.origin, 'stdout'))
    const run = spawnCli(['start'], { cwd: folder })
    t.teardown(() => run.child.kill('SIGKILL'))
    await run.printed(/listens on/)
    const [, address, admin] = /listens on (http:\S+), admin on (http:[^\s,]+)/.exec(run.stderr())!
    const gateway = { address: address!, admin: admin! }
    t.same(await ask(gateway, 20), ['200'])
    await eventually('lines are written', () => run.stdout().split('\n').length > 20)
    run.child.stdout!.destroy()
    t.same(await ask(gateway, 100), ['200'])
    t.ok((await droppedMore(gateway, 80)) > 80)
    t.same(await ask(gateway, 20), ['200'])
    run.child.kill('SIGTERM')
    t.equal(await run.exited, 0)
  })

  const title = 'the log is a pipe that nobody reads, then its reader leaves, then another reads it'
  t.test(title, BESIDE, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'tidegate-log-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    const open = () => openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK)
    let reader = open()
    const gateway = await startProcess(t, config(backend.origin, pipe))
    t.same(await ask(gateway, 500), ['200'])
    const before = residentMiB(gateway)
    t.same(await ask(gateway, 3_000), ['200'])
    const stuck = await droppedMore(gateway, 0)
    t.ok(stuck > 0, `${stuck} lines did not fit into what may wait`)
    const grown = residentMiB(gateway) - before
    t.ok(grown < 80, `${grown.toFixed(0)} MiB more`)

    closeSync(reader)
    t.ok((await droppedMore(gateway, stuck + 500)) > stuck + 500, 'waiting lines are lost')
    t.same(await ask(gateway, 100), ['200'])
    await eventually('it says so', () => /EPIPE/.test(gateway.stderr()))

    reader = open()
    const buffer = Buffer.alloc(65_536)
    let text = ''
    await eventually('lines go on', async () => {
      await ask(gateway, 1)
      try {
        text += buffer.toString('latin1', 0, readSync(reader, buffer))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      }
      return text.includes('"status":200')
    })
    closeSync(reader)
    t.equal(await gateway.stop(), 0)
  })
})

t.test('a gateway whose stderr is on a full disk starts and serves', async (t) => {
  const backend = await startBackend(t)
  const port = await freePort()
  const yaml = config(backend.origin, 'off').replace('listen: 127.0.0.1:0', `listen: 127.0.0.1:${port}`)
  const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
  const full = openSync('/dev/full', constants.O_WRONLY)
  const child = spawn(process.execPath, [CLI, 'start', '--config', file], {
    stdio: ['ignore', 'ignore', full],
  })
  t.teardown(() => {
    child.kill('SIGKILL')
    closeSync(full)
  })
  const ask = () =>
    request(`http://127.0.0.1:${port}/`).then(async ({ statusCode, body }) => {
      await body.dump()
      return statusCode
    })
  await eventually('it serves', async () => (await ask().catch(() => 0)) === 200)
  t.equal(child.exitCode, null)
})

// Tests src/workers/handoff.ts
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { tidegateProcess } from '../support/gateway/cli.js'
import { withPaths } from '../support/gateway/paths.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { sampleOf } from '../support/telemetry/exposition.js'

const config = (upstream: string, listen = '127.0.0.1:0') => `
listen: ${listen}
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 0s, shutdown_grace: 10s, max_connections: 8, shed: { event_loop_delay: 0 } }
log: { access: off }
`

async function takenPort(t: { teardown(end: () => void): void }): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('a start that cannot succeed exits with 1 or 2, prints one reason, and does not retry', async (t) => {
  const port = await takenPort(t)
  const cwd = t.testdir({
    'tidegate.yaml': config('http://127.0.0.1:1', `127.0.0.1:${port}`),
    'bad.yaml': config('http://127.0.0.1:1').replace('tiers:', 'tires:'),
  })
  const [taken, bad, none, many] = await Promise.all([
    tidegateProcess(['start', '--workers', '2'], { cwd }),
    tidegateProcess(['start', '--workers', '2', '-c', 'bad.yaml'], { cwd }),
    tidegateProcess(['start', '--workers', '0'], { cwd }),
    tidegateProcess(['start', '--workers', 'many'], { cwd }),
  ])
  t.strictSame(taken, {
    code: 1,
    stdout: '',
    stderr: `127.0.0.1:${port} (listen in tidegate.yaml) is taken; stop what listens there, or set listen to another port\n`,
  })
  t.equal(bad.code, 1)
  t.match(bad.stderr, /^bad\.yaml:4:1: .*tires/m)
  const wrongUse = (given: string) =>
    `tidegate start: --workers needs a number from 1 to 256, or auto, not ${given}; see: tidegate start --help\n`
  t.strictSame([none.code, none.stderr], [2, wrongUse('0')])
  t.strictSame([many.code, many.stderr], [2, wrongUse('many')])
})

t.test('one worker behind a primary', async (t) => {
  const port = await takenPort(t)
  let answerSlow = () => {}
  const backend = await startBackend(t, (req, res) => {
    if (req.url !== '/slow') return res.end('quick')
    res.write('first ')
    answerSlow = () => res.end('last')
  })
  const gateway = await startProcess(t, config(backend.origin), {}, ['--workers', '1'])
  const workers = async () => {
    const { body } = await request(`${gateway.admin}/config`)
    return ((await body.json()) as { workers: { pid: number; generation: number }[] }).workers
  }
  const get = async (path: string) => {
    const { body } = await request(gateway.address + path, { reset: true })
    return body.text()
  }
  const [worker] = await workers()

  await t.test('a connection over the limit is closed, and not passed from worker to worker', async (t) => {
    const { port } = new URL(gateway.address)
    const rejected = async () => {
      const { body } = await request(`${gateway.admin}/metrics`)
      return sampleOf(await body.text(), 'tidegate_connections_rejected_total', { reason: 'total' })
    }
    const sockets = Array.from({ length: 9 }, () => connect(Number(port), '127.0.0.1'))
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
    })
    await Promise.race(sockets.map((socket) => once(socket.resume(), 'close')))
    t.equal(sockets.filter((socket) => socket.closed).length, 1)
    t.equal(await rejected(), 1)
    for (const socket of sockets) socket.destroy()
    await eventually('there is room again', () => sockets.every((socket) => socket.closed))
    // The gateway may notice the closed connections later than the next one.
    await eventually('who comes is served', () =>
      get('/x').then(
        (text) => text === 'quick',
        () => false,
      ),
    )
  })

  await t.test('when new workers cannot start, the old ones go on, and one line says why', async (t) => {
    writeFileSync(gateway.configFile, withPaths(config(backend.origin, `127.0.0.1:${port}`)))
    gateway.child.kill('SIGHUP')
    await eventually('the new configuration is known', () => /configuration applied/.test(gateway.stderr()))
    gateway.child.kill('SIGUSR2')
    const line = /^.*the new workers did not start; the old ones keep serving.*$/gm
    await eventually('the restart has failed', () => line.test(gateway.stderr()), 30_000)
    t.match(gateway.stderr().match(line)!.join(), `127.0.0.1:${port} (listen in`, 'it says why')
    t.equal(gateway.stderr().match(/"level":"error"/g)!.length, 1, gateway.stderr())
    t.strictSame(
      (await workers()).map(({ pid, generation }) => [pid, generation]),
      [[worker!.pid, 1]],
    )
    t.equal(await get('/x'), 'quick')
  })

  await t.test('when the primary is killed, workers finish their requests and exit', async (t) => {
    const slow = get('/slow')
    await eventually('it is at the backend', () => backend.requests.some(({ url }) => url === '/slow'))
    await gateway.stop('SIGKILL')
    t.ok(isAlive(worker!.pid), 'a request is in flight there')
    answerSlow()
    t.equal(await slow, 'first last')
    await eventually('the worker has ended', () => !isAlive(worker!.pid))
  })
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

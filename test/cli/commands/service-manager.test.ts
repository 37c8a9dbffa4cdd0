import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { openServiceManager } from '../../../src/cli/commands/service-manager.js'
import { startBackend, startProcess, startProcessOn } from '../../support/gateway/process.js'
import { canReadDatagrams, readDatagrams } from '../../support/http/datagrams.js'
import { isOnPath } from '../../support/redis/redis.js'

const skip =
  isOnPath('systemd-notify') && canReadDatagrams
    ? false
    : 'no systemd-notify, or no python3 to read its datagrams; install systemd and python3'

const config = (upstream: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 3s, shutdown_grace: 20s }
log: { access: off }
`

// Each test drains for 3 s, or starts a process, so they run side by side.
t.jobs = 2
const APART = { skip, buffered: true }

for (const workers of [[], ['--workers', '1']]) {
  const how = workers.length === 0 ? 'one process' : 'a primary with workers'
  t.test(`systemd hears of start, watchdog, reload and drain by ${how}`, APART, async (t) => {
    const systemd = await readDatagrams(t)
    const backend = await startBackend(t)
    const env = { NOTIFY_SOCKET: systemd.path, WATCHDOG_USEC: '1000000' }
    const gateway = await startProcess(t, config(backend.origin), env, workers)
    t.equal(
      await systemd.next(/^READY=1/),
      `READY=1\nSTATUS=serving on ${gateway.address}, admin on ${gateway.admin}`,
    )
    await systemd.next(/^WATCHDOG=1$/)

    const before = process.hrtime.bigint() / 1000n
    gateway.child.kill('SIGHUP')
    const reloading = await systemd.next(/^RELOADING=1/)
    const told = /^RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=reloading$/.exec(reloading)?.[1]
    t.ok(BigInt(told ?? 0) >= before, 'by the clock that systemd compares with: not before the signal')
    await systemd.next(/^READY=1\nSTATUS=serving on /)

    writeFileSync(gateway.configFile, `${readFileSync(gateway.configFile, 'utf8')}\nno_such_key: 1\n`)
    gateway.child.kill('SIGHUP')
    await systemd.next(/^RELOADING=1/)
    await systemd.next(/^READY=1\nSTATUS=serving on /)

    const exited = gateway.stop('SIGTERM')
    t.equal(await systemd.next(/^STOPPING=1/), 'STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=33000000')
    await systemd.next(/^WATCHDOG=1$/)
    t.equal(await exited, 0)
    t.equal(systemd.got.filter((one) => one.startsWith('READY=1')).length, 3, 'and workers tell nothing')
    t.notMatch(gateway.stderr(), /tidegate: systemd/)
  })
}

t.test('without NOTIFY_SOCKET no program is started, and a reload returns its result', async (t) => {
  const manager = openServiceManager({
    env: { PATH: '/nowhere', WATCHDOG_USEC: '1000' },
    stderr: process.stderr,
  })
  manager.ready('serving')
  manager.stopping(1)
  t.equal(await manager.reloading(Promise.resolve(7)), 7)
})

t.test('without systemd-notify the gateway says so once, and serves', { buffered: true }, async (t) => {
  const backend = await startBackend(t)
  const env = { NOTIFY_SOCKET: '/nowhere', WATCHDOG_USEC: '2000' }
  const node = ['/usr/bin/env', 'PATH=/nowhere', process.execPath] as const
  const configFile = `${t.testdir({ 'tidegate.yaml': config(backend.origin) })}/tidegate.yaml`
  const gateway = await startProcessOn(t, configFile, env, [], [], node)
  gateway.child.kill('SIGHUP')
  t.equal((await fetch(`${gateway.address}/x`)).status, 200)
  t.equal(await gateway.stop('SIGINT'), 0)
  t.strictSame(gateway.stderr().match(/^tidegate: .*systemd.*$/gm), [
    'tidegate: cannot notify systemd of READY=1: systemd-notify is not on the PATH; install it, or use Type=exec',
  ])
})

t.test('a gateway does not answer the watchdog of another process', APART, async (t) => {
  const systemd = await readDatagrams(t)
  const backend = await startBackend(t)
  const env = { NOTIFY_SOCKET: systemd.path, WATCHDOG_USEC: '2000', WATCHDOG_PID: '1' }
  const gateway = await startProcess(t, config(backend.origin), env)
  await systemd.next(/^READY=1/)
  t.equal(await gateway.stop('SIGINT'), 0)
  t.notOk(systemd.got.includes('WATCHDOG=1'))
})

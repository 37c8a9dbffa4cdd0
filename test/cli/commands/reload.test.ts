import { writeFile } from 'node:fs/promises'
import t from 'tap'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startProcess } from '../../support/gateway/process.js'

t.test('reload makes the gateway read its file, and says what changed or what is wrong', async (t) => {
  const adminPort = await freePort()
  const config = (limit: string, more = '') => `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${adminPort}" }
tiers: [free]
services:
  api: { upstreams: [http://127.0.0.1:9], limits: { free: ${limit} } }
${more}
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 0 }
log: { access: off }
`
  const gateway = await startProcess(t, config('10/min'))
  const reload = (...args: string[]) => tidegate(['reload', '--admin', `127.0.0.1:${adminPort}`, ...args])
  const same = await reload()
  t.match(same, { code: 0, stdout: /^\S+ has not changed since \S+Z, hash [0-9a-f]{12}\n$/, stderr: '' })

  // The gateway's own watching may be quicker: then the command finds nothing new.
  await writeFile(gateway.configFile, config('20/min', '  idle: { upstreams: [http://127.0.0.1:9] }'))
  const applied = await reload('--json')
  t.equal(applied.code, 0)
  const answer = JSON.parse(applied.stdout)
  t.match(answer, {
    result: /^(applied|unchanged)$/,
    hash: /^[0-9a-f]{12}$/,
    changed: ['services.api.limits.free: 10/min -> 20/min', /^services\.idle/],
    warnings: [/services\.idle: /],
  })

  await writeFile(gateway.configFile, config('20 apples'))
  const rejected = await reload()
  t.match(rejected, { code: 1, stdout: '' })
  t.match(
    rejected.stderr,
    /^\S+:6:\d+: services\.api\.limits\.free: .+\nThe new configuration has errors, so the old one stays in force\. .+\n$/,
  )
  // With its own configuration the command finds the same errors before it asks.
  t.match(await tidegate(['reload', '--config', gateway.configFile]), { code: 1, stderr: /:6:\d+: services/ })
})

t.test('reload prints the changes and the warnings for a person', async (t) => {
  const { describe } = await import('../../../src/cli/commands/reload.js')
  const told = {
    file: 'tidegate.yaml',
    hash: 'abc',
    loadedAt: '2026-11-24T13:51:06.290Z',
    changed: ['tiers: a -> b'],
    warnings: ['w: not used'],
  }
  t.equal(
    describe({ ...told, result: 'applied' }, 80),
    'tidegate.yaml is in force now, hash abc\n  tiers: a -> b\nwarnings\n  w: not used',
  )
  t.equal(
    describe({ ...told, result: 'unchanged', warnings: [] }, 80),
    'tidegate.yaml has not changed since 2026-11-24T13:51:06Z, hash abc\n  tiers: a -> b',
  )
})

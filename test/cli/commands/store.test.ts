import t from 'tap'
import { startGateway } from '../../../src/main.js'
import { tidegate } from '../../support/gateway/cli.js'

// test/e2e/store-forgets.test.ts tests what the command does when Redis has lost records.

t.test('store without Redis says that there is nothing to decide', async (t) => {
  const configFile = `${t.testdir({
    'tidegate.yaml': `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free]
consumers: [{ ip: {} }]
services: { api: { upstreams: [http://127.0.0.1:9], limits: { free: 1/s } } }
routes: [{ path: /*, service: api }]
log: { access: off, level: fatal }
server: { shutdown_delay: 0 }
`,
  })}/tidegate.yaml`
  const gateway = await startGateway({ configFile })
  t.teardown(() => gateway.close(0))
  const admin = ['--admin', new URL(gateway.adminAddress).host]
  t.strictSame(await tidegate(['store', ...admin]), {
    code: 0,
    stdout: 'The gateway has no Redis, so nothing can be forgotten.\n',
    stderr: '',
  })
  t.strictSame(await tidegate(['store', '--json', ...admin]), {
    code: 0,
    stdout: '{\n  "records": []\n}\n',
    stderr: '',
  })
  for (const action of ['accept', 'restore']) {
    t.strictSame(await tidegate(['store', action, ...admin]), {
      code: 1,
      stdout: '',
      stderr: 'tidegate store: The store has forgotten nothing; there is nothing to decide.\n',
    })
  }
  t.strictSame(await tidegate(['store', 'forget', ...admin]), {
    code: 2,
    stdout: '',
    stderr:
      'tidegate store: ACTION is accept, restore, split or join, not "forget"; see: tidegate store --help\n',
  })
})

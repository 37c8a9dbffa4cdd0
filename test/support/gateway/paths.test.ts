import t from 'tap'
import { snapshotOf } from './gateway.js'
import { withoutPaths } from './paths.js'

const YAML = `
tiers: [free]
services: { api: { upstreams: ['http://127.0.0.1:1'] } }
routes: [{ path: /*, service: api }]
`
const ALL_OFF = { requests: false, tls: false, responses: false }

t.test('the run without the plain paths switches them off in every configuration', async (t) => {
  const of = (yaml: string) => snapshotOf(withoutPaths(yaml)).config
  for (const more of [
    '',
    'server: { keep_alive: 9s }\nstore: { timeout: 50ms }\n',
    'server:\n  http2: true\n',
  ]) {
    const { server, store } = of(YAML + more)
    t.strictSame(server.plain_path, ALL_OFF, more)
    t.equal(store.own_connection, false, more)
  }
  const kept = of(
    `${YAML}server: { keep_alive: 9s, plain_path: { tls: false } }\nstore: { own_connection: true }\n`,
  )
  t.equal(kept.server.keep_alive, 9000)
  t.strictSame(
    kept.server.plain_path,
    { requests: true, tls: false, responses: true },
    'but for what a test names',
  )
  t.equal(kept.store.own_connection, true)
  t.equal(withoutPaths('services: ['), 'services: [', 'and a file that cannot be read stays as it is')
})

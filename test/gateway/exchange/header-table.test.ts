import t from 'tap'
import { startFaces } from '../../support/http/faces.js'
import { type RawRequest, rawUpstream, respond } from '../../support/http/raw-upstream.js'
import { SWITCHING } from '../../support/http/websocket.js'

/** Tests header names that other servers use to tell upstreams who is calling. */

const upstream = await rawUpstream(t, (request) => {
  const switches = request.values('upgrade').length > 0
  respond(request, switches ? SWITCHING : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
})
const SITE = `
tiers: [free]
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api, websocket: true }]
`
const CLAIMS = [
  'Proxy',
  'Remote-User',
  'SSL-Client-Cert',
  'ssl-client-subject-dn',
  'X-Amzn-Mtls-Clientcert',
  'X-Amzn-Mtls-Clientcert-Subject',
  'X-ARR-ClientCert',
  'X-Client-Id',
  'X-Client-Cert',
  'X-SSL-Client-Verify',
  'X-SSL-CERT',
  'X-Consumer-Username',
  'X-Consumer-Custom-ID',
  'X-Original-URL',
  'X-Original-Method',
  'X-Original-Forwarded-For',
  'X-Tidegate-Identity',
]
const asked = { fields: CLAIMS.map((name) => [name, 'mallory'] as const) }
const underscored = { fields: CLAIMS.map((name) => [name.replaceAll('-', '_'), 'mallory'] as const) }

/** Returns the names of fields that hold the client's made-up value. */
function told({ fields }: RawRequest): string[] {
  return fields.filter(([, value]) => value === 'mallory').map(([name]) => name.toLowerCase())
}

t.test('headers that other servers use for identities are dropped, on every face', async (t) => {
  for (const yaml of [SITE, `${SITE}trusted_proxies: [127.0.0.1]`]) {
    for (const face of await startFaces(t, yaml)) {
      for (const request of [asked, underscored]) {
        t.match(await face.ask(request), { status: face.name === 'upgrade' ? 101 : 200 }, face.name)
        t.same(told(upstream.requests.at(-1)!), [], face.name)
      }
    }
  }
})

t.test('trusted_headers pass only from a trusted proxy', async (t) => {
  const named = `${SITE}trusted_headers: [X-SSL-Client-Verify, x-client-id, remote-user]\n`
  for (const face of await startFaces(t, named)) {
    await face.ask(asked)
    t.same(told(upstream.requests.at(-1)!), [], `${face.name}: a stranger`)
  }
  for (const face of await startFaces(t, `${named}trusted_proxies: [127.0.0.1]`)) {
    await face.ask(asked)
    const expected = ['remote-user', 'x-client-id', 'x-ssl-client-verify']
    t.same(told(upstream.requests.at(-1)!).sort(), expected, face.name)
    await face.ask(underscored)
    t.same(told(upstream.requests.at(-1)!), [], `${face.name}: twins`)
    // HTTP/2 has no such field.
    if (face.name === 'http2') continue
    const hidden = await face.ask({ fields: [['Connection', 'x-client-id']] })
    t.match(hidden, { status: 400 }, `${face.name}: named by Connection`)
  }
})

t.test('such a name may still be configured to identify a consumer, or to carry a cost', async (t) => {
  const yaml = `
tiers: [free]
consumers: [{ header: { name: x-client-id, from: anyone } }]
services:
  api: { upstreams: ["${upstream.origin}"], balance: { hash: { header: x-client-shard } } }
routes: [{ path: /*, service: api, websocket: true, cost: { header: x-client-cost, consumers: [mallory] } }]
`
  for (const face of await startFaces(t, yaml)) {
    await face.ask({
      fields: [
        ['X-Client-Id', 'mallory'],
        ['X-Client-Cost', 'mallory'],
        ['X-Client-Shard', 'mallory'],
        ['X-Client-Other', 'mallory'],
      ],
    })
    t.same(
      told(upstream.requests.at(-1)!).sort(),
      ['x-client-cost', 'x-client-id', 'x-client-shard'],
      face.name,
    )
  }
})

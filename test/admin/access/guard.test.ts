import { networkInterfaces } from 'node:os'
import t from 'tap'
import { guard } from '../../../src/admin/access/guard.js'
import { accessOf, startAdmin } from '../../support/gateway/admin.js'
import { rawExchange } from '../../support/http/raw.js'

t.test('without a token only requests with a local Host are served', async (t) => {
  const { port, call } = await startAdmin(t)
  const hosts = [
    `localhost:${port}`,
    `LOCALHOST:${port}`,
    `127.0.0.1:${port}`,
    `127.1.2.3:${port}`,
    `[::1]:${port}`,
  ]
  for (const host of hosts) {
    t.equal((await call('GET', '/config', { headers: { host } })).status, 200, `lets Host ${host} in`)
  }
  const foreign = [
    'evil.example',
    `evil.example:${port}`,
    `localhost.evil.example:${port}`,
    `evil.example@localhost:${port}`,
    'localhost',
    `localhost:${port + 1}`,
    `127.0.0.1.evil.example:${port}`,
    `[::2]:${port}`,
  ]
  for (const host of foreign) {
    const refused = await call('GET', '/usage/payments/alice', { headers: { host } })
    t.equal(
      refused.status,
      403,
      `refuses Host ${JSON.stringify(host)}: a page may have made its own name resolve to this machine`,
    )
    t.match(refused.json, { status: 403, code: 'forbidden', detail: /Host/ })
  }
  const empty = await rawExchange(port, 'GET /config HTTP/1.1\r\nHost:\r\n\r\n')
  t.equal(empty.responses[0]?.status, 403, 'refuses an empty Host')
  t.ok(empty.closed)
  const own = `Host: localhost:${port}`
  for (const two of [
    `${own}\r\nHost: evil.example`,
    `Host: evil.example\r\n${own}`,
    `${own}\r\nhost: localhost:${port}`,
  ]) {
    const { responses } = await rawExchange(port, `GET /config HTTP/1.1\r\n${two}\r\n\r\n`)
    t.equal(responses[0]?.status, 400, `refuses two Hosts: ${JSON.stringify(two)}`)
  }
  t.equal(
    (await call('GET', '/metrics', { headers: { host: 'evil.example' } })).status,
    403,
    'for /metrics as well',
  )
})

t.test('without a token only this machine is served, wherever the server listens', async (t) => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((one) => one !== undefined && one.family === 'IPv4' && !one.internal)?.address
  if (outside === undefined) {
    const caller = {
      method: 'GET',
      headers: { host: 'localhost:1' },
      hosts: 1,
      localPort: 1,
      isPage: false,
    }
    t.equal(
      guard({ ...caller, remoteAddress: '192.0.2.1' }, true)?.code,
      'forbidden',
      'no address but loopback here: asked directly',
    )
    t.equal(guard({ ...caller, remoteAddress: '::ffff:127.0.0.1' }, true), undefined)
    return
  }
  const { port } = await startAdmin(t, {}, '0.0.0.0')
  const response = await fetch(`http://${outside}:${port}/healthz`)
  t.equal(response.status, 403)
  t.match(await response.json(), { code: 'forbidden', detail: /admin\.tokens/ })
})

t.test('pages of other sites may neither write nor read', async (t) => {
  const { port, call } = await startAdmin(t)
  const own = `http://127.0.0.1:${port}`
  const write = (headers: Record<string, string>) => call('DELETE', '/usage/payments/alice', { headers })

  t.equal((await write({})).status, 200, 'curl, which sends neither, may write')
  t.equal(
    (await write({ origin: own, 'sec-fetch-site': 'same-origin' })).status,
    200,
    'its own page may write',
  )
  for (const origin of [
    'http://evil.example',
    `http://localhost:${port + 1}`,
    'null',
    `${own}.evil.example`,
    '',
  ]) {
    t.equal((await write({ origin })).status, 403, `Origin ${JSON.stringify(origin)} may not write`)
  }
  for (const site of ['cross-site', 'same-site', 'anything']) {
    t.equal((await write({ 'sec-fetch-site': site })).status, 403, `Sec-Fetch-Site ${site} may not write`)
  }
  t.equal(
    (await call('GET', '/config', { headers: { 'sec-fetch-site': 'cross-site' } })).status,
    403,
    'a foreign page may not read',
  )

  const preflight = await call('OPTIONS', '/usage/payments/alice', {
    headers: { origin: 'http://evil.example', 'access-control-request-method': 'DELETE' },
  })
  t.equal(preflight.status, 403)
  const read = await call('GET', '/config', { headers: { origin: own } })
  for (const { headers } of [preflight, read]) {
    t.notOk(
      Object.keys(headers).some((name) => name.startsWith('access-control-')),
      'no CORS, ever',
    )
  }
})

t.test('with tokens any Host is served, and a request without a valid one is 401', async (t) => {
  const { call } = await startAdmin(t, { access: accessOf({ token: 'a-long-admin-token' }) })
  const bearer = (value: string) => ({ headers: { authorization: value, host: 'gateway.internal' } })

  t.equal((await call('GET', '/config', bearer('Bearer a-long-admin-token'))).status, 200, 'serves any Host')
  t.equal(
    (await call('GET', '/config', bearer('bearer a-long-admin-token'))).status,
    200,
    'the scheme in any case',
  )
  const wrong = [
    '',
    'Bearer',
    'Bearer ',
    'Bearer a-long-admin-toke',
    'Bearer a-long-admin-token2',
    'a-long-admin-token',
  ]
  for (const value of [...wrong, 'Basic a-long-admin-token', 'Bearer a-long-admin-token x']) {
    const refused = await call('GET', '/config', bearer(value))
    t.equal(refused.status, 401, `refuses ${JSON.stringify(value)}`)
    t.equal(refused.headers['www-authenticate'], 'Bearer realm="tidegate admin"')
    t.match(refused.json, { code: 'unauthorized', detail: /Authorization: Bearer/ })
    t.notMatch(refused.text, /long-admin/)
  }
  for (const path of ['/metrics', '/usage/payments/alice', '/consumers/alice/tier', '/nowhere']) {
    t.equal((await call('GET', path)).status, 401, `${path} needs it`)
  }
  for (const path of ['/healthz', '/readyz']) {
    t.equal((await call('GET', path, { headers: { host: '10.0.0.7:8081' } })).status, 200, `${path} does not`)
  }
  const foreign = { authorization: 'Bearer a-long-admin-token', origin: 'http://evil.example' }
  t.equal(
    (await call('DELETE', '/usage/payments/alice', { headers: foreign })).status,
    403,
    'a foreign Origin stays out',
  )
  const behindTls = {
    authorization: 'Bearer a-long-admin-token',
    host: 'admin.example',
    origin: 'https://admin.example',
  }
  t.equal(
    (await call('DELETE', '/usage/payments/alice', { headers: behindTls })).status,
    200,
    'its own one behind TLS is in',
  )
})

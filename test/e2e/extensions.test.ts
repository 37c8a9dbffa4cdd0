import { execFile } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { startGateway } from '../../src/main.js'
import { startBackend } from '../support/gateway/process.js'

/** Runs the examples of docs/extensions.md in a gateway. */

const examples = fileURLToPath(new URL('../../examples/extensions/', import.meta.url))

t.test('the tests of the examples pass', async (t) => {
  // Without the environment of this test runner, which changes what `node --test` prints.
  const { stdout } = await promisify(execFile)(process.execPath, ['--test', examples], { env: {} })
  t.match(stdout, /^# fail 0$/m)
})

async function gatewayWith(t: Test, yaml: string) {
  const { origin } = await startBackend(t)
  const folder = t.testdir({
    'tidegate.yaml': `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free, pro]
services: { orders: { upstreams: [${origin}], limits: { free: 2/h, pro: 100/h } } }
server: { shutdown_delay: 0 }
log: { access: off, level: fatal }
${yaml}
`,
  })
  const gateway = await startGateway({
    configFile: `${folder}/tidegate.yaml`,
    env: { ACME: 'acme-secret-0123456789' },
  })
  t.teardown(() => gateway.close(0))
  return async (path: string, headers: Record<string, string> = {}) => {
    const { statusCode: status, headers: told, body } = await request(gateway.address + path, { headers })
    return { status, policy: told['ratelimit-policy'], text: await body.text() }
  }
}

t.test('partner-hmac identifies partners, and others by what comes next', async (t) => {
  const ask = await gatewayWith(
    t,
    `
extensions:
  - { name: partner-hmac, module: "${examples}partner-hmac.mjs", options: { secrets: { acme: "\${ACME}" } } }
consumers: [{ extension: partner-hmac }, { ip: {} }]
routes: [{ path: /orders/*, service: orders }]
`,
  )
  const time = String(Math.floor(Date.now() / 1000))
  const signature = createHmac('sha256', 'acme-secret-0123456789')
    .update(`${time}\nGET\n/orders/1?a=b`)
    .digest('hex')
  const signed = { 'x-partner': 'acme', 'x-timestamp': time, 'x-signature': signature }
  t.match(await ask('/orders/1?a=b', signed), { status: 200 })
  const wrong = await ask('/orders/2', signed)
  t.match(wrong, { status: 401, text: /The signature is not valid, or its time is over/ })
  t.match(JSON.parse(wrong.text), { request_id: String })
  // The refused one took nothing of acme's quota of two.
  t.match(await ask('/orders/1?a=b', signed), { status: 200 })
  t.match(await ask('/orders/1?a=b', signed), { status: 429 })
  t.match(await ask('/orders/1'), { status: 200 }, 'another consumer')
})

t.test('entitlement asks once for each consumer and route, and denies', async (t) => {
  const asked: string[] = []
  let fails = false
  const server = createServer((req, res) => {
    asked.push(req.url!)
    res.statusCode = fails ? 500 : 200
    res.end(JSON.stringify({ allowed: req.url!.startsWith('/plans/acme/') }))
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const ask = await gatewayWith(
    t,
    `
extensions:
  - name: entitlement
    module: "${examples}entitlement.mjs"
    options: { url: "http://127.0.0.1:${port}/plans" }
    timeout: 2s
consumers: [{ header: { name: x-user, from: anyone } }]
routes: [{ path: /orders/*, service: orders, use: [entitlement] }]
`,
  )
  const acme = { 'x-user': 'acme' }
  const both = await Promise.all([ask('/orders/1', acme), ask('/orders/2', acme)])
  t.match(both, [{ status: 200 }, { status: 200 }])
  t.strictSame(asked, ['/plans/acme/%2Forders%2F*'])
  t.match(await ask('/orders/1', { 'x-user': 'other' }), {
    status: 403,
    text: /Your plan does not include this API/,
  })
  t.match(await ask('/orders/1', { 'x-user': 'other' }), { status: 403 })
  t.equal(asked.length, 2)
  fails = true
  t.match(await ask('/orders/1', { 'x-user': 'third' }), { status: 503, text: /extension_failed/ })
  fails = false
  t.match(await ask('/orders/1', { 'x-user': 'third' }), { status: 403 }, 'a failure is not remembered')
})

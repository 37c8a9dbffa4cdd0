import { execFile } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { startGateway } from '../../src/main.js'
import { eventually } from '../support/eventually.js'
import { freePort } from '../support/free-port.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcessOn } from '../support/gateway/process.js'

/** Runs the examples of docs/extensions.md in a gateway. */

const examples = fileURLToPath(new URL('../../examples/extensions/', import.meta.url))

t.test('the tests of the examples pass', async (t) => {
  const tests = readdirSync(examples).flatMap((name) => (name.includes('.test.') ? [examples + name] : []))
  t.not(tests.length, 0)
  // Without the environment of this test runner, which changes what `node --test` prints.
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--test', '--test-reporter=tap', ...tests],
    { env: {} },
  )
  t.match(stdout, /^# fail 0$/m)
})

async function gatewayWith(t: Test, yaml: string, backend?: string) {
  const origin = backend ?? (await startBackend(t)).origin
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
  return async (path: string, headers: Record<string, string> = {}, sent?: string) => {
    const method = sent === undefined ? 'GET' : 'POST'
    const options = { method, headers, body: sent ?? null } as const
    const origin = path === '/metrics' ? gateway.adminAddress : gateway.address
    const { statusCode: status, headers: told, body } = await request(origin + path, options)
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
  t.match((await ask('/metrics')).text, /^extension_entitlement_entitlement_lookups_total 2$/m)
  fails = true
  t.match(await ask('/orders/1', { 'x-user': 'third' }), { status: 503, text: /extension_failed/ })
  fails = false
  t.match(await ask('/orders/1', { 'x-user': 'third' }), { status: 403 }, 'a failure is not remembered')
})

t.test('cost-by-field takes what the body asks for', async (t) => {
  const ask = await gatewayWith(
    t,
    `
extensions:
  - { name: cost, module: "${examples}cost-by-field.mjs", options: { field: max_tokens, per: 100 } }
consumers: [{ header: { name: x-user, from: anyone } }]
routes: [{ path: /orders/*, service: orders, use: [cost] }]
`,
  )
  const acme = { 'x-user': 'acme', 'content-type': 'application/json' }
  // The quota is two an hour.
  t.match(await ask('/orders/1', acme, '{"max_tokens": 300}'), { status: 429 })
  t.match(await ask('/orders/1', acme, '{"prompt": "without the field"}'), { status: 429 })
  t.match(await ask('/orders/1', acme, '{"max_tokens": "100"}'), { status: 429 })
  t.match(await ask('/orders/1', acme, '{"max_tokens": 150}'), { status: 200 })
  t.match(await ask('/orders/1', acme, '{"max_tokens": 1}'), { status: 429 }, 'both are used up')
  t.match(await ask('/orders/1', acme, '{"max_tokens":'), { status: 400, text: /not valid JSON/ })
  t.match(await ask('/orders/1', acme, JSON.stringify('x'.repeat(70_000))), { status: 413 })
})

t.test('redact removes members from responses, and lets nothing pass that it has not read', async (t) => {
  const answers: Record<string, [type: string, body: string]> = {
    '/orders/1': ['application/json; charset=utf-8', '{"id":1,"iban":"DE1","items":[{"iban":"DE2","n":2}]}'],
    '/orders/2': ['text/plain', '{"iban":"DE1"}'],
    '/orders/3': ['application/problem+json', '{"iban":"DE1"'],
    '/orders/4': ['application/json', JSON.stringify({ iban: 'x'.repeat(300_000) })],
  }
  const server = createServer((req, res) => {
    const [type, body] = answers[req.url!]!
    res.setHeader('content-type', type)
    res.end(body)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => server.close())
  const ask = await gatewayWith(
    t,
    `
extensions:
  - { name: redact, module: "${examples}redact.mjs", options: { members: [iban], tiers: [pro] } }
consumers:
  - api_key: { keys: [{ key: acme-key-0123456789, consumer: acme, tier: pro }] }
  - ip: {}
routes: [{ path: /orders/*, service: orders, use: [redact] }]
`,
    `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
  )
  const all = { 'x-api-key': 'acme-key-0123456789' }
  t.match(await ask('/orders/1', all), { status: 200, text: answers['/orders/1']![1] })
  t.match(await ask('/orders/1'), { status: 200, text: '{"id":1,"items":[{"n":2}]}' })
  t.match(await ask('/orders/2', all), { status: 200, text: '{"iban":"DE1"}' })
  for (const path of ['/orders/3', '/orders/4']) {
    const { status, text } = await ask(path, path === '/orders/3' ? {} : all)
    t.equal(status, 503)
    t.match(JSON.parse(text), { code: 'extension_failed' })
    t.notMatch(text, /DE1|xxx/)
  }
})

t.test('changed code waits for SIGUSR2, and check says that it waits', async (t) => {
  const code = (text: string) =>
    `import { defineExtension, respond } from 'tidegate/extension'
export default defineExtension({ create: () => ({ onRequest: () => respond(200, '${text}') }) })`
  const folder = t.testdir({ 'one.mjs': code('old') })
  const adminPort = await freePort()
  const configFile = `${folder}/tidegate.yaml`
  writeFileSync(
    configFile,
    `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${adminPort}" }
tiers: [free]
extensions: [{ name: one, module: ./one.mjs }]
services: { api: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /*, service: api, use: [one] }]
server: { shutdown_delay: 0 }
log: { access: off }
`,
  )
  const gateway = await startProcessOn(t, configFile, {}, ['--workers', '1'])
  const answer = async () => (await request(gateway.address)).body.text()
  const check = () => tidegate(['check', '--config', configFile])
  t.equal(await answer(), 'old')
  t.match(await check(), { code: 0, stderr: '' })
  writeFileSync(`${folder}/one.mjs`, code('new'))
  await eventually('check says so', async () =>
    /the running gateway: the module of the extension one has changed since it was loaded; it takes effect at/.test(
      (await check()).stderr,
    ),
  )
  t.equal(await answer(), 'old')
  gateway.child.kill('SIGUSR2')
  await eventually('the new code runs', async () => (await answer().catch(() => '')) === 'new')
  t.match(await check(), { code: 0, stderr: '' })
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { freePort } from '../support/free-port.js'
import { recordingUpstream } from '../support/http/upstream.js'

const page = readFileSync(new URL('../../docs/embed.md', import.meta.url), 'utf8')
const [inFastify, inExpress, plugin, start] = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, text]) => text!)

/** Runs an example, and returns a function that asks it. */
async function run(t: Test, program: string, yaml = '') {
  const port = await freePort()
  const folder = t.testdir({ 'program.mjs': program, 'tidegate.yaml': yaml.replace('PORT', String(port)) })
  const child = spawn(process.execPath, [`${folder}/program.mjs`], {
    env: { ...process.env, PORT: String(port), CONFIG: `${folder}/tidegate.yaml`, REDIS_URL: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const {
      statusCode: status,
      headers: fields,
      body,
    } = await request(`http://127.0.0.1:${port}${path}`, { headers })
    return { status, headers: fields, text: await body.text() }
  }
  return { ask, child }
}

const config = (upstream: string) => `
listen: 127.0.0.1:PORT
admin: { listen: 127.0.0.1:0 }
tiers: [free, pro]
services: { api: { upstreams: [${upstream}], limits: { free: 1/min, pro: 100/min } } }
routes: [{ path: /api/*, service: api }]
log: { access: off, level: error }
`

t.jobs = 4

t.test('the gateway in a Fastify application', async (t) => {
  const upstream = await recordingUpstream(t)
  const { ask } = await run(t, inFastify!, config(upstream.origin))
  t.match(await ask('/api/a'), { status: 401 })
  const headers = { 'x-session': 'ann' }
  t.match(await ask('/me', headers), { status: 200, text: 'you are ann\n' })
  t.match(await ask('/api/a', headers), { status: 200, text: 'ok', headers: { 'x-ratelimit-limit': '100' } })
  t.match(await ask('/elsewhere', headers), { status: 404, text: /Route GET:\/elsewhere not found/ })
})

t.test('the middleware in Express', async (t) => {
  const { ask } = await run(t, inExpress!)
  t.match(await ask('/'), { status: 200, headers: { 'x-ratelimit-remaining': '2' } })
  t.match(await ask('/report'), { status: 429 })
  t.match(await ask('/report', { 'x-api-key': 'secret' }), { status: 200 })
})

t.test('the plugin in Fastify', async (t) => {
  const { ask } = await run(t, plugin!)
  t.match(await ask('/report'), { status: 200, headers: { 'x-ratelimit-remaining': '0' } })
  t.match(await ask('/'), { status: 429 })
  t.match(await ask('/health'), { status: 200, text: 'ok\n' })
})

t.test('a gateway that a program starts', async (t) => {
  const upstream = await recordingUpstream(t)
  const { ask, child } = await run(t, start!, `${config(upstream.origin)}server: { shutdown_delay: 0s }\n`)
  t.match(await ask('/api/a'), { status: 200, text: 'ok' })
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null], 'nothing keeps the process alive')
})

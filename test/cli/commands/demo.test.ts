// Tests src/cli/print/demo-examples.ts
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../../support/free-port.js'
import { spawnCli, tidegateProcess } from '../../support/gateway/cli.js'

/** Copies the example that comes with Tidegate, on free ports. */
async function exampleOn(folder: string) {
  const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()])
  let text = readFileSync(new URL('../../../config/tidegate.yaml', import.meta.url), 'utf8')
  for (const [i, port] of [8080, 8081, 9001, 9002].entries()) {
    text = text.replaceAll(`:${port}`, `:${ports[i]}`)
  }
  const file = join(folder, 'tidegate.yaml')
  writeFileSync(file, text)
  const [gateway, admin, payments, marketing] = ports as [number, number, number, number]
  return { file, gateway, admin, payments, marketing }
}

// These tests mostly wait for processes to start.
t.jobs = 2
const BESIDE = { buffered: true }

t.test('the demo prints commands to try, which work as shown; Ctrl-C stops all of it', BESIDE, async (t) => {
  const { file, gateway, admin, payments, marketing } = await exampleOn(t.testdir())
  const run = spawnCli(['demo', '--config', file])
  t.teardown(() => run.child.kill('SIGKILL'))
  await run.printed(/Ctrl-C stops all of it/)
  const shown = run.stdout()
  t.match(
    shown,
    `Tidegate demo\n\n  page       http://127.0.0.1:${admin}  open it in a browser`,
    'the page is named first',
  )
  t.match(shown, `gateway    http://127.0.0.1:${gateway}\n`)
  t.match(shown, `payments   http://127.0.0.1:${payments}  demo backend`)
  t.match(shown, `marketing  http://127.0.0.1:${marketing}  demo backend`)
  t.match(shown, /payments +10\/min +5\/s, 100\/min +1000\/min/)
  t.notMatch(shown, '\u001b', 'no colour into a pipe')

  const lines = shown.split('\n').filter((line) => /curl /.test(line))
  t.equal(lines.length, 3)
  t.match(lines[0], `curl -i -H 'x-api-key: demo-pro-key' http://127.0.0.1:${gateway}/payments/hello`)
  t.match(
    lines[1],
    `curl -i -X POST -d 'amount=20' -H 'x-api-key: demo-enterprise-key' http://127.0.0.1:${gateway}/payments/refunds`,
  )
  t.match(lines[2], /seq 12.*x-api-key: demo-free-key/)

  const ask = (path: string, key: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${gateway}${path}`, { ...init, headers: { 'x-api-key': key } })
  const echo = await ask('/payments/hello', 'demo-pro-key')
  t.match(await echo.json(), {
    service: 'payments',
    method: 'GET',
    path: '/hello',
    headers: { 'x-api-key': 'demo-pro-key', 'x-forwarded-for': '127.0.0.1', via: '1.1 tidegate' },
  })
  const refund = await ask('/payments/refunds', 'demo-enterprise-key', { method: 'POST', body: 'amount=20' })
  t.match(refund.headers.get('ratelimit'), /^"minute";r=995;t=\d+$/)
  t.match(await refund.json(), { method: 'POST', path: '/refunds', body: 'amount=20', body_bytes: 9 })
  t.match(await (await ask('/marketing/x', 'demo-free-key')).json(), { service: 'marketing', path: '/x' })

  const statuses: number[] = []
  for (let i = 0; i < 12; i++) statuses.push((await ask('/payments/hello', 'demo-free-key')).status)
  t.strictSame(statuses, [...Array(10).fill(200), 429, 429])
  await run.printed(/429 {2}GET +\/payments\/hello +demo-free \(free\) +minute: spent, again in \d+ s/)

  run.child.kill('SIGINT')
  t.equal(await run.exited, 0)
  t.match(run.stdout(), /\nstopped\n$/)
  for (const port of [gateway, admin, payments, marketing]) {
    await t.rejects(fetch(`http://127.0.0.1:${port}/`), `port ${port} is free again`)
  }
})

t.test('a taken port gives one clear line and exit code 1, whichever server needs it', BESIDE, async (t) => {
  const wanted = {
    marketing: (port: number) =>
      `tidegate demo: port ${port} is taken, and the marketing demo backend needs it; stop what listens there`,
    gateway: (port: number, file: string) =>
      `0.0.0.0:${port} (listen in ${file}) is taken; stop what listens there, or set listen to another port`,
    admin: (port: number, file: string) =>
      `127.0.0.1:${port} (admin.listen in ${file}) is taken; stop what listens there, or set admin.listen to another port`,
  }
  const folder = t.testdir({ marketing: {}, gateway: {}, admin: {} })
  const names = ['marketing', 'gateway', 'admin'] as const
  await Promise.all(
    names.map(async (name) => {
      const { file, [name]: port } = await exampleOn(join(folder, name))
      const server = createServer().listen(port, name === 'gateway' ? '0.0.0.0' : '127.0.0.1')
      await once(server, 'listening')
      const { code, stdout, stderr } = await tidegateProcess(['demo', '--config', file])
      server.close()
      t.strictSame({ code, stdout, stderr }, { code: 1, stdout: '', stderr: `${wanted[name](port, file)}\n` })
    }),
  )
})

// Tests src/cli/stop-signal.ts src/net/listen.ts
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { laxParser } from '../../../src/cli/node-version.js'
import { eventually } from '../../support/eventually.js'
import { spawnCli, tidegateProcess } from '../../support/gateway/cli.js'
import { CLI, startBackend, startProcess } from '../../support/gateway/process.js'

const config = (upstream: string, delay = '0s', port = 0) => `
listen: 127.0.0.1:${port}
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: ${delay}, shed: { event_loop_delay: 0 } }
`

/** It has a service that no route leads to. */
const withUnused = (yaml: string) =>
  yaml.replace(/services: \{ (.*) \}/, 'services:\n  $1\n  unused: { upstreams: [http://127.0.0.1:1] }')

// Each test starts a process or two and waits; some run side by side.
t.jobs = 3
const BESIDE = { buffered: true }

/** Returns where the gateway says that it listens, in its one line for people. */
function listensOn(stderr: string): string {
  const line = stderr.split('\n').find((text) => text.startsWith('tidegate listens'))
  const found =
    /^tidegate listens on (http:\/\/127\.0\.0\.1:\d+), admin on http:\/\/127\.0\.0\.1:\d+, configuration tidegate\.yaml$/
  const address = found.exec(line ?? '')?.[1]
  if (address === undefined) throw new Error(`no such line: ${line}`)
  return address
}

t.test(
  'start prints where it listens and what check warns of, reloads on SIGHUP, and exits with 0',
  BESIDE,
  async (t) => {
    const first = await startBackend(t, (_request, response) => response.end('first'))
    const second = await startBackend(t, (_request, response) => response.end('second'))
    const cwd = t.testdir({ 'tidegate.yaml': withUnused(config(first.origin)) })
    const run = spawnCli(['start'], { cwd })
    t.teardown(() => run.child.kill('SIGKILL'))
    await run.printed(/listens on/)
    const address = listensOn(run.stderr())
    await run.printed(/with warnings/)
    const warned = run
      .stderr()
      .split('\n')
      .filter((line) => line.includes('with warnings'))
    t.equal(warned.length, 1)
    t.match(JSON.parse(warned[0]!), {
      level: 'warn',
      messages: [/^tidegate\.yaml:7:3: services\.unused: no route leads to this service/],
    })

    t.equal(await (await fetch(`${address}/x`)).text(), 'first')
    const next = join(cwd, 'next.yaml')
    writeFileSync(next, config(second.origin))
    renameSync(next, join(cwd, 'tidegate.yaml'))
    run.child.kill('SIGHUP')
    await eventually(
      'the second serves',
      async () => (await (await fetch(`${address}/x`)).text()) === 'second',
    )

    run.child.kill('SIGTERM')
    t.equal(await run.exited, 0)
    const lines = run.stdout().trimEnd().split('\n')
    t.equal(lines.length, first.requests.length + second.requests.length, 'stdout holds the access log alone')
    for (const line of lines) t.match(JSON.parse(line), { path: '/x', status: 200 })
  },
)

t.test('SIGINT ends it without waiting for load balancers', BESIDE, async (t) => {
  const backend = await startBackend(t)
  const cwd = t.testdir({ 'tidegate.yaml': config(backend.origin, '60s') })
  const run = spawnCli(['start'], { cwd })
  t.teardown(() => run.child.kill('SIGKILL'))
  await run.printed(/listens on/)
  t.equal((await fetch(`${listensOn(run.stderr())}/x?y=1`)).status, 200)
  const began = performance.now()
  run.child.kill('SIGINT')
  t.equal(await run.exited, 0)
  t.ok(performance.now() - began < 40_000)
  const lines = run.stdout().trimEnd().split('\n')
  t.equal(lines.length, 1)
  t.match(JSON.parse(lines[0]!), { path: '/x', status: 200 })
})

t.test('a second signal ends it at once', BESIDE, async (t) => {
  const backend = await startBackend(t)
  const draining = await startProcess(t, config(backend.origin, '60s'))
  draining.child.kill('SIGTERM')
  await eventually('it drains', async () => (await fetch(`${draining.admin}/readyz`)).status === 503)
  t.equal(await draining.stop('SIGTERM'), 128 + 15)
})

t.test('a taken port gives one clear line and exit code 1', BESIDE, async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const cwd = t.testdir({ 'tidegate.yaml': config('http://127.0.0.1:1', '0s', port) })
  t.strictSame(await tidegateProcess(['start'], { cwd }), {
    code: 1,
    stdout: '',
    stderr: `127.0.0.1:${port} (listen in tidegate.yaml) is taken; stop what listens there, or set listen to another port\n`,
  })
})

t.test('a bad configuration does not start: it prints every error and exits with 1', BESIDE, async (t) => {
  const cwd = t.testdir({
    'tidegate.yaml': config('http://127.0.0.1:1').replace('tiers:', 'tires:').replace('/*', 'x'),
  })
  const began = performance.now()
  const { code, stdout, stderr } = await tidegateProcess(['start'], { cwd })
  const took = performance.now() - began
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, /^tidegate\.yaml:4:1: .*tires.*; .+$/m)
  t.match(stderr, /^tidegate\.yaml:6:18: routes.*; .+$/m)
  // It takes well under a second; the rest is room for a busy machine.
  t.ok(took < 60_000, `${Math.round(took)} ms`)
  t.equal((await tidegateProcess(['start', '-c', 'nope.yaml'], { cwd })).code, 1)
})

t.test('a gateway does not serve on a Node with a lax HTTP parser', BESIDE, async (t) => {
  const cwd = t.testdir({ 'tidegate.yaml': config('http://127.0.0.1:1') })
  const { code, stderr } = await withNode('--insecure-http-parser', cwd)
  t.equal(code, 1)
  t.match(stderr, /--insecure-http-parser, which allows request smuggling; start without it/)
  t.equal(laxParser([], '--max-old-space-size=512 --insecure-http-parser')?.includes('smuggling'), true)
  t.equal(laxParser(['--import', 'x'], '--max-old-space-size=512'), undefined)
})

async function withNode(flag: string, cwd: string) {
  const child = spawn(process.execPath, [flag, CLI, 'start'], {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (text) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stderr }
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { laxParser } from '../../src/cli/node-version.js'
import { spawnCli, tidegateProcess } from '../support/cli.js'
import { CLI, startBackend, startProcess } from '../support/process.js'

const config = (upstream: string, delay = '0s', port = 0) => `
listen: 127.0.0.1:${port}
admin: { listen: 127.0.0.1:0 }
tiers: [free]
services: { api: { upstreams: [${upstream}] } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: ${delay} }
`

t.test('says where it listens in one line, keeps stdout for the access log, and ends with 0', async (t) => {
  const backend = await startBackend(t)
  const cwd = t.testdir({ 'tidegate.yaml': config(backend.origin) })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const run = spawnCli(['start'], { cwd })
    t.teardown(() => run.child.kill('SIGKILL'))
    await run.printed(/listens on/)
    const line = run
      .stderr()
      .split('\n')
      .find((text) => text.startsWith('tidegate listens'))
    const found =
      /^tidegate listens on (http:\/\/127\.0\.0\.1:\d+), admin on http:\/\/127\.0\.0\.1:\d+, configuration tidegate\.yaml$/.exec(
        line ?? '',
      )
    t.ok(found, `${line}`)
    t.equal((await fetch(`${found?.[1]}/x?y=1`)).status, 200)
    run.child.kill(signal)
    t.equal(await run.exited, 0, signal)
    const lines = run.stdout().trimEnd().split('\n')
    t.equal(lines.length, 1)
    t.match(JSON.parse(lines[0]!), { path: '/x', status: 200 })
  }
})

t.test('SIGINT does not wait for load balancers; a second signal does not wait for anything', async (t) => {
  const backend = await startBackend(t)
  const patient = await startProcess(t, config(backend.origin, '60s'))
  const began = performance.now()
  t.equal(await patient.stop('SIGINT'), 0)
  t.ok(performance.now() - began < 40_000)

  const draining = await startProcess(t, config(backend.origin, '60s'))
  draining.child.kill('SIGTERM')
  while ((await fetch(`${draining.admin}/readyz`)).status !== 503);
  t.equal(await draining.stop('SIGTERM'), 128 + 15)
})

t.test('SIGHUP reads the configuration again', async (t) => {
  const first = await startBackend(t, (_request, response) => response.end('first'))
  const second = await startBackend(t, (_request, response) => response.end('second'))
  const gateway = await startProcess(t, config(first.origin))
  t.equal(await (await fetch(`${gateway.address}/x`)).text(), 'first')
  const next = join(t.testdir(), 'next.yaml')
  writeFileSync(next, config(second.origin))
  renameSync(next, gateway.configFile)
  gateway.child.kill('SIGHUP')
  let text = ''
  for (const deadline = Date.now() + 30_000; text !== 'second' && Date.now() < deadline; ) {
    text = await (await fetch(`${gateway.address}/x`)).text()
  }
  t.equal(text, 'second')
  t.equal(await gateway.stop(), 0)
})

t.test('what check warns of is in the log of the start', async (t) => {
  const unused = '  unused: { upstreams: [http://127.0.0.1:1] }'
  const cwd = t.testdir({
    'tidegate.yaml': config('http://127.0.0.1:1').replace(
      /services: \{ (.*) \}/,
      `services:\n  $1\n${unused}`,
    ),
  })
  for (const args of [['start'], ['start', '--workers', '2']]) {
    const run = spawnCli(args, { cwd })
    t.teardown(() => run.child.kill('SIGKILL'))
    await run.printed(/listens on/)
    await run.printed(/with warnings/)
    run.child.kill('SIGTERM')
    t.equal(await run.exited, 0)
    const warned = run
      .stderr()
      .split('\n')
      .filter((line) => line.includes('with warnings'))
    t.equal(warned.length, 1, args.join(' '))
    t.match(JSON.parse(warned[0]!), {
      level: 'warn',
      messages: [/^tidegate\.yaml:7:3: services\.unused: no route leads to this service/],
    })
  }
})

t.test('a taken port is one clear line and exit code 1', async (t) => {
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

t.test('a bad configuration does not start: every error, exit code 1', async (t) => {
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
  // It takes well under a second; the rest is room for a machine with much else to do.
  t.ok(took < 60_000, `${Math.round(took)} ms`)
  t.equal((await tidegateProcess(['start', '-c', 'nope.yaml'], { cwd })).code, 1)
})

t.test('a Node whose parser is lax does not serve', async (t) => {
  const cwd = t.testdir({ 'tidegate.yaml': config('http://127.0.0.1:1') })
  const { code, stderr } = await withNode('--insecure-http-parser', cwd)
  t.equal(code, 1)
  t.match(stderr, /--insecure-http-parser, which lets requests be smuggled; start without it/)
  t.equal(laxParser([], '--max-old-space-size=512 --insecure-http-parser')?.includes('smuggled'), true)
  t.equal(laxParser(['--import', 'x'], '--max-old-space-size=512'), undefined)
})

async function withNode(flag: string, cwd: string) {
  const child = spawn(process.execPath, [flag, CLI, 'start'], {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (text) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stderr }
}

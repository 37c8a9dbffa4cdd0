// Tests src/cli/commands/{ban,override,unban,why}.ts
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { request } from 'undici'
import { freePort } from '../support/free-port.js'
import { tidegate, tidegateProcess } from '../support/gateway/cli.js'
import { CLI, startBackend, startProcessOn, storeUp } from '../support/gateway/process.js'
import { isOnPath, startRedis } from '../support/redis/redis.js'

/**
 * Runs the built command in processes of its own. Other tests call commands in process (`tidegate` of
 * test/support/gateway/cli.ts). This file checks that both agree, and what only a process has. `start` and `demo` never run in
 * process: start.test.ts, demo.test.ts.
 */

const CONFIG = 'tidegate.yaml'

/** Each prints the same when it runs again, except for numbers. `[name, arguments, exit code]` */
const LINES: readonly (readonly [name: string, args: string, code: number])[] = [
  ['check', '', 0],
  ['check', '--config nope.yaml', 1],
  ['usage', 'api ann', 0],
  ['why', 'by-ann', 0],
  ['explain', 'GET /x -H x-user-id:ann', 0],
  ['plan', '--log -', 0],
  ['tier', 'bob pro --reason ticket', 0],
  ['boost', 'cy --service api --limit day --by 5 --for 1h', 0],
  ['override', 'dan --service api --limit day --amount 7', 0],
  ['key', 'list', 0],
  ['import', 'tiers.csv', 0],
  ['ban', '203.0.113.0/24', 0],
  ['unban', '192.0.2.7', 0],
  ['upstreams', 'api', 0],
  ['fleet', '', 0],
  ['top', '--by cost', 0],
  ['audit', '--target nobody', 0],
  ['demo-backend', '--listen x', 2],
]

const LOGGED = JSON.stringify({
  time: '2026-11-24T13:50:49.731Z',
  request_id: 'a',
  method: 'GET',
  path: '/x',
  route: '/*',
  service: 'api',
  consumer: 'ann',
  client_ip: '192.0.2.1',
  status: 200,
  decided_by: 'store',
})

const withoutNumbers = (text: string) =>
  text
    .replace(/\d+(?:\.\d+)?/g, '0')
    .replace(/ +/g, ' ')
    .replace(/0 (?:min|s|ms)\b/g, '0 TIME')

t.test('every command prints and exits in a process of its own as it does in process', async (t) => {
  const redis = await startRedis(t)
  const backend = await startBackend(t)
  const cwd = t.testdir({
    [CONFIG]: `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:${await freePort()}" }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: 10/day, pro: 100/day } } }
routes: [{ path: /*, service: api }]
decisions: { sample: 1 }
log: { access: off }
`,
    'tiers.csv': 'consumer,tier\neve,pro\n',
  })
  const gateway = await startProcessOn(t, join(cwd, CONFIG))
  await storeUp(gateway)
  const headers = { 'x-user-id': 'ann', 'x-request-id': 'by-ann' }
  await (await request(`${gateway.address}/x`, { headers })).body.dump()

  const lines = [...LINES, ['health', `--admin ${gateway.admin.replace('http://', '')}`, 0] as const]
  const options = { cwd, stdin: `${LOGGED}\n` }
  const waiting = lines.map(([name, args, code]) => {
    const line = [name, ...args.split(' ').filter((one) => one !== '')]
    return { line, code }
  })
  const compare = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { line, code } = next
      const own = await tidegateProcess(line, options)
      const here = await tidegate(line, options)
      t.equal(own.code, code, line.join(' '), own)
      t.equal(here.code, code, line.join(' '), here)
      t.equal(withoutNumbers(own.stdout), withoutNumbers(here.stdout), line.join(' '))
      t.equal(withoutNumbers(own.stderr), withoutNumbers(here.stderr), line.join(' '))
    }
  }
  // Two at a time.
  await Promise.all([compare(), compare()])
})

const NODE_COMMAND = `'${process.execPath}'`
const bash = (script: string, cwd = '.') =>
  new Promise<string>((resolve) => {
    execFile('bash', ['-c', script], { cwd }, (_, stdout, stderr) => resolve(stdout + stderr))
  })

t.test('a command exits cleanly when the reader of its output leaves early', async (t) => {
  t.equal(await bash(`${NODE_COMMAND} '${CLI}' schema | head -c 1; echo " \${PIPESTATUS[0]}"`), '{ 0\n')
})

const skip = isOnPath('script') ? false : 'no script to make a terminal; install util-linux'

t.test('output to a terminal has its width, output to a pipe has none', { skip }, async (t) => {
  const cwd = t.testdir({
    [CONFIG]: `
tiers: [free]
services: { api: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /*, service: api }]
`,
  })
  const shown = await bash(
    `script -qec "stty cols 40; ${NODE_COMMAND} '${CLI}' explain GET /x" /dev/null < /dev/null`,
    cwd,
  )
  const lines = shown.trimEnd().split(/\r?\n/)
  t.match(lines[0], /^Not limited: tier free is unlimited on$/)
  t.ok(lines.length > 6, shown)
  for (const line of lines.filter((line) => line.includes(' '))) t.ok(line.length <= 40, line)
})

t.test('check ends, and with the right code, whatever a module of an extension does', async (t) => {
  const yaml = (module: string) => `
tiers: [free]
extensions: [{ name: own, module: ${module} }]
services: { payments: { upstreams: [http://127.0.0.1:9] } }
routes: [{ path: /a, service: payments, use: [own] }]
`
  const cwd = t.testdir({
    'timer.mjs': 'setInterval(() => {}, 1000); export default { create: () => ({ onRequest() {} }) }',
    'exit.mjs': 'process.exit(0)',
    'timer.yaml': yaml('timer.mjs'),
    'exit.yaml': yaml('exit.mjs'),
  })
  const check = (file: string) =>
    promisify(execFile)(process.execPath, [CLI, 'check', '--config', file], { cwd, timeout: 20_000 })
  t.match(await check('timer.yaml'), { stdout: /timer.yaml is good/ })
  await t.rejects(check('exit.yaml'), {
    code: 1,
    stderr: /the module .*exit.mjs ended the process while it was loaded; remove process.exit from it/,
  })
})

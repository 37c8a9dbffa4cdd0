// Tests src/cli/print/describe-plan.ts src/cli/read/plan-tally.ts
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { request } from 'undici'
import { tidegate } from '../../support/gateway/cli.js'
import { startBackend, startProcessOn } from '../../support/gateway/process.js'

const configOf = (upstream: string, limits: string, log = 'off') => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
services: { api: { upstreams: [${upstream}], limits: { free: ${limits}, pro: unlimited } } }
routes: [{ path: /api/*, service: api }]
server: { shutdown_delay: 0 }
log: { access: ${log} }
`

t.test("plan replays a gateway's log against other limits, and against the same", async (t) => {
  const backend = await startBackend(t)
  const folder = t.testdir({
    'tighter.yaml': configOf(backend.origin, '3/h'),
    'moved.yaml': configOf(backend.origin, '5/h').replace('/api/*', '/v2/*'),
  })
  const log = join(folder, 'access.log')
  const own = join(folder, 'tidegate.yaml')
  writeFileSync(own, configOf(backend.origin, '5/h', log))
  const gateway = await startProcessOn(t, own)
  const statuses: number[] = []
  for (let i = 0; i < 7; i++) {
    for (const user of ['ann', 'bob']) {
      if (user === 'bob' && i >= 4) continue
      const { statusCode, body } = await request(`${gateway.address}/api/x`, {
        headers: { 'x-user-id': user },
      })
      await body.dump()
      statuses.push(statusCode)
    }
  }
  t.equal(statuses.filter((status) => status === 429).length, 2)
  await gateway.stop()

  const plan = (config: string, ...more: string[]) =>
    tidegate(['plan', '--config', config, '--log', log, ...more])
  const same = JSON.parse((await plan(own, '--json')).stdout)
  t.match(same, { requests: 11, denied_then: 2, denied_now: 2, newly_denied: 0, newly_allowed: 0 })

  const { code, stdout, stderr } = await plan(join(folder, 'tighter.yaml'))
  t.equal(code, 0, stderr)
  const [first, , , , ...rest] = stdout.replace(/\d{4}-\d\d-\d\dT[\d:]+Z/g, 'TIME').split('\n')
  t.equal(first, '3 of 11 requests would have been newly denied (27 %). All of them in the minute from TIME.')
  t.same(
    rest.map((line) => line.trim().split(/ {2,}/)),
    [
      ['service', 'tier', 'requests', 'denied', 'denied now', 'newly', 'consumers', 'let through'],
      ['api', 'free', '11', '2', '5 (45 %)', '3', '2', '0'],
      [''],
      ['service', 'tier', 'limit', 'amount', 'denies now'],
      ['api', 'free', 'hour', '3/h', '5'],
      [''],
      ['consumer', 'service', 'tier', 'denied', 'denied now', 'newly'],
      ['ann', 'api', 'free', '2', '4', '2'],
      ['bob', 'api', 'free', '0', '1', '1'],
      [''],
    ],
  )

  const above = await plan(join(folder, 'tighter.yaml'), '--at-most', '5%')
  t.match(above, {
    code: 1,
    stderr: 'tidegate plan: 27 % of the requests would be newly denied, more than 5 % (--at-most)\n',
  })
  t.match(await plan(join(folder, 'tighter.yaml'), '--at-most', '28'), { code: 0, stderr: '' })

  const moved = await plan(join(folder, 'moved.yaml'))
  t.match(moved, { code: 0, stdout: /^No limit applies to any of the requests\.\n/ })
  t.match(moved.stdout, 'No route fits any more: 11 requests of /api/* (11).')
})

t.test('plan reads a log from standard input', async (t) => {
  const folder = t.testdir({
    'tidegate.yaml': configOf('http://127.0.0.1:9', '1/h', 'stdout, sample: 0.05'),
  })
  const line = {
    time: '2026-11-24T13:50:49.731Z',
    request_id: 'a',
    method: 'GET',
    host: '',
    path: '/api/x',
    route: '/api/*',
    service: 'api',
    consumer: '\u001b[2Jann',
    client_ip: '192.0.2.1',
    status: 429,
    error: 'quota_exceeded',
    decided_by: 'store',
  }
  const { code, stdout, stderr } = await tidegate(
    ['plan', '--config', join(folder, 'tidegate.yaml'), '--log', '-'],
    { stdin: `${JSON.stringify(line)}\nnonsense\n` },
  )
  t.equal(code, 0, stderr)
  t.match(stdout, /^No request of 1 would have been newly denied; 1 denied request would have passed\.\n/)
  t.match(stdout, 'for the standard input, from 2026-11-24T13:50:49Z')
  t.match(stdout, '\\u{1b}[2Jann')
  t.match(stdout, 'Not from an access log, and left out: 1 line, the first at -:2.')
  t.match(stdout, 'log.sample is 0.05 in ')
  t.notMatch(stdout, '\u001b')
})

t.test('an error is one line that says what is wrong', async (t) => {
  const folder = t.testdir({
    'tidegate.yaml': configOf('http://127.0.0.1:9', '1/h'),
    empty: '',
    events: '{"level":"info","msg":"started"}\n',
  })
  const plan = (...more: string[]) => tidegate(['plan', ...more], { cwd: folder })
  const refused = async (code: number, stderr: string, ...more: string[]) =>
    t.match(await plan(...more), { code, stdout: '', stderr: `tidegate plan: ${stderr}\n` })
  await refused(2, '--log FILE is missing; see: tidegate plan --help')
  await refused(2, 'a --log is given twice; see: tidegate plan --help', '--log', 'empty', '--log', 'empty')
  await refused(
    2,
    '--at-most needs a share of the requests, such as 0.1%, not x; see: tidegate plan --help',
    '--log',
    'empty',
    '--at-most',
    'x',
  )
  await refused(
    2,
    '--top needs a number of consumers, such as 20, not x; see: tidegate plan --help',
    '--log',
    'empty',
    '--top',
    'x',
  )
  await refused(1, 'none: there is no such file', '--log', 'none')
  const hint = 'log.access names the file that a gateway writes'
  await refused(1, `no request in empty: it is empty; ${hint}`, '--log', 'empty')
  await refused(1, `no request in events: events:1 is no line of an access log; ${hint}`, '--log', 'events')
})

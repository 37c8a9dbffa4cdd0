// Tests src/cli/commands/check-certificates.ts src/cli/config-file.ts
// Tests src/cli/print/{describe-config,describe-resilience,describe-upstreams}.ts
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { tidegate } from '../../support/gateway/cli.js'

const GOOD = `listen: 127.0.0.1:18080
store: { redis: "redis://user:hunter2@127.0.0.1:6399/3", on_failure: local }
tiers: [free, pro]
consumers:
  - header: { name: x-user-id, from: anyone }
  - ip: {}
services:
  payments:
    upstreams: [http://127.0.0.1:9001]
    limits: { free: 10/min, pro: [5/s, 100/min] }
  open: { upstreams: [http://127.0.0.1:9002] }
routes:
  - { path: /*, service: open }
  - { path: /payments/*, service: payments }
  - { path: /payments/refunds, methods: [POST], service: payments, cost: 5 }
  - { path: /payments/*, host: api.example.com, service: payments }
`

t.test('check --hash prints the hash and nothing else', async (t) => {
  const cwd = t.testdir({ 'tidegate.yaml': GOOD, 'bad.yaml': 'listen: x' })
  const { stdout } = await tidegate(['check'], { cwd })
  const hash = /hash ([0-9a-f]{12})\n/.exec(stdout)?.[1]
  t.match(await tidegate(['check', '--hash'], { cwd }), { code: 0, stdout: `${hash}\n`, stderr: '' })
  t.match(await tidegate(['check', '--hash', '--config', 'bad.yaml'], { cwd }), { code: 1, stdout: '' })
  t.equal((await tidegate(['check', '--hash', '--json'], { cwd })).code, 2)
})

t.test('check sums up a valid configuration, with the most specific routes first', async (t) => {
  const cwd = t.testdir({ 'tidegate.yaml': GOOD })
  const { code, stdout, stderr } = await tidegate(['check'], { cwd })
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /^tidegate\.yaml is good, hash [0-9a-f]{12}\n/)
  t.match(
    stdout,
    `  listen     127.0.0.1:18080
  admin      127.0.0.1:8081
  store      Redis at 127.0.0.1:6399, timeout 100 ms, local on failure
  consumers  id in x-user-id, then address
`,
  )
  t.match(
    stdout,
    `            free (default)  pro
  payments  10/min          5/s, 100/min
  open      unlimited       unlimited
`,
  )
  t.match(
    stdout,
    `  *     api.example.com/payments/*  payments
  POST  /payments/refunds           payments  cost 5
  *     /payments/*                 payments
  *     /*                          open

2 services, 2 tiers, 4 routes
`,
  )
  t.notMatch(stdout, /hunter2/)
})

t.test('several upstreams are shown with how they share requests', async (t) => {
  const yaml = GOOD.replace(
    '[http://127.0.0.1:9001]',
    '[{ url: http://127.0.0.1:9001, weight: 3 }, http://127.0.0.1:9003], balance: { hash: { header: X-Session } }, slow_start: 30s, health: { path: /healthz }',
  )
    .replace('  payments:\n', '  payments: {')
    .replace('[5/s, 100/min] }', '[5/s, 100/min] } }')
    .replace('    limits', '    , limits')
  const { code, stdout, stderr } = await tidegate(['check'], { cwd: t.testdir({ 'tidegate.yaml': yaml }) })
  t.equal(code, 0, stderr)
  t.match(
    stdout,
    `
upstreams of services that have several, or check them
  payments  http://127.0.0.1:9001  weight 3  by x-session, slow start 30s, checked at /healthz every 5s
            http://127.0.0.1:9003  weight 1

routes, `,
  )
})

t.test('--json prints the same for programs, without secrets', async (t) => {
  const cwd = t.testdir({ config: { 'tidegate.yaml': GOOD } })
  const { code, stdout } = await tidegate(['check', '--json'], { cwd })
  t.equal(code, 0)
  t.notMatch(stdout, /hunter2/)
  t.match(JSON.parse(stdout), {
    ok: true,
    file: 'config/tidegate.yaml',
    store: 'redis',
    tiers: ['free', 'pro'],
    default_tier: 'free',
    services: [
      {
        name: 'payments',
        upstreams: ['http://127.0.0.1:9001'],
        on_failure: 'local',
        limits: {
          free: [{ name: 'minute', amount: 10, window_ms: 60_000 }],
          pro: [
            { name: 'second', amount: 5, window_ms: 1000 },
            { name: 'minute', amount: 100, window_ms: 60_000 },
          ],
        },
      },
      { name: 'open', limits: { free: 'unlimited', pro: 'unlimited' } },
    ],
    routes: [
      { host: 'api.example.com', path: '/payments/*' },
      { path: '/payments/refunds', methods: ['POST'], cost: 5 },
      { path: '/payments/*', methods: [], cost: 1 },
      { path: '/*', service: 'open' },
    ],
    warnings: [],
  })
})

t.test('check warns of an identity header that any client may set, unless listen is local', async (t) => {
  const warned = async (listen: string, from: string) => {
    const yaml = `listen: "${listen}"
tiers: [free]
consumers: [{ header: { name: x-user-id, from: ${from} } }]
services: { api: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: api }]
`
    const file = join(t.testdir({ 'tidegate.yaml': yaml }), 'tidegate.yaml')
    const { code, stdout, stderr } = await tidegate(['check', '--config', file])
    t.equal(code, 0, stderr)
    return /every client that reaches (\S+) can choose/.exec(stdout + stderr)?.[1]
  }
  t.equal(await warned('0.0.0.0:8080', 'anyone'), '0.0.0.0:8080')
  t.equal(await warned('[::]:8080', '["0.0.0.0/0"]'), '[::]:8080')
  t.equal(await warned('127.0.0.1:8080', 'anyone'), undefined)
  t.equal(await warned('0.0.0.0:8080', '[10.0.0.0/8]'), undefined)
})

const MANY = `tiers: [free, pro]
consumers: [{ header: { name: x-user-id, tenant: x-tenant-id, from: anyone } }]
services:
  models:
    upstreams: [http://127.0.0.1:9001]
    limits:
      free: { amount: 10, window: 1m, algorithm: strict }
      pro:
        - { amount: 10, window: 1s, algorithm: token_bucket, burst: 20 }
        - { amount: 50000, algorithm: calendar, period: month, by: tenant }
        - { amount: 4, algorithm: concurrency }
        - { amount: 90, window: 1m, by: ip, candidate: true }
routes:
  - path: /*
    service: models
    cost: { header: x-request-cost, consumers: [acme, umbrella] }
    refund_on: [5xx, 404]
    cost_header: x-token-cost
`

t.test(
  'algorithms, levels, candidates and costs appear in the words of the file, a limit a line',
  async (t) => {
    const cwd = t.testdir({ 'tidegate.yaml': MANY })
    const { code, stdout, stderr } = await tidegate(['check'], { cwd })
    t.equal(code, 0, stderr)
    t.match(stdout, '  consumers  id in x-user-id (tenant in x-tenant-id)\n')
    t.match(
      stdout,
      `          free (default)  pro
  models  10/min strict   10/s token_bucket burst 20
                          50000/month in UTC by tenant
                          4 at once
                          candidate 90/min by ip
`,
    )
    t.match(
      stdout,
      '  *  /*  models  cost 1, x-request-cost of acme and 1 more up to 100, cost from x-token-cost of the response, refunded on 5xx 404\n',
    )
    const said = JSON.parse((await tidegate(['check', '--json'], { cwd })).stdout)
    t.same(said.services[0].limits.pro, [
      { name: 'second', algorithm: 'token_bucket', by: 'consumer', amount: 10, burst: 20, window_ms: 1000 },
      {
        name: 'tenant-month',
        algorithm: 'calendar',
        by: 'tenant',
        amount: 50_000,
        period: 'month',
        time_zone: 'UTC',
      },
      { name: 'concurrent', algorithm: 'concurrency', by: 'consumer', amount: 4, lease_ms: 60_000 },
      { name: 'ip-minute', algorithm: 'sliding', by: 'ip', amount: 90, window_ms: 60_000, candidate: true },
    ])
    t.match(said.routes, [
      {
        cost: 1,
        cost_from: { header: 'x-request-cost', max: 100, consumers: ['acme', 'umbrella'] },
        refund_on: ['5xx', '404'],
        cost_header: 'x-token-cost',
      },
    ])
  },
)

t.test('check shows which tiers are shed first and when, if the file configures it', async (t) => {
  const cwd = t.testdir({
    'tidegate.yaml': `
tiers: [free, pro, { name: trial, priority: 0 }]
services:
  api: { upstreams: [http://127.0.0.1:9001], circuit_breaker: { open: 2s, slow: 0 }, concurrency: { min: 2, max: 40 } }
  plain: { upstreams: [http://127.0.0.1:9002] }
routes: [{ path: /a, service: api }, { path: /b, service: plain }]
`,
  })
  const { code, stdout } = await tidegate(['check'], { cwd })
  t.equal(code, 0)
  t.match(
    stdout,
    `
under overload
  shed first  free and trial, then pro
  api         circuit opens for 2s at 50 % errors in 10s; 2 to 40 requests at once

routes, `,
  )
})

t.test('the configuration that comes with Tidegate is valid', async (t) => {
  const cwd = new URL('../../..', import.meta.url).pathname
  const { code, stdout, stderr } = await tidegate(['check'], { cwd })
  t.equal(code, 0, stderr)
  // The hash depends on every default of the schema.
  const anyHash = (text: string) => text.replace(/hash [0-9a-f]{12}/g, 'hash …')
  const shown = anyHash(readFileSync(join(cwd, 'docs/cli.md'), 'utf8'))
  t.ok(shown.includes(`$ tidegate check\n${anyHash(stdout)}`), 'docs/cli.md shows the same', { stdout })
  t.match(
    readFileSync(join(cwd, 'config/tidegate.yaml'), 'utf8'),
    /yaml-language-server: \$schema=\.\/schema\.json/,
  )
})

t.test('every error of a bad configuration is printed with its place, and the exit code is 1', async (t) => {
  const bad = GOOD.replace('10/min', '10/minute').replace('service: open }', 'service: opne }')
  const file = join(t.testdir({ 'bad.yaml': bad }), 'bad.yaml')
  const { code, stdout, stderr } = await tidegate(['check', '-c', file])
  t.equal(code, 1)
  t.equal(stdout, '')
  const lines = stderr.trimEnd().split('\n')
  for (const line of lines) t.match(line, /^\S+bad\.yaml:\d+:\d+: .+; /)
  t.match(stderr, /bad\.yaml:10:21: .*10\/minute/)
  t.match(stderr, /bad\.yaml:13:26: .*opne/)
  const json = await tidegate(['check', '-c', file, '--json'])
  t.equal(json.code, 1)
  const said = JSON.parse(json.stdout)
  t.equal(said.ok, false)
  t.strictSame(
    said.errors.map(
      (error: Record<string, unknown>) => `${error.file}:${error.line}:${error.column}: ${error.message}`,
    ),
    lines,
  )
})

t.test('a warning does not make a configuration invalid', async (t) => {
  const unused = GOOD.replace('services:', 'services:\n  idle: { upstreams: [http://127.0.0.1:9003] }')
  const cwd = t.testdir({ 'tidegate.yaml': unused })
  const { code, stderr } = await tidegate(['check'], { cwd })
  t.equal(code, 0)
  t.match(stderr, /^tidegate\.yaml:\d+:\d+: warning: .*idle/)
})

t.test('an unreadable file gives one line and exit code 1', async (t) => {
  const cwd = t.testdir({ folder: {} })
  const line = (text: string) => ({ code: 1, stdout: '', stderr: `${text}\n` })
  t.strictSame(
    await tidegate(['check', '-c', 'nope.yaml'], { cwd }),
    line(
      'tidegate check: cannot read nope.yaml: there is no such file; name the configuration with --config FILE',
    ),
  )
  t.strictSame(
    await tidegate(['check', '-c', 'folder'], { cwd }),
    line('tidegate check: cannot read folder: it is a folder; name the configuration with --config FILE'),
  )
  t.strictSame(
    await tidegate(['check'], { cwd }),
    line(
      'tidegate check: no tidegate.yaml and no config/tidegate.yaml in this folder, and no /etc/tidegate/tidegate.yaml; name one with --config FILE',
    ),
  )
})

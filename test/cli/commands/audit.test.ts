// Tests src/cli/current-user.ts src/admin/access/audit-line.ts
import t from 'tap'
import { eventually } from '../../support/eventually.js'
import { tidegate } from '../../support/gateway/cli.js'
import { startProcessOn } from '../../support/gateway/process.js'
import { startRedis } from '../../support/redis/redis.js'

t.test('audit shows which changes commands made in the store, by whom and why', async (t) => {
  const redis = await startRedis(t)
  const folder = t.testdir({
    'tidegate.yaml': `
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/h, pro: 100/h } } }
routes: [{ path: /*, service: payments }]
`,
  })
  const on = ['--config', `${folder}/tidegate.yaml`]
  t.match(await tidegate(['audit', ...on]), { code: 0, stdout: 'No matching change is on record.\n' })
  const reason = 'ticket 4711, по просьбе'
  t.match(await tidegate(['tier', 'acme', 'pro', '--reason', reason, ...on]), { code: 0, stderr: '' })
  t.match(await tidegate(['tier', 'two\nlines\u001b[31m', 'pro', ...on]), { code: 0 })
  const shown = await tidegate(['audit', ...on])
  const lines = shown.stdout.split('\n')
  t.match(lines, [
    /^when +who +action +target +change +reason$/,
    /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}cli:\S+@\S+ +tier\.set +acme +nothing -> pro +ticket 4711, по просьбе$/,
    /two\\nlines\\u001b\[31m +nothing -> pro$/,
    '',
  ])
  t.equal(lines.length, 4, 'an id makes no line of its own')
  const { stdout } = await tidegate(['audit', '-n', '1', '--target', 'acme', '--json', ...on])
  t.match(JSON.parse(stdout), {
    entries: [{ action: 'tier.set', target: 'acme', before: null, after: 'pro', reason }],
    older: null,
  })
  t.match(
    (await tidegate(['audit', '-n', '1', ...on])).stdout,
    /There are older changes. See more with -n\.\n$/,
  )

  t.strictSame(await tidegate(['audit', '--since', 'yesterday', ...on]), {
    code: 1,
    stdout: '',
    stderr:
      'tidegate audit: since is a duration before now (30m, 1h, 7d) or an ISO 8601 time, such as 2026-11-25T08:00Z.\n',
  })
  t.strictSame(await tidegate(['audit', '-n', 'all', ...on]), {
    code: 2,
    stdout: '',
    stderr: 'tidegate audit: --count needs a number from 1 to 1000, not all; see: tidegate audit --help\n',
  })
  t.strictSame(await tidegate(['tier', 'acme', 'pro', '--reason', 'x'.repeat(501), ...on]), {
    code: 1,
    stdout: '',
    stderr: 'tidegate tier: x-reason has at most 500 characters.\n',
  })
  t.equal(await redis.client.xlen('audit:{log}'), 2)
})

t.test('one gateway logs a line for each change that a command makes in the store', async (t) => {
  const redis = await startRedis(t)
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/h, pro: 100/h } } }
routes: [{ path: /*, service: payments }]
server: { shutdown_delay: 0 }
`
  for (const args of [[], ['--workers', '2']]) {
    await redis.client.flushall()
    await t.test(`tidegate start ${args.join(' ')}`, async (t) => {
      const configFile = `${t.testdir({ 'tidegate.yaml': yaml })}/tidegate.yaml`
      const start = () => startProcessOn(t, configFile, {}, args)
      // One after the other: six processes that start at once take long on a busy machine.
      const gateways = [await start(), await start()]
      const alive = () => redis.client.zcard('nodes:{fleet}')
      // Each gateway hears such questions on a connection of its own.
      const hearing = async () => Number((await redis.client.pubsub('NUMSUB', 'nodes:ask:0'))[1])
      await eventually('both are known', async () => (await alive()) === 2 && (await hearing()) === 2)
      const { code, stderr } = await tidegate([
        'tier',
        'acme',
        'pro',
        '--reason',
        'r-1',
        '--config',
        configFile,
      ])
      t.equal(code, 0, stderr)
      const lines = () =>
        gateways.flatMap((gateway) =>
          gateway
            .stderr()
            .split('\n')
            .filter((line) => line.includes('"msg":"audit"')),
        )
      await eventually('a line', () => lines().length > 0)
      const entry = { action: 'tier.set', target: 'acme', before: null, after: 'pro', reason: 'r-1' }
      t.match(
        lines().map((line) => JSON.parse(line)),
        [{ level: 'info', audit: entry }],
      )
      t.match(JSON.parse(lines()[0]!).audit.who, /^cli:/)
      await Promise.all(gateways.map((gateway) => gateway.stop()))
    })
  }
})

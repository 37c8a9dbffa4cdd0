import { createHash } from 'node:crypto'
import { createReadStream, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { cellsOf } from '../../../src/cli/read/csv.js'
import { linesOf } from '../../../src/cli/read/lines.js'
import { eventually } from '../../support/eventually.js'
import { tidegate } from '../../support/gateway/cli.js'
import { hasRedisServer, ownRedis, startRedis } from '../../support/redis/redis.js'

t.test('cells are read as in RFC 4180, without blanks around them', async (t) => {
  const cases: [string, string[] | undefined][] = [
    ['a,b', ['a', 'b']],
    [' a , b\t', ['a', 'b']],
    ['', ['']],
    [',', ['', '']],
    ['a,', ['a', '']],
    ['"a,b" ,c', ['a,b', 'c']],
    ['"say ""hi""",', ['say "hi"', '']],
    ['""', ['']],
    ['"a', undefined],
    ['a"b', undefined],
    ['"a"b', undefined],
  ]
  for (const [line, cells] of cases) t.strictSame(cellsOf(line), cells, line)
  const cell = fc.string({ unit: 'grapheme' }).map((text) => text.replace(/[\r\n]/g, ''))
  fc.assert(
    fc.property(fc.array(cell, { minLength: 1 }), (cells) => {
      const line = cells.map((one) => `"${one.replaceAll('"', '""')}"`).join(',')
      return JSON.stringify(cellsOf(line)) === JSON.stringify(cells)
    }),
  )
})

t.test('lines are read with any byte order mark and line end, however characters are cut', async (t) => {
  const file = join(t.testdir({}), 'a.csv')
  const read = async (text: string) => {
    writeFileSync(file, text)
    const lines: [number, string][] = []
    for await (const { number, text } of linesOf(createReadStream(file))) lines.push([number, text])
    return lines
  }
  t.same(await read('\ufeffa\r\nb\n\nc'), [
    [1, 'a'],
    [2, 'b'],
    [3, ''],
    [4, 'c'],
  ])
  t.same(await read(''), [])
  // A file is read in pieces of 64 KiB, which may cut a character.
  const wide = await read(`${'é🌊'.repeat(5)}\n`.repeat(5000))
  t.equal(wide.length, 5000)
  t.ok(wide.every(([, text]) => text === 'é🌊'.repeat(5)))
  await t.rejects(read(`a\n${'x'.repeat(200_000)}`), /^line 2 is longer than 65536 characters$/)
})

t.test('import checks the whole table before it changes anything', async (t) => {
  const redis = await startRedis(t)
  const config = `
store: { redis: "${redis.url}", timeout: 2s }
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min, pro: 100/min } } }
routes: [{ path: /*, service: payments }]
`
  const many = Array.from({ length: 2500 }, (_, i) => `customer-${i},${i % 2 ? 'pro' : 'free'}`)
  const folder = t.testdir({
    'tidegate.yaml': config,
    'good.csv': `consumer,tier\n${many.join('\n')}\n`,
    'bad.csv':
      'consumer,tier,until\nann,pro,\nbob,gold,\n\nann,free,\n"cy,pro,\ndan,pro\neve,free,2999-12-31\n',
    'columns.csv': 'consumer,teir\n',
    'empty.csv': '\n',
  })
  const at = (name: string) => join(folder, name)
  const on = ['--config', at('tidegate.yaml')]
  const bad = await tidegate(['import', at('bad.csv'), ...on])
  t.strictSame(bad, {
    code: 1,
    stdout:
      '2 tiers, 0 overrides, 0 boosts; 4 bad lines; nothing was changed: correct them, or leave them out with --skip-bad\n',
    stderr: [
      `${at('bad.csv')}:3: No tier "gold"; the tiers are free, pro.`,
      `${at('bad.csv')}:5: it sets the same as line 2; keep one of them`,
      `${at('bad.csv')}:6: a quote is out of place, or not closed`,
      `${at('bad.csv')}:7: 2 cells for 3 columns\n`,
    ].join('\n'),
  })
  t.equal(await redis.client.hlen('tier:{assignments}'), 0)
  writeFileSync(at('latin.csv'), Buffer.from('consumer,tier\nM\xfcller,pro\n', 'latin1'))
  t.match(await tidegate(['import', at('latin.csv'), ...on]), {
    code: 1,
    stderr: `${at('latin.csv')}:2: not UTF-8; save the file as UTF-8\n`,
  })
  writeFileSync(at('one.csv'), 'consumer,tier\nann,pro\n')
  t.equal(
    (await tidegate(['import', at('one.csv'), '--dry-run', ...on])).stdout,
    '1 tier, 0 overrides, 0 boosts; nothing was changed\n',
  )
  const run = (...argv: string[]) => tidegate(['import', ...argv, '--json', ...on])
  t.match(await run(at('good.csv'), '--dry-run'), { code: 0, stderr: '' })
  t.equal(await redis.client.hlen('tier:{assignments}'), 0, 'a dry run changes nothing')
  t.match(await run(at('bad.csv'), '--skip-bad'), { code: 0, stderr: '' })
  t.same(await redis.client.hgetall('tier:{assignments}'), {
    ann: 'pro',
    eve: `free ${Date.parse('3000-01-01T00:00:00Z')}`,
  })
  t.match(await run(at('good.csv')), { code: 0, stderr: '' })
  t.equal(await redis.client.hlen('tier:{assignments}'), 2502)
  t.equal(await redis.client.hget('tier:{assignments}', 'customer-2499'), 'pro')
  const sha256 = createHash('sha256')
    .update(readFileSync(at('good.csv')))
    .digest('hex')
  const audit = await tidegate(['audit', '--action', 'import', '-n', '3', ...on])
  const parts = audit.stdout.split('\n').filter((line) => line.includes(`, file sha256 ${sha256}`))
  t.equal(parts.length, 3, 'each part names the file, by all of its hash')
  t.match(parts[0], /import\.rows +1000 rows +tiers 1000 \(free 500, pro 500\), file/)
  t.match(parts[2], /500 rows +tiers 500 \(free 250, pro 250\), file/)
  const refused = async (name: string, why: RegExp) => {
    t.match(await run(at(name)), { code: 1, stdout: '', stderr: why })
  }
  await refused(
    'columns.csv',
    /^tidegate import: .*no column "teir"; columns are consumer, tenant, tier, service.*\n$/,
  )
  await refused('empty.csv', /^tidegate import: .*empty\.csv is empty; its first line names its columns\n$/)
  await refused('none.csv', /^tidegate import: .*none\.csv: there is no such file\n$/)
})

t.test(
  'an import goes on when the store answers again',
  { skip: !hasRedisServer && 'needs a redis-server of its own' },
  async (t) => {
    const redis = await ownRedis(t)
    const rows = Array.from({ length: 30_000 }, (_, i) => `customer-${i},pro`)
    const folder = t.testdir({
      'tidegate.yaml': `
store: { redis: "${redis.url}" }
tiers: [free, pro]
services: { payments: { upstreams: [http://127.0.0.1:9], limits: { free: 10/min, pro: 100/min } } }
routes: [{ path: /*, service: payments }]
`,
      'many.csv': `consumer,tier\n${rows.join('\n')}\n`,
    })
    const file = join(folder, 'many.csv')
    const imported = tidegate(['import', file, '--config', join(folder, 'tidegate.yaml')])
    await eventually('it has begun', async () => (await redis.client.hlen('tier:{assignments}')) > 0)
    redis.pause()
    t.teardown(redis.resume)
    // Longer than the two timeouts in a row that the audit of one call and the rows of the next may take.
    await delay(3500)
    redis.resume()
    const { code, stdout, stderr } = await imported
    t.equal(code, 0)
    t.match(stderr, /many\.csv:\d+: Could not write all of the rows: .* Trying again in 1 s\.\n/)
    t.match(stdout, 'imported 30000 tiers')
    t.equal(await redis.client.hlen('tier:{assignments}'), 30_000)
  },
)

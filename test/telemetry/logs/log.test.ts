import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { createLog, type LogOptions } from '../../../src/telemetry/logs/log.js'

type Write = (log: ReturnType<typeof createLog>['log']) => void

async function written(
  t: Test,
  write: Write,
  level: LogOptions['level'] = 'info',
): Promise<Record<string, unknown>[]> {
  const path = join(t.testdir(), 'events.log')
  const events = createLog({ level, destination: path })
  write(events.log)
  await events.close()
  t.equal(events.dropped(), 0)
  const lines = readFileSync(path, 'utf8').split('\n')
  t.equal(lines.pop(), '')
  return lines.map((line) => JSON.parse(line))
}

t.test('an event is a line of JSON with an ISO time, the name of its level, and its fields', async (t) => {
  const [line] = await written(t, (log) => log.warn({ service: 'payments' }, 'The store is out of reach.'))
  t.match(line, {
    level: 'warn',
    time: /^\d{4}-\d\d-\d\dT.*Z$/,
    service: 'payments',
    msg: 'The store is out of reach.',
  })
  t.same(Object.keys(line ?? {}), ['level', 'time', 'service', 'msg'])
})

t.test('events below the level are left out', async (t) => {
  const lines = await written(
    t,
    (log) => {
      log.info('no')
      log.error('yes')
    },
    'error',
  )
  t.same(
    lines.map(({ msg }) => msg),
    ['yes'],
  )
  t.same(await written(t, (log) => log.fatal('no'), 'silent'), [])
})

t.test('an id with control characters is escaped, and stays the same id', async (t) => {
  const id = 'x\u202egnp.exe\u2066\u200b\u009b1m\u{e0041}é'
  const path = join(t.testdir(), 'events.log')
  const events = createLog({ level: 'info', destination: path })
  events.log.info({ consumer: id, audit: { target: id } }, id)
  await events.close()
  const text = readFileSync(path, 'utf8')
  t.notMatch(text, /[\x7f-\x9f\p{Cf}]/u)
  t.match(JSON.parse(text), { consumer: id, audit: { target: id }, msg: id })
})

t.test('no secret gets out, in whatever field it stands', async (t) => {
  const reply = Object.assign(new Error('WRONGPASS at redis://default:s3cret@10.0.0.1:6379'), {
    command: { name: 'auth', args: ['default', 's3cret'] },
    code: 'WRONGPASS',
  })
  const lines = await written(t, (log) => {
    log.error({ err: reply }, 'Store failed')
    log.error({ error: reply }, 'Store failed')
    log.info('connecting to rediss://:s3cret@redis:6379/0 and redis://user:p%40s3cret@h')
    log.info({ url: 'https://collector.example/v1/metrics?api_key=s3cret&x=1' }, 'GET /a?token=s3cret')
    log.info({
      authorization: 's3cret',
      headers: { authorization: 's3cret', cookie: 's3cret', 'x-api-key': 's3cret' },
    })
    log.info('sent Authorization: Bearer s3cret.s3cret and Basic czNjcmV0OnMzY3JldA==')
    log.info({ store: { password: 's3cret' }, admin: { token: 's3cret' } })
    log.info({ reason: 'of eyJhbGciOiJIUzI1NiJ9.eyJzM2NyZXQiOjF9.czNjcmV0, ticket 7' }, 'audit')
  })
  t.equal(lines.length, 8)
  t.notMatch(JSON.stringify(lines), /s3cret|czNjcmV0|czM2NyZXQ|eyJzM2/)
  t.equal(lines[7]?.reason, 'of eyJ***, ticket 7', 'a token without its scheme')
  t.match(lines[0], {
    err: {
      type: 'Error',
      code: 'WRONGPASS',
      message: 'WRONGPASS at redis://***@10.0.0.1:6379',
      stack: String,
    },
  })
  t.equal(lines[2]?.msg, 'connecting to rediss://***@redis:6379/0 and redis://***@h')
  t.equal(lines[3]?.url, 'https://collector.example/v1/metrics?api_key=***&x=1')
})

t.test('the log goes to stderr by default, and its last lines get out before the process ends', async (t) => {
  const child = fileURLToPath(new URL('../../../dist-test/support/gateway/log-events.js', import.meta.url))
  const run = spawnSync(process.execPath, [...process.execArgv, child], { encoding: 'utf8' })
  t.equal(run.status, 3)
  t.equal(run.stdout, '')
  const lines = run.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).msg)
  t.same(lines, ['first', 'last words'])
})

t.test('the log goes on when an event cannot be written', async (t) => {
  const events = createLog({ level: 'info', destination: '/dev/full' })
  events.log.info('lost')
  await events.flush()
  t.equal(events.dropped(), 1)
  await events.close()
})

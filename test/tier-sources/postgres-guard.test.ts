import t, { type Test } from 'tap'
import { openPostgres } from '../../src/tier-sources/postgres.js'
import { LONGEST_ANSWER } from '../../src/tier-sources/postgres-guard.js'
import { eventually } from '../support/eventually.js'
import {
  dataRow,
  evilPostgres,
  int16,
  int32,
  pgMessage,
  READY,
  rowAnswer,
  rowDescription,
  WELCOME,
} from '../support/postgres/evil-postgres.js'

async function open(t: Test, listen = false) {
  const evil = await evilPostgres(t)
  const log: string[] = []
  const write = (fields: object, message: string) => void log.push(`${message} ${JSON.stringify(fields)}`)
  const counts = { broken: 0, changes: 0 }
  const directory = openPostgres({
    name: 'billing',
    settings: {
      url: evil.url,
      query: 'SELECT tier FROM plans WHERE consumer = $1',
      timeout: 2000,
      pool: 2,
      ...(listen && { listen: 'plans_changed' }),
    },
    listen,
    onChange: () => void counts.changes++,
    onBroken: () => void counts.broken++,
    log: { info: write, warn: write },
  })
  t.teardown(() => directory.close())
  const look = () => directory.look('acme', AbortSignal.timeout(2000))
  return { evil, log, counts, look }
}

const auth = (kind: number) => pgMessage('R', int32(kind))
const row = (...messages: readonly Buffer[]) =>
  Buffer.concat([pgMessage('1'), pgMessage('2'), ...messages, READY])

const GREETINGS: readonly [what: string, greeting: Buffer, told: RegExp][] = [
  ['Kerberos', auth(2), /message type 2/],
  ['GSS', auth(7), /message type 7/],
  ['SSPI', auth(9), /message type 9/],
  ['a request without its kind', pgMessage('R'), /malformed/],
  ['a length that is none', Buffer.from('R\0\0\0\x03'), /length/],
  ['600 MB', Buffer.concat([Buffer.from('E'), int32(600_000_000)]), /longer than/],
  ['no PostgreSQL', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), /longer than/],
]

t.test('a database whose greeting pg does not know loses the connection, and nothing else', async (t) => {
  for (const [what, greeting, told] of GREETINGS) {
    const { evil, log, counts, look } = await open(t)
    evil.greeting = greeting
    await t.rejects(look(), { message: told }, what)
    t.equal(counts.broken, 1, what)
    t.match(log.join('\n'), told)
    t.match(log[0], /^the database broke the protocol; the connection is ended .*"source":"billing"/)
    await eventually('the connection is gone', () => evil.open() === 0)
    evil.greeting = WELCOME
    t.same(await look(), { tier: 'pro', tenant: undefined })
  }
})

const ANSWERS: readonly [what: string, answer: Buffer][] = [
  ['a row that ends too soon', row(rowDescription('tier'), pgMessage('D', int16(5), int32(3)))],
  ['a row of a negative number of cells', row(rowDescription('tier'), pgMessage('D', int16(-1)))],
  [
    'a cell that is longer than its row',
    row(rowDescription('tier'), pgMessage('D', int16(1), int32(1 << 30))),
  ],
  ['columns that end too soon', row(pgMessage('T', int16(3), Buffer.from('tier\0')))],
  ['a column without a name', row(pgMessage('T', int16(1), Buffer.from('tier')))],
  ['no columns at all', row(pgMessage('T'))],
  ['COPY', row(pgMessage('G', Buffer.from([0]), int16(0)))],
  ['an error without an end', pgMessage('E', Buffer.from('SERROR'))],
  [
    'rows without end',
    Buffer.concat([rowDescription('tier'), ...Array(4000).fill(dataRow('x'.repeat(500)))]),
  ],
]

t.test('an answer that is cut, malformed or endless fails its own lookup only', async (t) => {
  for (const [what, answer] of ANSWERS) {
    const { evil, counts, look } = await open(t)
    t.same(await look(), { tier: 'pro', tenant: undefined })
    evil.answer = answer
    await t.rejects(look(), what)
    t.equal(counts.broken, 1, what)
    await eventually('the connection is gone', () => evil.open() === 0)
    evil.answer = rowAnswer('free')
    t.same(await look(), { tier: 'free', tenant: undefined })
  }
})

t.test('pg itself refuses a row without a description', async (t) => {
  const { evil, look } = await open(t)
  for (const answer of [
    row(dataRow('pro')),
    row(),
    READY,
    row(rowDescription(), dataRow()),
    pgMessage('N'),
  ]) {
    evil.answer = answer
    await t.rejects(look())
    evil.answer = rowAnswer('pro')
    t.same(await look(), { tier: 'pro', tenant: undefined })
  }
})

t.test('a connection that the database refuses but keeps open is closed', async (t) => {
  const { evil, look } = await open(t)
  evil.greeting = pgMessage('E', Buffer.from('SFATAL\0C28000\0Mno\0\0'))
  await t.rejects(look(), { message: 'no' })
  await eventually('the connection is gone', () => evil.open() === 0)
})

t.test('the listening connection is opened anew after a malformed message', async (t) => {
  const { evil, counts } = await open(t, true)
  await eventually('it listens', () => counts.changes === 1)
  evil.inject(pgMessage('A', int32(1), Buffer.from('plans_changed\0acme')))
  await eventually('it is counted', () => counts.broken === 1)
  await eventually('it listens again', () => counts.changes === 2)
})

t.test('notifications do not count towards the size of an answer, however many there are', async (t) => {
  const { evil, counts, look } = await open(t, true)
  await eventually('it listens', () => counts.changes === 1)
  const note = pgMessage('A', int32(1), Buffer.from(`plans_changed\0${'x'.repeat(7000)}\0`))
  const many = Math.ceil(LONGEST_ANSWER / 7000) + 10
  evil.inject(Buffer.concat(Array(many).fill(note)))
  await eventually('all are heard', () => counts.changes === many + 1)
  t.same(await look(), { tier: 'pro', tenant: undefined })
  t.equal(counts.broken, 0)
})

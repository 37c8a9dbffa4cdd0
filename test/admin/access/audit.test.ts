import t from 'tap'
import { createAudit } from '../../../src/admin/access/audit.js'
import { createMemoryAuditStream } from '../../../src/fleet/audit-stream.js'
import { eventually } from '../../support/eventually.js'
import { accessOf, NOW, startAdmin } from '../../support/gateway/admin.js'

async function start(t: Parameters<typeof startAdmin>[0], changes: Parameters<typeof startAdmin>[1] = {}) {
  const stream = createMemoryAuditStream(() => NOW)
  const logged: { fields: { audit?: unknown }; message: string }[] = []
  const note = (fields: object, message: string) => void logged.push({ fields, message })
  const log = { info: note, warn: note, error: note }
  const audit = createAudit({ stream: () => stream, node: 'gw-1:4711', log, now: () => NOW })
  const admin = await startAdmin(t, { audit, ...changes })
  const entries = async () =>
    (await stream.read({ since: 0, count: 100 })).map(({ text }) => JSON.parse(text)).reverse()
  return { ...admin, entries, logged, log }
}

const PRO = { body: { tier: 'pro' } }

t.test('a change is recorded with actor, address, values before and after, and reason', async (t) => {
  const { call, entries, logged } = await start(t)
  const headers = { 'x-reason': 'ticket 4711', 'user-agent': 'curl/8.5.0' }
  const put = await call('PUT', '/consumers/alice/tier', { headers, ...PRO })
  t.equal(put.headers['x-audit'], 'stored')
  await call('DELETE', '/consumers/alice/tier')
  const entry = {
    at: '2025-10-09T08:54:15.000Z',
    who: 'loopback',
    action: 'tier.set',
    target: 'alice',
    before: null,
    after: 'pro',
    reason: 'ticket 4711',
    node: 'gw-1:4711',
    address: '127.0.0.1',
    client: 'curl/8.5.0',
  }
  const removed = { ...entry, action: 'tier.remove', before: 'pro', after: null, reason: null, client: null }
  t.strictSame(await entries(), [entry, removed])
  t.strictSame(
    logged.map(({ fields, message }) => [message, fields]),
    [
      ['audit', { audit: entry }],
      ['audit', { audit: removed }],
    ],
    'and is a line in the log',
  )
  const read = await call('GET', '/consumers/alice/tier')
  t.equal(read.headers['x-audit'], undefined, 'reads are not recorded')
  t.equal((await call('PUT', '/consumers/alice/tier', { body: { tier: 'gold' } })).status, 422)
  t.equal((await entries()).length, 2, 'refused writes are not recorded')
})

t.test('the actor is the name of the token', async (t) => {
  const { call, entries } = await start(t, { access: accessOf({ token: 'a-long-admin-token' }) })
  await call('PUT', '/consumers/alice/tier', {
    headers: { authorization: 'Bearer a-long-admin-token', host: 'gateway.internal' },
    ...PRO,
  })
  t.match(await entries(), [{ who: 'token' }])
})

t.test('when the store is away, the log has the entry and the response says so', async (t) => {
  const stream = {
    append: () => Promise.reject(new Error('there is no connection')),
    read: async () => [],
    one: async () => undefined,
  }
  const logged: [object, string][] = []
  const log = {
    info() {},
    warn: (fields: object, message: string) => void logged.push([fields, message]),
    error() {},
  }
  const { call } = await startAdmin(t, { audit: createAudit({ stream: () => stream, node: 'gw', log }) })
  const put = await call('PUT', '/consumers/alice/tier', PRO)
  t.match(put, { status: 200, headers: { 'x-audit': 'logged', 'x-audit-id': undefined } })
  t.match(logged, [
    [
      { audit: { action: 'tier.set', target: 'alice', after: 'pro' }, error: 'there is no connection' },
      'audit: the store has no entry for this change; this line is the only record',
    ],
  ])
})

t.test('a reason is text in any language, with a maximum length', async (t) => {
  const { call, entries } = await start(t)
  const put = (reason: string) =>
    call('PUT', '/consumers/alice/tier', { headers: { 'x-reason': reason }, ...PRO })
  const utf8 = (text: string) => Buffer.from(text).toString('latin1')
  await put(utf8('запрос 7 – é🌊'))
  await put('é as Latin-1')
  await put('   ')
  await put(utf8('\u202eto the right\u2066'))
  await put('ask with Bearer abc.def or https://u:p@host/?token=abc')
  await put(utf8('é'.repeat(500)))
  t.strictSame(
    (await entries()).map(({ reason }) => reason),
    [
      'запрос 7 – é🌊',
      'é as Latin-1',
      null,
      'to the right',
      'ask with Bearer *** or https://***@host/?token=***',
      'é'.repeat(500),
    ],
  )
  t.match(await put(utf8('é'.repeat(501))), { status: 400, json: { detail: /at most 500/ } })
  t.equal((await entries()).length, 6, 'and one that is too long changes nothing')
})

t.test('an entry is bounded, whatever was changed', async (t) => {
  const { entries, log } = await start(t)
  const stream = createMemoryAuditStream()
  const audit = createAudit({ stream: () => stream, node: 'gw', log })
  const actor = {
    who: 'loopback',
    role: 'operator' as const,
    address: '127.0.0.1',
    client: undefined,
    reason: undefined,
  }
  const request = { actor, recorded: undefined }
  const huge = Array.from({ length: 10_000 }, (_, i) => i)
  await audit.record(request, {
    action: 'tiers.import',
    target: 'x'.repeat(5000),
    before: huge,
    after: huge,
  })
  const [line] = await stream.read({ since: 0, count: 1 })
  t.ok(line!.text.length < 6000, `${line!.text.length} characters`)
  t.match(JSON.parse(line!.text), { before: /^\[0,1,2,.*…$/ })
  t.same(await entries(), [])
})

t.test('a write that the store did not answer is recorded, too: it may have happened', async (t) => {
  const { deps } = await startAdmin(t)
  const away = { ...deps.assignments, set: () => Promise.reject(new Error('no answer')) }
  const { call, entries } = await start(t, { assignments: away })
  t.equal((await call('PUT', '/consumers/alice/tier', PRO)).status, 503)
  await eventually('recorded', async () => (await entries()).length > 0)
  t.match(await entries(), [
    { action: 'write.failed', target: 'PUT /consumers/alice/tier', before: null, after: null },
  ])
})

import t from 'tap'
import { createAudit } from '../../../src/admin/access/audit.js'
import { createMemoryAuditStream } from '../../../src/fleet/audit-stream.js'
import { startAdmin } from '../../support/gateway/admin.js'

const quiet = { info() {}, warn() {}, error() {} }
const HOUR = 3_600_000

async function start(t: Parameters<typeof startAdmin>[0]) {
  let now = Date.now() - 3 * HOUR
  const stream = createMemoryAuditStream(() => now)
  const audit = createAudit({ stream: () => stream, node: 'gw-1:1', log: quiet, now: () => now })
  const { call } = await startAdmin(t, { audit })
  const write = (who: string, action: `${string}.${string}`, target: string) =>
    audit.record(
      {
        actor: { who, role: 'operator', address: '127.0.0.1', client: undefined, reason: undefined },
        recorded: undefined,
      },
      { action, target },
    )
  const told = async (query = '') => {
    const { status, json } = await call('GET', `/audit${query}`)
    if (status !== 200) return json
    return (json.entries as { target: string }[]).map(({ target }) => target)
  }
  return { call, stream, write, told, pass: (ms: number) => (now += ms) }
}

t.test('lists changes, the newest first, filtered by actor, action, target and time', async (t) => {
  const { write, told, pass, call } = await start(t)
  t.strictSame((await call('GET', '/audit')).json, { entries: [], older: null })
  await write('alice', 'tier.set', 'acme')
  pass(2 * HOUR)
  await write('bob', 'tier.remove', 'acme')
  await write('bob', 'usage.reset', 'payments/acme')
  await write('alice', 'upstream.drain', 'payments http://127.0.0.1:9001')
  await write('alice', 'usage.reset', 'payments/acme/2')
  const all = ['payments/acme/2', 'payments http://127.0.0.1:9001', 'payments/acme', 'acme', 'acme']
  t.strictSame(await told(), all)
  t.strictSame(await told('?who=bob'), ['payments/acme', 'acme'])
  t.strictSame(await told('?action=tier'), ['acme', 'acme'])
  t.strictSame(await told('?action=tier.set'), ['acme'])
  t.strictSame(await told('?action=tie'), [])
  t.strictSame(await told('?target=acme'), ['payments/acme', 'acme', 'acme'], 'by itself, or of a service')
  t.strictSame(await told('?target=payments'), all.slice(0, 3), 'or the service')
  t.strictSame(await told('?target=pay'), [])
  t.strictSame(await told('?since=90m'), all.slice(0, 4))
  t.strictSame(await told('?since=0'), all)
  const moment = new Date(Date.now() - 2 * HOUR).toISOString()
  t.strictSame(await told(`?since=${moment}&who=alice`), [all[0], all[1]])
})

t.test('lists older entries page by page', async (t) => {
  const { write, call, pass } = await start(t)
  for (let i = 0; i < 1205; i++) {
    if (i % 10 === 0) pass(1)
    await write(i % 2 === 0 ? 'alice' : 'bob', 'tier.set', String(i))
  }
  const seen: string[] = []
  let before = ''
  for (let pages = 0; before !== 'none' && pages < 10; pages++) {
    const { json } = await call('GET', `/audit?who=alice&n=250${before}`)
    seen.push(...json.entries.map(({ target }: { target: string }) => target))
    before = json.older === null ? 'none' : `&before=${json.older}`
  }
  t.strictSame(
    seen,
    Array.from({ length: 603 }, (_, i) => String(1204 - 2 * i)),
  )
  t.equal((await call('GET', '/audit')).json.entries.length, 100, 'a hundred unless said otherwise')
})

t.test('GET /audit/{id} tells the entry whose id a write has answered', async (t) => {
  const { call, deps } = await startAdmin(t)
  const { headers } = await call('PUT', '/consumers/alice/tier', {
    body: { tier: 'pro' },
    headers: { 'x-reason': 'ticket 4711' },
  })
  const id = String(headers['x-audit-id'])
  t.match(await call('GET', `/audit/${id}`), {
    status: 200,
    json: { id, action: 'tier.set', target: 'alice', before: null, after: 'pro', reason: 'ticket 4711' },
  })
  t.match(await call('GET', '/audit/1-0'), { status: 404, json: { detail: /no entry 1-0/ } })
  for (const bad of ['x', '1', '-1', '1-1-1', `1-${'1'.repeat(16)}`])
    t.match(await call('GET', `/audit/${bad}`), { status: 400, json: { detail: /two numbers/ } }, bad)
  const foreign = await deps.audit.stream().append('no entry', 100)
  t.equal((await call('GET', `/audit/${foreign}`)).status, 404)
})

t.test('leaves out foreign entries', async (t) => {
  const { stream, write, told } = await start(t)
  for (const text of ['', 'no JSON', 'null', '7', '{}', '{"at":1}', '[]']) await stream.append(text, 100)
  await write('alice', 'tier.set', 'acme')
  t.strictSame(await told(), ['acme'])
})

t.test('refuses bad filters and says what is allowed', async (t) => {
  const { told } = await start(t)
  const wrong: Record<string, RegExp> = {
    'whose=alice': /No parameter "whose"; the parameters are since, who/,
    'who=a&who=b': /Give who once/,
    'n=0': /1 to 1000/,
    'n=1001': /1 to 1000/,
    'n=x': /1 to 1000/,
    'since=yesterday': /since is a duration before now/,
    'since=2026-13-45': /since is a duration before now/,
    'since=2026-02-30': /since is a duration before now/,
    'since=5': /since is a duration before now/,
    'before=x': /before is the id/,
    'before=%2B': /before is the id/,
  }
  for (const [query, detail] of Object.entries(wrong))
    t.match(await told(`?${query}`), { status: 400, detail }, query)
})

t.test('says so when the store is away', async (t) => {
  const stream = {
    append: () => Promise.reject(new Error('away')),
    read: () => Promise.reject(new Error('away')),
    one: () => Promise.reject(new Error('away')),
  }
  const { call } = await startAdmin(t, {
    audit: createAudit({ stream: () => stream, node: 'gw-1:1', log: quiet }),
  })
  t.match(await call('GET', '/audit'), { status: 503, json: { detail: /read the audit/ } })
})

import t from 'tap'
import { amountKeyText } from '../../../src/fleet/overrides.js'
import { startAdmin } from '../../support/gateway/admin.js'

t.test('a dry run changes nothing; an import writes all rows, and records each and the whole', async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  const rows = [
    { consumer: 'alice', tier: 'pro' },
    { consumer: 'bob', tier: 'free', until: '2999-12-31' },
    { tenant: 'acme-group', service: 'payments', limit: 'minute', amount: '70' },
    {
      consumer: 'alice',
      service: 'payments',
      limit: 'minute',
      by: '5',
      until: '2999-12-31T18:00:00+01:00',
    },
  ]
  const send = (dry_run: boolean) => call('POST', '/import', { body: { rows, dry_run } })
  const counts = { tiers: 2, overrides: 1, boosts: 1, bad: [] }
  t.same((await send(true)).json, { applied: false, ...counts })
  t.equal(deps.assignments.get('alice'), undefined)
  t.same((await send(false)).json, { applied: true, ...counts })
  t.equal(deps.assignments.get('alice')?.tier, 'pro')
  t.same(await deps.assignments.read('bob'), { tier: 'free', until: Date.parse('3000-01-01T00:00:00Z') })
  const key = { service: 'payments', limit: 'minute' }
  t.match(deps.amounts.map.get(amountKeyText({ kind: 'override', of: 'tenant', id: 'acme-group', ...key })), {
    amount: 70,
    until: undefined,
  })
  t.match(deps.amounts.map.get(amountKeyText({ kind: 'boost', of: 'consumer', id: 'alice', ...key })), {
    amount: 5,
    until: Date.parse('2999-12-31T17:00:00Z'),
  })
  const until = '2999-12-31T17:00:00.000Z'
  const of = (action: string, target: string, before: unknown, after: unknown) => ({
    audit: { action, target, before, after },
  })
  t.match(
    logged.map(({ fields }) => fields),
    [
      of('tier.set', 'alice', null, 'pro'),
      of('tier.set', 'bob', null, { tier: 'free', until: '3000-01-01T00:00:00.000Z' }),
      of('override.set', 'payments/minute/tenant/acme-group', null, { amount: 70 }),
      of('boost.set', 'payments/minute/consumer/alice', null, { by: 5, until }),
      of('import.rows', '4 rows', null, {
        tiers: 2,
        overrides: 1,
        boosts: 1,
        by_tier: { pro: 1, free: 1 },
      }),
    ],
  )
  await send(false)
  t.match(logged[5]?.fields, of('tier.set', 'alice', 'pro', 'pro'), 'the value before')
})

t.test("more than a hundred rows are recorded as a summary, with the file's name", async (t) => {
  const { call, deps, logged } = await startAdmin(t)
  const rows = Array.from({ length: 101 }, (_, i) => ({ consumer: `user-${i}`, tier: 'pro' }))
  rows[0]!.tier = 'free'
  const file_sha256 = '0123456789abcdef'.repeat(4)
  t.match((await call('POST', '/import', { body: { rows, file_sha256 } })).json, {
    applied: true,
    tiers: 101,
  })
  t.equal(deps.assignments.get('user-100')?.tier, 'pro')
  t.match(
    logged.map(({ fields }) => fields),
    [
      {
        audit: {
          action: 'import.rows',
          target: '101 rows',
          after: { file_sha256, tiers: 101, by_tier: { free: 1, pro: 100 } },
        },
      },
    ],
  )
  for (const bad of ['', file_sha256.toUpperCase(), `${file_sha256}0`, 5, null]) {
    const body = { rows: [{ consumer: 'eve', tier: 'pro' }], file_sha256: bad }
    t.match(await call('POST', '/import', { body }), {
      status: 400,
      json: { detail: /is the SHA-256 of the file/ },
    })
  }
  t.equal(deps.assignments.get('eve'), undefined)
})

t.test('a bad row is reported by number, and no row is written', async (t) => {
  const { call, deps } = await startAdmin(t)
  const at = { service: 'payments', limit: 'minute' }
  const cases: [Record<string, string>, RegExp][] = [
    [{ tier: 'pro' }, /^Give either a consumer or a tenant\.$/],
    [{ consumer: 'a', tenant: 'b', tier: 'pro' }, /^Give either a consumer or a tenant\.$/],
    [{ consumer: 'x'.repeat(1025), tier: 'pro' }, /^A consumer id has at most/],
    [{ consumer: 'a', tier: 'gold' }, /^No tier "gold"; the tiers are free, pro, enterprise\.$/],
    [{ tenant: 'a', tier: 'pro' }, /^Only a consumer has a tier, not a tenant\.$/],
    [{ consumer: 'a', tier: 'pro', ...at, amount: '5' }, /^Give either a tier or a limit\.$/],
    [{ consumer: 'a', tier: 'pro', until: '2020-01-01' }, /^until 2020-01-01 is in the past\.$/],
    [{ consumer: 'a', tier: 'pro', until: 'tomorrow' }, /^"tomorrow" is not a time; write 2026-12-31 or/],
    [{ consumer: 'a', tier: 'pro', until: '2999-12-31T18:00:00' }, /is not a time/],
    [{ consumer: 'a', tier: 'pro', until: '2999-13-01' }, /is not a time/],
    [{ consumer: 'a', tier: 'pro', until: '2999-02-29' }, /is not a time/],
    [{ consumer: 'a', tier: 'pro', until: '2999-11-31T10:00:00+01:00' }, /is not a time/],
    [{ consumer: 'a', service: 'payments' }, /^Give a tier, or a service and its limit\.$/],
    [{ consumer: 'a', ...at }, /^Give either an amount \(override\) or by \(boost\)\.$/],
    [
      { consumer: 'a', ...at, amount: '5', by: '5' },
      /^Give either an amount \(override\) or by \(boost\)\.$/,
    ],
    [
      { consumer: 'a', ...at, service: 'x', amount: '5' },
      /^No service "x"; the services are payments, marketing\.$/,
    ],
    [
      { consumer: 'a', ...at, limit: 'x', amount: '5' },
      /^No limit "x" on payments; its limits are minute, second\.$/,
    ],
    [{ consumer: 'a', ...at, by: '5' }, /^A boost needs until: the time at which it ends\.$/],
    [{ consumer: 'a', ...at, amount: '5.5' }, /^"amount" is "5\.5"; it must be a whole number from 1 to/],
    [{ consumer: 'a', ...at, amount: '0' }, /^"amount" is 0; it must be a whole number from 1 to/],
  ]
  const rows = [{ consumer: 'good', tier: 'pro' }, ...cases.map(([row]) => row)]
  const { json } = await call('POST', '/import', { body: { rows } })
  t.match(json, { applied: false, tiers: 1 })
  t.same(
    json.bad.map(({ row }: { row: number }) => row),
    cases.map((_, i) => i + 1),
  )
  for (const [i, [row, problem]] of cases.entries())
    t.match(json.bad[i].problem, problem, JSON.stringify(row))
  t.equal(deps.assignments.get('good'), undefined)
})

t.test('a body that is no list of rows is 400', async (t) => {
  const { call } = await startAdmin(t)
  const many = Array.from({ length: 1001 }, () => ({}))
  for (const body of [
    {},
    [],
    { rows: 5 },
    { rows: [5] },
    { rows: [{ x: '1' }] },
    { rows: [{ tier: 5 }] },
    { rows: many },
  ]) {
    const { status, json } = await call('POST', '/import', { body })
    t.equal(status, 400, JSON.stringify(body).slice(0, 40))
    t.match(json.detail, /^Send \{"rows":\[…\],"dry_run":true\}\. There are at most 1000 rows/)
  }
})

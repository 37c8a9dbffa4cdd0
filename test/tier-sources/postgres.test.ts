// Tests src/tier-sources/postgres-listen.ts
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Config } from '../../src/config/schema/schema.js'
import { openPostgres, type PostgresOptions } from '../../src/tier-sources/postgres.js'
import { openTierSources } from '../../src/tier-sources/tier-sources.js'
import { createAuthority } from '../support/credentials/authority.js'
import { eventually } from '../support/eventually.js'
import { snapshotOf } from '../support/gateway/gateway.js'
import { noPostgres, startPostgres, type TestPostgres } from '../support/postgres/postgres.js'
import { stall } from '../support/stall.js'

t.test('with a table in PostgreSQL', { skip: noPostgres }, async (t) => {
  const authority = createAuthority(t)
  const db: TestPostgres = await startPostgres(t, authority.issue('db', 'IP:127.0.0.1'))
  await db.query('CREATE TABLE plans (consumer text PRIMARY KEY, tier text, tenant text)')
  await db.query(
    "INSERT INTO plans VALUES ('acme', 'pro', 'acme-group'), ('bob', 'free', NULL), ('nobody', NULL, NULL)",
  )
  await db.query(`
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_notify('plans_changed', coalesce(NEW.consumer, OLD.consumer)); RETURN NULL; END $$`)
  await db.query(
    'CREATE TRIGGER plans_changed AFTER INSERT OR UPDATE OR DELETE ON plans FOR EACH ROW EXECUTE FUNCTION tell()',
  )

  function opened(settings: Partial<PostgresOptions['settings']> = {}) {
    const changes: (string | undefined)[] = []
    const directory = openPostgres({
      name: 'billing',
      settings: {
        url: db.url,
        query: 'SELECT tier, tenant FROM plans WHERE consumer = $1',
        timeout: 5_000,
        pool: 2,
        ...settings,
      },
      listen: true,
      onChange: (consumer) => changes.push(consumer),
      log: { info() {}, warn() {} },
    })
    t.teardown(() => directory.close())
    return {
      changes,
      directory,
      look: (id: string, signal = new AbortController().signal) => directory.look(id, signal),
    }
  }

  t.test('a consumer has the tier and the tenant of its row', async (t) => {
    const { look } = opened()
    t.same(await look('acme'), { tier: 'pro', tenant: 'acme-group' })
    t.same(await look('bob'), { tier: 'free', tenant: undefined })
    t.equal(await look('nobody'), undefined, 'a row without a plan')
    t.equal(await look('stranger'), undefined, 'no row')
  })

  t.test('an id is passed as a value, and cannot change the query', async (t) => {
    const { look } = opened()
    for (const id of [
      "' OR '1'='1",
      "acme' --",
      "acme'; DROP TABLE plans; --",
      '$1',
      'acme\0',
      'ac\\me',
      '%',
      'ACME',
      'acme ',
      'x'.repeat(100_000),
    ]) {
      t.equal(await look(id), undefined, id.slice(0, 40))
    }
    t.same(await look('acme'), { tier: 'pro', tenant: 'acme-group' }, 'the table is still there')
  })

  t.test("an id that the column's type cannot hold is unknown", async (t) => {
    const { look } = opened({ query: 'SELECT tier FROM plans WHERE length(consumer) = $1::int' })
    t.same(await look('3'), { tier: 'free', tenant: undefined })
    t.equal(await look('acme'), undefined)
  })

  t.test('a query without a tier column, or that fails, is an error that says so', async (t) => {
    await t.rejects(opened({ query: 'SELECT tenant AS x FROM plans WHERE consumer = $1' }).look('acme'), {
      message: 'its query returns no column "tier", but x',
    })
    await t.rejects(opened({ query: 'SELECT tier FROM plans2 WHERE consumer = $1' }).look('acme'), {
      message: 'relation "plans2" does not exist',
    })
    await t.rejects(opened({ query: 'SELECT 1 WHERE $1 = $1; DELETE FROM plans' }).look('acme'), {
      message: 'cannot insert multiple commands into a prepared statement',
    })
  })

  t.test('aborting a lookup gives its connection back to the pool', async (t) => {
    const { look } = opened({ query: 'SELECT tier, pg_sleep(length($1) * 10) FROM plans', pool: 1 })
    const controller = new AbortController()
    const slow = look('slow', controller.signal)
    await eventually('the query is under way', async () => {
      const [row] = await db.query(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()",
      )
      return Number(row!.n) > 0
    })
    controller.abort(new Error('too late'))
    await t.rejects(slow)
    t.same(await look(''), { tier: 'pro', tenant: undefined }, 'the only connection of the pool is free')
  })

  t.test('notifications report a changed consumer, or that anything may have changed', async (t) => {
    const { changes } = opened({ listen: 'plans_changed' })
    await eventually('it listens', () => changes.length === 1)
    await db.query("UPDATE plans SET tier = 'free' WHERE consumer = 'acme'")
    await db.query('NOTIFY plans_changed')
    await db.query('NOTIFY another_channel')
    await db.query("UPDATE plans SET tier = 'pro' WHERE consumer = 'acme'")
    await eventually('it hears', () => changes.length === 4)
    t.same(changes, [undefined, 'acme', undefined, 'acme'])
  })

  t.test('a lost listening connection is opened anew, and everything counts as changed', async (t) => {
    const { changes, look } = opened({ listen: 'plans_changed' })
    await eventually('it listens', () => changes.length === 1)
    await look('acme')
    await db.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'",
    )
    await eventually('it listens again', () => changes.length === 2)
    await db.query("NOTIFY plans_changed, 'bob'")
    await eventually('it hears', () => changes.length === 3)
    t.same(changes, [undefined, undefined, 'bob'])
    t.same(await look('acme'), { tier: 'pro', tenant: 'acme-group' }, 'so are those for questions')
  })

  t.test('a server that is down, hangs and comes back', async (t) => {
    const [settings] = snapshotOf(`
tiers: [free, pro]
consumers: [{ header: { name: x-user-id, from: anyone } }]
tier_sources:
  - postgres:
      url: ${db.url}
      query: SELECT tier, tenant FROM plans WHERE consumer = $1
      listen: plans_changed
      timeout: 1s
      ttl: 1s
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
`).config.tier_sources as Config['tier_sources']
    const logged: string[] = []
    const errors: unknown[] = []
    const log = {
      info: (_: object, message: string) => logged.push(message),
      warn: (fields: { error?: unknown }, message: string) => {
        logged.push(message)
        errors.push(fields.error)
      },
    }
    const tierSources = openTierSources({ settings: [settings!], log })
    t.teardown(() => tierSources.close())
    const [source] = tierSources.sources()
    let now = performance.now()
    const find = (consumer: string) => source!.find(consumer, now)
    t.match(await find('acme'), { tier: 'pro', stale: false })

    db.pause()
    now += 60_000
    t.match(find('acme'), { tier: 'pro', stale: true }, 'the known tier holds at once')
    const unknown = find('bob')
    await turn()
    // Longer than the connection's own timeout, which is 100 ms longer.
    stall(1200)
    t.equal(await unknown, undefined, 'an unknown consumer waits once')
    const { questions } = tierSources.describe()[0]!.counts
    t.ok(questions.timeout > 0, 'for as long as its timeout', { questions, logged, errors })
    await find('carol')
    await eventually('it is down', () => tierSources.describe()[0]!.up === false)
    t.equal(find('dora'), undefined, 'now no request waits')
    db.resume()

    await db.stop()
    t.match(find('acme'), { tier: 'pro', stale: true })
    await db.restart()
    await eventually('it is up', async () => {
      now = performance.now() + 60_000
      await find('bob')
      return tierSources.describe()[0]!.up
    })
    t.match(find('bob'), { tier: 'free' })
    t.ok(logged.includes('the tier source answers again'))
  })

  t.test("over TLS the server's certificate is verified", async (t) => {
    const by = (query: string) => opened({ url: `${db.url}?${query}` }).look('bob')
    t.match(await by(`sslmode=verify-full&sslrootcert=${authority.ca}`), { tier: 'free' })
    t.match(await by('sslmode=no-verify'), { tier: 'free' })
    await t.rejects(
      by('sslmode=verify-full'),
      { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
      'not of a CA that is trusted',
    )
    const elsewhere = `${db.url.replace('127.0.0.1', 'localhost')}?sslmode=verify-full&sslrootcert=${authority.ca}`
    await t.rejects(
      opened({ url: elsewhere }).look('bob'),
      { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
      'not of that name',
    )
  })

  t.test('closing does not wait for a server that hangs', async (t) => {
    const { directory, look, changes } = opened({ listen: 'plans_changed' })
    await look('acme')
    await eventually('it listens', () => changes.length === 1)
    db.pause()
    await directory.close()
    db.resume()
    t.equal(changes.length, 1)
  })
})

t.test('a missing database is an error that says where', async (t) => {
  const directory = openPostgres({
    name: 'billing',
    settings: {
      url: 'postgres://tidegate:hunter2@127.0.0.1:1/billing',
      query: 'SELECT $1',
      timeout: 1_000,
      pool: 1,
    },
    listen: true,
    onChange() {},
    log: { info() {}, warn() {} },
  })
  const error = await directory.look('acme', new AbortController().signal).catch((error: Error) => error)
  t.match(error, { message: /127\.0\.0\.1:1/ })
  t.notMatch(String(error), /hunter2/)
  await directory.close()
})

t.test('an unreadable certificate is an error of each lookup', async (t) => {
  const directory = openPostgres({
    name: 'billing',
    settings: {
      url: 'postgres://127.0.0.1:1/billing?sslmode=verify-full&sslrootcert=/nowhere.pem',
      query: 'SELECT $1',
      timeout: 1_000,
      pool: 1,
    },
    listen: true,
    onChange() {},
    log: { info() {}, warn() {} },
  })
  await t.rejects(directory.look('acme', new AbortController().signal), { message: /\/nowhere\.pem/ })
  await directory.close()
})

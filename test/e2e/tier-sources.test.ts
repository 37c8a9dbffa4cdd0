import t from 'tap'
import { request } from 'undici'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend, startProcess } from '../support/gateway/process.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { noPostgres, startPostgres } from '../support/postgres/postgres.js'

t.test(
  'tiers from PostgreSQL hold on every gateway, change at once, and outlive an outage of the database',
  { skip: noPostgres },
  async (t) => {
    const [db, backend] = await Promise.all([startPostgres(t), startBackend(t)])
    await db.query('CREATE TABLE plans (consumer text PRIMARY KEY, tier text, tenant text)')
    await db.query("INSERT INTO plans VALUES ('acme', 'pro', 'acme-group'), ('odd', 'platinum', NULL)")
    const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { timeout: 2s }
tiers: [free, pro, enterprise]
consumers: [{ header: { name: x-user-id, from: anyone } }]
tier_sources:
  - postgres:
      name: billing
      url: ${db.url}
      query: SELECT tier, tenant FROM plans WHERE consumer = $1
      listen: plans_changed
      timeout: 5s
services:
  api: { upstreams: [${backend.origin}], limits: { free: 10/day, pro: 1000/day, enterprise: 100000/day } }
routes: [{ path: /*, service: api }]
decisions: { sample: 1 }
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
    const gateways = await Promise.all([startWhole(t, yaml), startProcess(t, yaml, {}, ['--workers', '2'])])
    const [one, two] = gateways
    /** Returns the amount of the limit of the consumer's tier. */
    async function amount(of: typeof one, consumer: string, id = 'any'): Promise<number> {
      const { statusCode, headers, body } = await request(of.address, {
        headers: { 'x-user-id': consumer, 'x-request-id': id },
      })
      await body.dump()
      t.equal(statusCode, 200)
      return Number(headers['x-ratelimit-limit'])
    }
    const metric = async (of: typeof one, series: string): Promise<number> => {
      const text = await (await request(`${of.admin}/metrics`)).body.text()
      return Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.split(' ')[1],
      )
    }
    for (const gateway of gateways) {
      t.equal(await amount(gateway, 'acme'), 1000)
      t.equal(await amount(gateway, 'stranger'), 10)
      t.equal(await amount(gateway, "' OR true --"), 10)
      t.equal(await amount(gateway, 'odd'), 10, 'a tier that there is not')
    }
    t.equal(await metric(one, 'tidegate_tier_unknown_total{source="billing"}'), 1)

    await db.query("UPDATE plans SET tier = 'enterprise' WHERE consumer = 'acme'")
    await db.query("NOTIFY plans_changed, 'acme'")
    for (const gateway of gateways) {
      for (let i = 0; i < 4; i++) {
        await eventually('the change holds', async () => (await amount(gateway, 'acme')) === 100_000)
      }
    }

    await amount(one, 'acme', 'known')
    t.match(
      (await tidegate(['why', 'known', '--admin', new URL(one.admin).host])).stdout,
      /^ {2}tier +enterprise, as billing says$/m,
    )
    t.match(
      (await tidegate(['usage', 'api', 'acme', '--admin', new URL(two.admin).host])).stdout,
      /tier enterprise, as billing says/,
    )
    const told = async (consumer: string) =>
      (await tidegate(['tier', consumer, '--admin', new URL(two.admin).host])).stdout
    t.equal(
      await told('odd'),
      'odd: free, the default (billing names "platinum", which is not a tier of this configuration)\n',
    )
    t.equal(await told('stranger'), 'stranger: free, the default\n')
    const tier = await request(`${two.admin}/consumers/acme/tier`)
    t.match(await tier.body.json(), { assigned: null, tier: 'enterprise', tier_from: 'source:billing' })

    await db.stop()
    await db.query('SELECT 1').then(
      () => t.fail('it is still there'),
      () => t.pass(),
    )
    for (const gateway of gateways) {
      t.equal(await amount(gateway, 'acme'), 100_000)
      for (const consumer of ['a', 'b', 'c', 'd', 'e', 'f']) t.equal(await amount(gateway, consumer), 10)
    }
    t.match(await told('newcomer'), /^newcomer: free, the default \(billing (?:did not answer|is down)\)$/m)
    t.equal(await metric(one, 'tidegate_tier_source_up{source="billing"}'), 0)
    for (const { admin } of gateways) {
      const ready = await request(`${admin}/readyz`)
      t.equal(ready.statusCode, 200)
      t.same(await ready.body.json(), {
        status: 'ready',
        store: 'up',
        reasons: ['the tier source billing does not answer: the last known tiers stay in force'],
      })
    }
  },
)

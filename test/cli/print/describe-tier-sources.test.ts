import t from 'tap'
import { describeTierSources } from '../../../src/cli/print/describe-tier-sources.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

t.test('the order of tier lookups is shown without the secrets in URLs', async (t) => {
  const { config } = snapshotOf(`
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }]
tier_sources:
  - postgres: { name: billing, url: "postgres://user:hunter2@db.internal:5433/plans", query: SELECT tier FROM plans WHERE c = $1 }
  - postgres: { url: "postgres:///plans?host=/run/postgresql", query: SELECT tier FROM plans WHERE c = $1 }
  - http: { url: "https://crm.internal/plans?of={consumer}&key=hunter2" }
services: { payments: { upstreams: [http://127.0.0.1:9001] } }
routes: [{ path: /*, service: payments }]
`)
  t.equal(
    describeTierSources(config, 'free'),
    'by assignment, then by credential, then billing (PostgreSQL at db.internal:5433), then postgres (PostgreSQL), then http (HTTP at crm.internal), then free',
  )
})

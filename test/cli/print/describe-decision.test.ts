import t from 'tap'
import { requestRows } from '../../../src/cli/print/describe-decision.js'
import type { DecisionData } from '../../../src/telemetry/decisions/decision-data.js'

const ASKED = {
  ...{ method: 'GET', host: 'localhost', path: '/a', client_ip: '192.0.2.1', config: '' },
  ...{ route: '/*', service: 'a', quota_of: null, consumer: 'acme', tenant: null, identified_by: 'header' },
  ...{ key_id: null, tier: 'free', tier_from: 'default', tier_stale: false, tier_unchecked: false },
  limits_unchecked: false,
  ...{ tier_until: null, cost: 1, decision: null, limits: [], status: 200, error: null, cause: null },
} satisfies Partial<DecisionData>

t.test('a tier is marked if the store could not tell whether another one is assigned', async (t) => {
  const tierOf = (changes: object) => requestRows({ ...ASKED, ...changes })[3]
  t.same(tierOf({}), ['tier', 'free, the default'])
  t.same(tierOf({ tier_unchecked: true }), [
    'tier',
    'free, the default; the store could not tell whether one is assigned',
  ])
})

t.test('so are the limits if it could not tell whether they are changed', async (t) => {
  const limitsOf = (changes: object) => requestRows({ ...ASKED, ...changes })[4]
  t.same(limitsOf({}), ['limits', ''], 'an empty line is not shown')
  t.same(limitsOf({ limits_unchecked: true }), [
    'limits',
    'the store could not tell whether there is a boost or an override',
  ])
})

// Tests src/{fleet/ask-all,telemetry/top/all-gateways-top}.ts
import t from 'tap'
import { LONE_FLEET } from '../../../src/fleet/gateway-rpc.js'
import type { TopQuestion } from '../../../src/telemetry/top/top.js'
import { NOW, startAdmin } from '../../support/gateway/admin.js'

const HOSTILE = '</script><img src=x onerror=alert(1)>\u202e\u0000"'

/** This gateway has counts, one other has none, and one is silent. */
function told() {
  const asked: TopQuestion[] = []
  return {
    asked,
    fleet: {
      ...LONE_FLEET,
      ask: async <A>() => {
        const answer = { from: NOW - 45_000, to: NOW, missed: 0, groups: [] } as A
        return { answers: [{ node: 'a:1', member: 'a:1~1', answer }], silent: ['b:7'], problem: undefined }
      },
    },
    top: {
      read(question: TopQuestion) {
        asked.push(question)
        const entry = { label: 'minute', since: NOW - 20_000 }
        return {
          from: NOW - 45_000,
          to: NOW,
          missed: 0,
          groups: [
            {
              service: 'payments',
              tier: 'free',
              sketch: {
                total: 100,
                floor: 4,
                entries: [
                  { ...entry, key: HOSTILE, count: 60, error: 0 },
                  { ...entry, key: 'bob', count: 5, error: 4, label: '' },
                ],
              },
            },
          ],
        }
      },
    },
  }
}

t.test('GET /top tells who is limited now, how sure that is, and which gateways answered', async (t) => {
  const { top, fleet, asked } = told()
  const { call } = await startAdmin(t, { parts: { top }, fleet })
  const { status, json } = await call('GET', '/top')
  t.equal(status, 200)
  t.strictSame(json, {
    by: 'limited',
    from: new Date(NOW - 45_000).toISOString(),
    to: new Date(NOW).toISOString(),
    nodes: { answered: 2, silent: ['b:7'], problem: null },
    total: 100,
    floor: 4,
    missed: 0,
    rows: [
      {
        consumer: HOSTILE,
        service: 'payments',
        tier: 'free',
        count: 60,
        error: 0,
        share: 0.6,
        limit: 'minute',
        since: new Date(NOW - 20_000).toISOString(),
      },
      {
        consumer: 'bob',
        service: 'payments',
        tier: 'free',
        count: 5,
        error: 4,
        share: 0.05,
        limit: null,
        since: new Date(NOW - 20_000).toISOString(),
      },
    ],
  })
  const { json: one } = await call('GET', '/top?by=cost&service=payments&tier=pro&n=1')
  t.equal(one.rows.length, 1)
  t.equal(one.floor, 5, 'the second')
  t.strictSame(asked, [
    { by: 'limited', service: undefined, tier: undefined },
    { by: 'cost', service: 'payments', tier: 'pro' },
  ])
})

t.test('an invalid question is refused, with the valid ones', async (t) => {
  const { call } = await startAdmin(t)
  for (const [query, status, detail] of [
    ['by=rate', 400, 'by is one of limited, near, cost, share.'],
    ['by=near&by=cost', 400, 'Give by once.'],
    ['servce=payments', 400, 'No parameter "servce"; the parameters are by, service, tier, n.'],
    ['n=0', 400, 'n is the number of rows, from 1 to 100.'],
    ['n=101', 400, 'n is the number of rows, from 1 to 100.'],
    ['n=1e1', 400, 'n is the number of rows, from 1 to 100.'],
    ['service=payment', 404, 'No service "payment"; the services are payments, marketing.'],
    ['tier=gold', 422, 'No tier "gold"; the tiers are free, pro, enterprise.'],
  ] as const) {
    t.match((await call('GET', `/top?${query}`)).json, { status, detail }, query)
  }
})

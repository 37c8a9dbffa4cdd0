import t from 'tap'
import type { ExplainQuestion } from '../../../src/telemetry/decisions/explained-decision.js'
import { startAdmin } from '../../support/gateway/admin.js'

t.test('POST /explain passes its question on, and refuses a malformed one', async (t) => {
  const asked: ExplainQuestion[] = []
  const { call } = await startAdmin(t, {
    explain: async (question) => {
      asked.push(question)
      // biome-ignore lint/suspicious/noExplicitAny: it is passed on as it is
      return { why: 'so' } as any
    },
  })
  t.match(await call('POST', '/explain', { body: { url: '/x' } }), { status: 200, json: { why: 'so' } })
  t.same(asked, [{ method: 'GET', url: '/x', headers: [], peer: '127.0.0.1' }])
  for (const body of [
    {},
    { url: '' },
    { url: '/x', method: 'get' },
    { url: '/x', headers: { a: 'b' } },
    { url: '/x', headers: [['a']] },
    { url: '/x', headers: [['a', 'b\r\nc: d']] },
    { url: '/x', peer: 1 },
    { url: '/x', other: 1 },
    [],
  ])
    t.equal((await call('POST', '/explain', { body })).status, 400, JSON.stringify(body))
  const token = ['authorization', `Bearer ${'x'.repeat(8192)}`]
  t.equal(
    (await call('POST', '/explain', { body: { url: '/x', headers: [token] } })).status,
    200,
    'a long token',
  )
})

import t from 'tap'
import { createMemoryLimiter } from '../../../src/limiter/memory.js'
import { startAdmin } from '../../support/gateway/admin.js'

t.test('/healthz is 200 while it answers, /readyz when the gateway can take traffic', async (t) => {
  let ready = false
  let reasons = ['tier assignments are not loaded yet']
  let state: 'up' | 'degraded' = 'up'
  const limiter = { ...createMemoryLimiter(), state: () => state }
  const { call } = await startAdmin(t, { ready: () => ({ ready, reasons }), limiter })

  t.match(await call('GET', '/readyz'), { status: 503, json: { status: 'not_ready', store: 'up', reasons } })
  t.match(await call('GET', '/healthz'), { status: 200, json: { status: 'ok' } })

  ready = true
  reasons = []
  t.same((await call('GET', '/readyz')).json, { status: 'ready', store: 'up', reasons: [] })

  state = 'degraded'
  reasons = ['the store is out of reach']
  const answer = await call('GET', '/readyz')
  t.equal(answer.status, 200, 'without its store it goes on, and says so')
  t.same(answer.json, { status: 'ready', store: 'degraded', reasons })
  t.equal((await call('HEAD', '/readyz')).status, 200)
})

t.test('/metrics has the type that Prometheus asks for', async (t) => {
  const { call } = await startAdmin(t)
  const { status, headers, text } = await call('GET', '/metrics')
  t.equal(status, 200)
  t.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.match(text, /^# HELP/)
})

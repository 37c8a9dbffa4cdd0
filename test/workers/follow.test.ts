import t from 'tap'
import type { ReloadEvent } from '../../src/config/load/reload.js'
import { followConfig } from '../../src/workers/follow.js'
import { snapshotOf } from '../support/gateway/gateway.js'

const text = (limit: string) => `
tiers: [free]
services: { api: { upstreams: [http://127.0.0.1:1], limits: { free: ${limit} } } }
routes: [{ path: /*, service: api }]
`

const good = (limit: string) => ({
  text: text(limit),
  hash: snapshotOf(text(limit)).fingerprint,
  loadedAt: 1000,
})

async function follow() {
  const events: ReloadEvent[] = []
  const order: string[] = []
  const config = await followConfig(good('1/s'), {
    file: 'tidegate.yaml',
    env: {},
    onReload(event) {
      events.push(event)
      order.push(`in force ${event.snapshot.fingerprint}`)
    },
    onNext: ({ fingerprint }) => order.push(`known ${fingerprint}`),
  })
  return { config, events, order }
}

t.test('a worker applies what the primary accepted, under the same hash', async (t) => {
  const { config, events, order } = await follow()
  const before = config.current()
  t.equal(before.fingerprint, good('1/s').hash)
  const next = good('2/s')
  await config.follow({ ...next, trigger: 'admin', result: 'applied' })
  t.equal(config.current().fingerprint, next.hash)
  t.equal(config.current().loadedAt, 1000)
  t.strictSame(order, [`known ${next.hash}`, `in force ${next.hash}`], 'known before a request can ask by it')
  t.match(events, [{ result: 'applied', trigger: 'admin', previous: before, snapshot: config.current() }])
})

t.test('an unchanged reload is reported, too, as SIGHUP reopens the access log', async (t) => {
  const { config, events } = await follow()
  const before = config.current()
  await config.follow({ ...good('1/s'), trigger: 'signal', result: 'applied' })
  await config.follow({ ...good('1/s'), trigger: 'signal', result: 'rejected' })
  t.equal(config.current(), before)
  t.strictSame(
    events.map(({ result, trigger }) => `${result} ${trigger}`),
    ['unchanged signal', 'rejected signal'],
  )
})

t.test('a worker knows why the primary, or it itself, rejected a configuration', async (t) => {
  const { config } = await follow()
  t.equal(config.status().lastError, null)
  const lastError = { at: '2026-11-25T12:00:00.000Z', messages: ['tidegate.yaml:1:1: no'] }
  await config.follow({ ...good('1/s'), lastError, trigger: 'file', result: 'rejected' })
  t.strictSame(config.status().lastError, lastError)
  await config.follow({ ...good('1/s'), lastError: null, trigger: 'file', result: 'unchanged' })
  t.equal(config.status().lastError, null)
  const bad = { text: 'tires: []', hash: 'another', loadedAt: 2000 }
  await t.rejects(config.follow({ ...bad, trigger: 'file', result: 'applied' }))
  t.match(config.status().lastError, { messages: [/unknown key "tires"/] })
})

t.test('a configuration that this worker refuses changes nothing', async (t) => {
  const { config, events } = await follow()
  const before = config.current()
  const unknown = `${text('2/s')}invented: true\n`
  await t.rejects(
    config.follow({ text: unknown, hash: 'another', loadedAt: 2000, trigger: 'file', result: 'applied' }),
  )
  t.equal(config.current(), before)
  t.strictSame(events, [])
})

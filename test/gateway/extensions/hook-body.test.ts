import t from 'tap'
import type { BoundHook } from '../../../src/extension/route-hooks.js'
import type { KeptBody } from '../../../src/gateway/exchange/exchange.js'
import { bodyFor, mostWanted } from '../../../src/gateway/extensions/hook-body.js'
import { exchangeFor } from '../../support/gateway/exchange.js'
import { snapshotOf } from '../../support/gateway/gateway.js'

const SNAPSHOT = snapshotOf(`
tiers: [free]
services: { api: { upstreams: ['http://127.0.0.1:1'] } }
routes: [{ path: /*, service: api }]
`)

const hook = (max?: number): BoundHook => ({
  extension: 'reader',
  hook: 'cost',
  run: () => 1,
  explain: false,
  body: max === undefined ? undefined : { max, as: 'bytes' },
  timeout: 50,
  onError: 'deny',
})

function exchangeWith(whole: Buffer | undefined, kept: Partial<KeptBody> = {}, headers: string[] = []) {
  const x = exchangeFor(SNAPSHOT, { method: 'POST', headers })
  x.body = { whole, shortage: undefined, replaced: false, release() {}, ...kept }
  return x
}

t.test('the longest body that a hook takes decides how much is read', async (t) => {
  t.equal(mostWanted(undefined), 0)
  t.equal(mostWanted({ cost: [hook()] }), 0)
  t.equal(mostWanted({ onRequest: [hook(3)], cost: [hook(), hook(7)], onUpstreamRequest: [hook(5)] }), 7)
})

t.test('a hook gets bytes of its own, text, or a value that all hooks share', async (t) => {
  const whole = Buffer.from('{"price":"12 €"}')
  const x = exchangeWith(whole)
  const bytes = bodyFor(x, { max: 100, as: 'bytes' }) as { value: Buffer }
  t.same(bytes.value, whole)
  bytes.value.fill(0)
  t.equal(whole.toString(), '{"price":"12 €"}', 'the request keeps its own')
  t.same(bodyFor(x, { max: 100, as: 'text' }), { value: '{"price":"12 €"}' })
  const first = bodyFor(x, { max: 100, as: 'json' }) as { value: unknown }
  t.same(first.value, { price: '12 €' })
  t.equal((bodyFor(x, { max: 100, as: 'json' }) as { value: unknown }).value, first.value)
})

t.test('without a body there is nothing in each form', async (t) => {
  for (const x of [exchangeFor(SNAPSHOT), exchangeWith(Buffer.alloc(0))]) {
    t.same(bodyFor(x, { max: 1, as: 'bytes' }), { value: Buffer.alloc(0) })
    t.same(bodyFor(x, { max: 1, as: 'text' }), { value: '' })
    t.same(bodyFor(x, { max: 1, as: 'json' }), { value: undefined })
  }
})

t.test('what a hook cannot have is a refusal', async (t) => {
  t.match(bodyFor(exchangeWith(Buffer.from('four')), { max: 3, as: 'bytes' }), { code: 'payload_too_large' })
  t.match(bodyFor(exchangeWith(undefined), { max: 3, as: 'bytes' }), { code: 'payload_too_large' })
  t.match(bodyFor(exchangeWith(undefined, { shortage: 'caller' }), { max: 3, as: 'bytes' }), {
    code: 'share_exceeded',
    headers: ['Retry-After', '1'],
  })
  t.match(bodyFor(exchangeWith(undefined, { shortage: 'all' }), { max: 3, as: 'bytes' }), {
    code: 'overloaded',
  })
  const latin1 = exchangeWith(Buffer.from('{"a":"\xe9"}', 'latin1'))
  t.match(bodyFor(latin1, { max: 100, as: 'json' }), { code: 'bad_request' })
  for (const text of ['{', 'nul', '\ufeff{}', "{'a':1}"])
    t.match(bodyFor(exchangeWith(Buffer.from(text)), { max: 100, as: 'json' }), { code: 'bad_request' }, text)
})

t.test('a compressed body is bytes and nothing else', async (t) => {
  const gzip = ['Content-Encoding', 'gzip']
  const x = exchangeWith(Buffer.from('{}'), {}, gzip)
  t.same(bodyFor(x, { max: 100, as: 'bytes' }), { value: Buffer.from('{}') })
  for (const as of ['text', 'json'] as const) t.match(bodyFor(x, { max: 100, as }), { code: 'bad_request' })
  const identity = exchangeWith(Buffer.from('{}'), {}, ['Content-Encoding', 'identity'])
  t.same(bodyFor(identity, { max: 100, as: 'json' }), { value: {} })
  // One that another hook has put there is not.
  t.same(bodyFor(exchangeWith(Buffer.from('{}'), { replaced: true }, gzip), { max: 100, as: 'json' }), {
    value: {},
  })
})

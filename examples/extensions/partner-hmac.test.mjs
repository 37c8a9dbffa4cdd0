import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { runHook } from 'tidegate/extension/testing'
import extension from './partner-hmac.mjs'

const options = { secrets: { acme: 'acme-secret-0123456789' } }

/** Returns a request that acme has signed. */
function signed(path = '/orders', time = String(Math.floor(Date.now() / 1000))) {
  const signature = createHmac('sha256', options.secrets.acme).update(`${time}\nGET\n${path}`).digest('hex')
  return { path, headers: { 'X-Partner': 'acme', 'X-Timestamp': time, 'X-Signature': signature } }
}

test('a signed request is that of the partner', async () => {
  assert.deepEqual(await runHook(extension, 'identify', signed(), options), { consumer: 'acme' })
})

test('a request without a partner is left to the next kind of consumer', async () => {
  assert.equal(await runHook(extension, 'identify', {}, options), undefined)
})

test('another target, an old time and an unknown partner get 401', async () => {
  const old = signed('/orders', '1700000000')
  const other = { ...signed(), path: '/admin' }
  const unknown = { ...signed(), headers: { ...signed().headers, 'X-Partner': '__proto__' } }
  for (const request of [old, other, unknown])
    assert.equal((await runHook(extension, 'identify', request, options)).status, 401)
})

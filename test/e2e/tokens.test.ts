import t from 'tap'
import { request } from 'undici'
import { createKey, startJwksServer, tokenOf } from '../support/issuer.js'
import { startBackend, startProcess } from '../support/process.js'

t.test('a gateway knows its callers by tokens, and tells of their issuers', async (t) => {
  const key = createKey('ed25519', 'k1')
  const jwks = await startJwksServer(t, [key.jwk])
  const backend = await startBackend(t)
  const yaml = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free, pro]
consumers: [{ jwt: { issuer: id.example.com, audience: api, jwks_url: "${jwks.url}", tier: plan } }]
services: { api: { upstreams: [${backend.origin}], limits: { free: 1/day, pro: unlimited } } }
routes: [{ path: /*, service: api }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: 'id.example.com', aud: 'api', sub: 'alice', exp: now + 600 }
  const token = (plan: string) => tokenOf({ alg: 'EdDSA', kid: 'k1' }, { ...claims, plan }, key.privateKey)
  const running = await startProcess(t, yaml, {}, ['--workers', '2'])
  const send = async (authorization: string) => {
    const { statusCode, body } = await request(running.address, { headers: { authorization } })
    await body.dump()
    return statusCode
  }
  const pro = `Bearer ${token('pro')}`
  t.same([await send(pro), await send(pro), await send(pro)], [200, 200, 200])
  t.same([await send(`Bearer ${token('gold')}`), await send('Bearer opaque')], [200, 401])
  t.equal(jwks.asked(), 2, 'each worker has fetched the keys once')

  const { body } = await request(`${running.admin}/metrics`)
  const text = await body.text()
  const of = (name: string) =>
    Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(text)?.[1])
  const results = (result: string) =>
    of(`tidegate_jwt_tokens_total{issuer="id.example.com",result="${result}"}`)
  t.equal(results('cached') + results('verified'), 4)
  t.equal(of('tidegate_jwt_tokens_total{issuer="none",result="invalid"}'), 1)
  t.equal(of('tidegate_jwt_unknown_tiers_total{issuer="id.example.com"}'), 1)
  t.equal(of('tidegate_jwks_fetches_total{issuer="id.example.com",result="succeeded"}'), 2)
  t.equal(of('tidegate_jwks_keys{issuer="id.example.com"}'), 1)
  t.ok(of('tidegate_jwks_age_seconds{issuer="id.example.com"}') >= 0)

  const question = { url: '/', headers: [['authorization', pro]] }
  const explained = await request(`${running.admin}/explain`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(question),
  })
  t.match(await explained.body.json(), {
    consumer: 'alice',
    tier: 'pro',
    token: { issuer: 'id.example.com', claims: { sub: 'alice', plan: 'pro' } },
  })
})

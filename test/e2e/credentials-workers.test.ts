// Tests src/workers/shared-maps.ts
import t from 'tap'
import { request } from 'undici'
import { createKey, startJwksServer, tokenOf } from '../support/credentials/issuer.js'
import { eventually } from '../support/eventually.js'
import { startBackend, startProcess } from '../support/gateway/process.js'

const config = (upstream: string, jwks: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { timeout: 2s }
tiers: [free, pro]
consumers:
  - api_key: { store: true }
  - jwt: { issuer: id.example.com, audience: api, jwks_url: "${jwks}", tier: plan }
services:
  api: { upstreams: [${upstream}], limits: { free: 1/day, pro: unlimited } }
  often: { upstreams: [${upstream}], limits: { free: 1000/h, pro: 2000/h } }
routes: [{ path: /, service: api }, { path: /x, service: often }]
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off, level: fatal }
`

async function ask(address: string, key: string): Promise<number> {
  // Opens a new connection each time: any worker may accept it.
  const headers = { 'x-api-key': key, connection: 'close' }
  const { statusCode, body } = await request(`${address}/x`, { headers })
  await body.dump()
  return statusCode
}

async function json(address: string, method: 'GET' | 'POST' | 'DELETE' = 'GET', what?: object) {
  const sent =
    what === undefined ? {} : { body: JSON.stringify(what), headers: { 'content-type': 'application/json' } }
  const { body } = await request(address, { method, ...sent })
  // biome-ignore lint/suspicious/noExplicitAny: the test looks into it
  return (await body.json()) as any
}

t.test('two workers identify consumers by tokens and API keys', async (t) => {
  const signer = createKey('ed25519', 'k1')
  const jwks = await startJwksServer(t, [signer.jwk])
  const backend = await startBackend(t)
  const gateway = await startProcess(t, config(backend.origin, jwks.url), {}, ['--workers', '2'])

  await t.test('both workers verify JWTs, and the metrics name the issuers', async (t) => {
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: 'id.example.com', aud: 'api', sub: 'alice', exp: now + 600 }
    const token = (plan: string) =>
      tokenOf({ alg: 'EdDSA', kid: 'k1' }, { ...claims, plan }, signer.privateKey)
    const send = async (authorization: string) => {
      const { statusCode, body } = await request(gateway.address, { headers: { authorization } })
      await body.dump()
      return statusCode
    }
    const pro = `Bearer ${token('pro')}`
    t.same([await send(pro), await send(pro), await send(pro)], [200, 200, 200])
    t.same([await send(`Bearer ${token('gold')}`), await send('Bearer opaque')], [200, 401])
    t.equal(jwks.asked(), 2, 'each worker has fetched the keys once')

    const { body } = await request(`${gateway.admin}/metrics`)
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
    const explained = await request(`${gateway.admin}/explain`, {
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

  await t.test(
    'without Redis, workers copy API keys from the primary and report their last use to it',
    async (t) => {
      const { key, id } = await json(`${gateway.admin}/keys`, 'POST', { consumer: 'acme' })
      const statuses = async () =>
        new Set(await Promise.all(Array.from({ length: 20 }, () => ask(gateway.address, key))))
      t.same(await statuses(), new Set([200]))
      t.match(await json(`${gateway.admin}/keys/${id}`), { last_used: null })
      // The old workers report it when they leave.
      gateway.child.kill('SIGUSR2')
      const used = async () => (await json(`${gateway.admin}/keys/${id}`)).last_used !== null
      await eventually('the use is told', used, 20_000)
      t.same(await statuses(), new Set([200]), 'new workers begin with the keys')
      await json(`${gateway.admin}/keys/${id}`, 'DELETE')
      t.same(await statuses(), new Set([401]))
    },
  )
})

import t from 'tap'
import { type AccessSettings, createAccess } from '../../../src/admin/access/access.js'
import type { OidcSettings } from '../../../src/admin/access/oidc.js'
import { createKey, startJwksServer, tokenOf } from '../../support/credentials/issuer.js'
import { NOW, startAdmin } from '../../support/gateway/admin.js'

const ISSUER = 'https://id.example.com'
const key = createKey('p256', 'k1')

async function start(t: Parameters<typeof startAdmin>[0], changes: Partial<OidcSettings> = {}) {
  let now = NOW
  const issuer = await startJwksServer(t, [key.jwk])
  const oidc: OidcSettings = {
    issuer: ISSUER,
    audience: 'tidegate-admin',
    jwks_url: issuer.url,
    name: 'email',
    role: 'realm.groups',
    roles: { 'support desk': 'support', sre: 'operator', staff: 'viewer' },
    ...changes,
  }
  let settings: AccessSettings = { tokens: [], oidc }
  const warnings: { why?: string }[] = []
  const log = { info() {}, warn: (fields: object) => void warnings.push(fields) }
  const access = createAccess({ settings: () => settings, log, now: () => now })
  const admin = await startAdmin(t, { access })
  /** Makes a token of the provider, with other claims or another key. */
  function token(claims: object, by = key) {
    const common = { iss: ISSUER, aud: 'tidegate-admin', exp: now / 1000 + 300, email: 'sue@example.com' }
    return tokenOf({ alg: 'ES256', kid: by.kid }, { ...common, ...claims }, by.privateKey)
  }
  const ask = (bearer: string, method = 'GET', path = '/config') =>
    admin.call(method, path, { headers: { authorization: `Bearer ${bearer}` } })
  return {
    ...admin,
    issuer,
    warnings,
    token,
    ask,
    pass: (ms: number) => (now += ms),
    use: (next: AccessSettings) => (settings = next),
  }
}

const groups = (...of: string[]) => ({ realm: { groups: of } })

t.test('a token of the identity provider has the highest role that its claim lists', async (t) => {
  const { token, ask, deps } = await start(t)
  const statuses = async (claims: object) => {
    const bearer = token(claims)
    const tried = [
      ['GET', '/config'],
      ['DELETE', '/usage/payments/alice'],
      ['POST', '/config/reload'],
    ] as const
    return Promise.all(tried.map(async ([method, path]) => (await ask(bearer, method, path)).status))
  }
  t.strictSame(await statuses(groups('staff')), [200, 403, 403])
  t.strictSame(await statuses(groups('staff', 'support desk', 'others')), [200, 200, 403])
  t.strictSame(await statuses(groups('sre', 'staff')), [200, 200, 200])
  t.strictSame(await statuses({ realm: { groups: 'support desk' } }), [200, 200, 403], 'a text')
  t.strictSame(await statuses({ realm: { groups: 'x sre' } }), [200, 200, 200], 'with several in it')
  for (const none of [{}, groups(), groups('others', '__proto__'), { realm: { groups: { sre: true } } }])
    t.strictSame(await statuses(none), [403, 403, 403], JSON.stringify(none))
  const refused = await ask(token({}))
  t.match(refused.json.detail, /none of its claims gives oidc:sue@example\.com a role/)
  const lines = await deps.audit.stream().read({ since: 0, count: 10 })
  t.match(JSON.parse(lines[0]!.text), { who: 'oidc:sue@example.com' })
})

t.test('an invalid token is refused, and the log says why', async (t) => {
  const { token, ask, warnings, pass } = await start(t)
  const sre = groups('sre')
  const bad: [string, string, RegExp][] = [
    ['of another issuer', token({ ...sre, iss: 'https://evil.example' }), /issuer/],
    ['for another API', token({ ...sre, aud: 'api' }), /it is not for tidegate-admin/],
    ['by another key', token(sre, createKey('p256', 'k1')), /signature/],
    ['without a name', token({ ...sre, email: undefined }), /its email is no name/],
    ['by no key', `${token(sre).split('.').slice(0, 2).join('.')}.`.replace(/\.$/, '.AA'), /./],
  ]
  for (const [what, bearer, why] of bad) {
    const { status, headers } = await ask(bearer)
    t.match([status, headers['www-authenticate']], [401, /Bearer/], what)
    t.match(warnings.at(-1)?.why, why, what)
  }
  const good = token(sre)
  t.equal((await ask(good)).status, 200)
  pass(600_000)
  t.match(await ask(good), { status: 401, json: { detail: /has expired/ } })
})

t.test('guesses count as failed tries, expired tokens do not', async (t) => {
  const { token, ask } = await start(t)
  for (let i = 0; i < 12; i++)
    t.equal((await ask(token({ ...groups('sre'), jti: i, exp: NOW / 1000 - 3600 }))).status, 401)
  t.equal((await ask(token(groups('sre')))).status, 200)
  const foreign = createKey('p256', 'k1')
  for (let i = 0; i < 10; i++) await ask(token({ ...groups('sre'), jti: i }, foreign))
  t.match(await ask(token(groups('sre'))), { status: 429, headers: { 'retry-after': '60' } })
})

t.test('when the provider is away, its tokens get 503 and other tokens work', async (t) => {
  const { token, ask, issuer, use } = await start(t)
  issuer.answer((_req, res) => void res.writeHead(500).end())
  const refused = await ask(token(groups('sre')))
  t.match(refused, { status: 503, json: { code: 'issuer_unavailable' } })
  t.ok(Number(refused.headers['retry-after']) >= 1)
  use({ token: 'the-token-of-all-things', tokens: [] })
  t.equal((await ask('the-token-of-all-things')).status, 200)
  t.equal((await ask(token(groups('sre')))).status, 401, 'and after a reload without it, its tokens are none')
})

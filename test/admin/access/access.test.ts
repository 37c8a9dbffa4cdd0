// Tests src/admin/access/{actor,failed-tokens}.ts src/admin/auth-hook.ts
import { createHash } from 'node:crypto'
import t from 'tap'
import { type AccessSettings, createAccess } from '../../../src/admin/access/access.js'
import type { Role } from '../../../src/admin/access/roles.js'
import { accessOf, type CallOptions, NOW, startAdmin } from '../../support/gateway/admin.js'

const sha256 = (token: string) => createHash('sha256').update(token).digest('hex')
const bearer = (token: string) => `Bearer ${token}`
const as = (token: string, body?: unknown): CallOptions => ({
  headers: { authorization: bearer(token) },
  body,
})
const holder = (name: string, role: Role) => ({ name, role, sha256: sha256(`the-token-of-${name}`) })
const WANTED = { problem: { code: 'unauthorized' } }
const PEOPLE = {
  token: 'the-token-of-all-things',
  tokens: [holder('vera', 'viewer'), holder('sue', 'support'), holder('otto', 'operator')],
}

/** Highest right of each role, and one endpoint of each kind. */
const ALLOWED: readonly [role: Role, method: string, path: string, body?: unknown][] = [
  ['viewer', 'GET', '/config'],
  ['viewer', 'HEAD', '/config'],
  ['viewer', 'GET', '/metrics'],
  ['viewer', 'GET', '/audit'],
  ['viewer', 'GET', '/decisions/x'],
  ['viewer', 'GET', '/usage/payments/alice'],
  ['viewer', 'POST', '/explain', {}],
  ['support', 'DELETE', '/usage/payments/alice'],
  ['support', 'PUT', '/consumers/alice/tier', { tier: 'pro' }],
  ['support', 'DELETE', '/consumers/alice/tier'],
  ['operator', 'POST', '/config/reload'],
  ['operator', 'PUT', '/upstreams/payments/x', { state: 'drained' }],
]

t.test('each role may use its endpoints, and a refusal names the role it takes', async (t) => {
  const { call } = await startAdmin(t, { access: accessOf(PEOPLE) })
  const rank: Record<Role, number> = { viewer: 0, support: 1, operator: 2 }
  for (const [who, role] of [
    ['vera', 'viewer'],
    ['sue', 'support'],
    ['otto', 'operator'],
  ] as const) {
    for (const [needed, method, path, body] of ALLOWED) {
      const { status, json } = await call(method, path, as(`the-token-of-${who}`, body))
      const what = `${role}: ${method} ${path}`
      if (rank[role] >= rank[needed]) t.not(status, 403, what)
      else {
        const detail = `This request needs the role ${needed}, and ${who} has ${role}. Ask for that role (admin.tokens), or ask somebody who has it.`
        t.match({ status, json }, { status: 403, json: { code: 'forbidden', detail } }, what)
      }
    }
    t.equal((await call('PUT', '/nowhere', as(`the-token-of-${who}`))).status, 404, 'nothing at this path')
  }
  t.equal((await call('POST', '/config/reload', as('the-token-of-all-things'))).status, 200, 'admin.token')
  t.equal((await call('GET', '/nowhere')).status, 401, 'and to a stranger nothing is said of what is there')
})

t.test('the audit log has the name of the token', async (t) => {
  const { call } = await startAdmin(t, { access: accessOf(PEOPLE) })
  await call('PUT', '/consumers/alice/tier', as('the-token-of-sue', { tier: 'pro' }))
  await call('POST', '/config/reload', as('the-token-of-otto'))
  t.match((await call('GET', '/audit', as('the-token-of-vera'))).json.entries, [
    { who: 'otto', action: 'config.reload' },
    { who: 'sue', action: 'tier.set' },
  ])
})

t.test('the tokens of the current configuration hold', async (t) => {
  let settings: AccessSettings = { tokens: [] }
  const access = createAccess({ settings: () => settings, log: { info() {}, warn() {} } })
  t.ok(access.isOpen())
  t.same(access.identify(undefined, '127.0.0.1'), { who: 'loopback', role: 'operator' })
  settings = { tokens: [holder('sue', 'support')] }
  t.notOk(access.isOpen())
  t.match(access.identify(undefined, '127.0.0.1'), WANTED)
  t.same(access.identify(bearer('the-token-of-sue'), '127.0.0.1'), { who: 'sue', role: 'support' })
  settings = { tokens: [{ ...holder('sue', 'viewer') }] }
  t.same(access.identify(bearer('the-token-of-sue'), '127.0.0.1'), { who: 'sue', role: 'viewer' })
  settings = { token: 'the-token-of-all-things', tokens: [] }
  t.match(access.identify(bearer('the-token-of-sue'), '127.0.0.1'), WANTED, 'taken away')
})

t.test('an address that guesses tokens has to wait, whatever it sends', async (t) => {
  let now = NOW
  const warnings: object[] = []
  const access = createAccess({
    settings: () => PEOPLE_ONLY,
    log: { info() {}, warn: (fields) => void warnings.push(fields) },
    now: () => now,
  })
  const { call, deps } = await startAdmin(t, { access })
  for (let i = 0; i < 10; i++) t.equal((await call('GET', '/config', as(`guess-${i}`))).status, 401)
  now += 15_000
  for (const token of ['guess-10', 'the-token-of-otto']) {
    const refused = await call('PUT', '/consumers/alice/tier', as(token, { tier: 'pro' }))
    t.match(refused, {
      status: 429,
      headers: { 'retry-after': '45' },
      json: {
        code: 'too_many_attempts',
        detail: 'Too many wrong tokens came from this address; try again in 45 s.',
      },
    })
  }
  t.equal(deps.assignments.get('alice'), undefined)
  t.equal((await call('GET', '/config')).status, 401, 'a request without a token learns that it takes one')
  t.equal((await call('GET', '/healthz')).status, 200, 'probes go on')
  t.equal((await call('GET', '/')).status, 200, 'and so does the page')
  t.same(access.identify(bearer('the-token-of-otto'), '192.0.2.1'), { who: 'otto', role: 'operator' })
  now += 45_000
  t.equal((await call('GET', '/config', as('the-token-of-otto'))).status, 200, 'a minute later it is over')
  t.strictSame(warnings, [{ address: '127.0.0.1' }], 'one line says so')
})
const PEOPLE_ONLY = { tokens: PEOPLE.tokens }

t.test('a client with an old token does not lock out others at its address', async (t) => {
  const access = accessOf(PEOPLE)
  for (let i = 0; i < 1000; i++) t.match(access.identify(bearer('an-old-one'), '10.0.0.1'), WANTED)
  t.match(access.identify(bearer('the-token-of-vera'), '10.0.0.1'), { who: 'vera' })
})

t.test('wrong tokens are counted for each IPv4 address and IPv6 /64, in bounded memory', async (t) => {
  const access = accessOf(PEOPLE)
  const guess = (address: string, i: number) => access.identify(bearer(`guess-${i}`), address)
  for (let i = 0; i < 10; i++) guess(`2001:db8:1:2::${i + 1}`, i)
  t.match(guess('2001:db8:1:2:ffff::1', 10), { retryAfter: 60 })
  t.match(guess('2001:db8:1:3::1', 10), WANTED, 'the next /64')
  for (let i = 0; i < 10; i++) guess('::ffff:192.0.2.7', i)
  t.match(guess('192.0.2.7', 10), { retryAfter: 60 }, 'IPv4 in IPv6 is that address')
  for (let i = 0; i < 10; i++) guess('fe80::1%eth0', i)
  t.match(guess('fe80::2%eth0', 10), { retryAfter: 60 }, 'a zone is no other address')
  for (let i = 0; i < 10_000; i++) guess(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 0)
  t.match(guess('192.0.2.7', 11), WANTED, 'the first of very many addresses are forgotten')
})

import { join } from 'node:path'
import t from 'tap'
import { COMMANDS } from '../../src/cli/run-cli.js'
import { tidegate } from '../support/gateway/cli.js'
import { startWhole } from '../support/gateway/whole-gateway.js'
import { scratchFolder } from '../support/scratch.js'

/** What `--json` prints of these is no answer of the admin API: they ask nothing, or several times. */
const APART = ['check', 'config', 'plan', 'extension', 'import']
/** Commands without `--json`. */
const WITHOUT = ['start', 'schema', 'demo', 'demo-backend']

interface Asked {
  readonly args: readonly string[]
  /** Method and path of the same question to the admin API. */
  readonly api: string
  readonly body?: object
  /** Brings back what the command has removed, so that the API can remove it, too. */
  readonly before?: Omit<Asked, 'args'>
}

const LIMIT = ['acme', '--service', 'api', '--limit', 'minute']
const BOOST = { api: 'PUT /boosts/api/minute/consumer/acme', body: { by: 5, for: '1h' } }
const BAN = { api: 'PUT /bans/203.0.113.0%2F24', body: { for: '1h' } }
/** Stands for a key that the command has made, or the API. */
const KEY = ':key'
const ASKED: Readonly<Record<string, readonly Asked[]>> = {
  usage: [
    { args: ['api', 'acme'], api: 'GET /usage/api/acme' },
    { args: ['api', 'acme', '--tier', 'pro'], api: 'GET /usage/api/acme?tier=pro' },
    { args: ['api', 'acme', '--reset'], api: 'DELETE /usage/api/acme' },
  ],
  why: [
    { args: ['request-1'], api: 'GET /decisions/request-1' },
    { args: ['--consumer', 'acme'], api: 'GET /decisions?consumer=acme' },
  ],
  explain: [
    {
      args: ['GET', '/x', '-H', 'x-user-id: acme'],
      api: 'POST /explain',
      body: { method: 'GET', url: '/x', headers: [['x-user-id', 'acme']] },
    },
  ],
  tier: [
    { args: ['acme'], api: 'GET /consumers/acme/tier' },
    {
      args: ['acme', 'pro', '--for', '1h'],
      api: 'PUT /consumers/acme/tier',
      body: { tier: 'pro', for: '1h' },
    },
    {
      args: ['acme', '--remove'],
      api: 'DELETE /consumers/acme/tier',
      before: { api: 'PUT /consumers/acme/tier', body: { tier: 'pro' } },
    },
  ],
  boost: [
    { args: [...LIMIT, '--by', '5', '--for', '1h'], ...BOOST },
    { args: ['--list'], api: 'GET /boosts' },
    { args: [...LIMIT, '--remove'], api: 'DELETE /boosts/api/minute/consumer/acme', before: BOOST },
  ],
  override: [
    {
      args: [...LIMIT, '--amount', '5'],
      api: 'PUT /overrides/api/minute/consumer/acme',
      body: { amount: 5 },
    },
    { args: ['acme', '--list'], api: 'GET /overrides?consumer=acme' },
  ],
  key: [
    {
      args: ['create', '--consumer', 'acme', '--tier', 'pro'],
      api: 'POST /keys',
      body: { consumer: 'acme', tier: 'pro' },
    },
    { args: ['rotate', KEY], api: `POST /keys/${KEY}/rotate`, body: {} },
    { args: ['list'], api: 'GET /keys' },
    { args: ['revoke', KEY], api: `DELETE /keys/${KEY}` },
  ],
  ban: [
    { args: ['203.0.113.0/24', '--for', '1h'], ...BAN },
    { args: ['--list'], api: 'GET /bans' },
  ],
  unban: [{ args: ['203.0.113.0/24'], api: 'DELETE /bans/203.0.113.0%2F24', before: BAN }],
  store: [{ args: [], api: 'GET /store' }],
  upstreams: [
    { args: [], api: 'GET /upstreams' },
    {
      args: ['api', '--drain', '127.0.0.1:1'],
      api: 'PUT /upstreams/api/127.0.0.1:1',
      body: { state: 'drained' },
    },
  ],
  fleet: [{ args: [], api: 'GET /fleet' }],
  reload: [{ args: [], api: 'POST /config/reload' }],
  top: [{ args: ['--by', 'cost'], api: 'GET /top?by=cost&n=20' }],
  meter: [
    { args: [], api: 'GET /meter' },
    { args: ['acme'], api: 'GET /meter?consumer=acme' },
    {
      args: ['--resend', '2026-01-01..2026-01-02'],
      api: 'POST /meter/resend',
      body: { from: '2026-01-01', to: '2026-01-02' },
    },
  ],
  audit: [{ args: ['--action', 'tier'], api: 'GET /audit?action=tier' }],
  health: [{ args: [], api: 'GET /readyz' }],
}

/** Replaces what differs from one moment to the next, and from one key to another. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shapeOf(one)]))
  if (typeof value === 'number') return 'a number'
  return typeof value === 'string' && /^\d{4}-\d\d-\d\dT|^tg_live_|^[0-9a-f]{16}$/.test(value)
    ? 'varies'
    : value
}

t.test('--json prints the answer of the admin API', async (t) => {
  const folder = scratchFolder(t, 'json-')
  const gateway = await startWhole(
    t,
    `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
tiers: [free, pro]
default_tier: free
consumers:
  - api_key: { header: x-api-key, store: true }
  - header: { name: x-user-id, from: [anyone] }
services: { api: { upstreams: ["http://127.0.0.1:1"], limits: { free: 2/min, pro: 10/min } } }
routes: [{ path: /*, service: api }]
metering: { spool: { path: ${folder} }, to: { file: { path: ${join(folder, 'usage.jsonl')} } } }
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
`,
  )
  const headers = { 'x-user-id': 'acme', 'x-request-id': 'request-1' }
  await (await fetch(`${gateway.address}/x`, { headers })).text()
  const admin = gateway.admin.slice('http://'.length)

  async function callApi({ api, body }: Omit<Asked, 'args'>) {
    const [method, path] = api.split(' ') as [string, string]
    const response = await fetch(gateway.admin + path, {
      method,
      ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    })
    return response.json() as Promise<{ id?: string }>
  }

  const keys = { ofCommand: '', ofApi: '' }
  for (const [name, questions] of Object.entries(ASKED)) {
    for (const { args, api, body, before } of questions) {
      const own = args.map((arg) => arg.replace(KEY, keys.ofCommand))
      const { stdout, stderr } = await tidegate([name, ...own, '--json', '--admin', admin])
      t.match(stdout, /^\{/, `${name} ${own.join(' ')} ${stderr}`)
      const printed = JSON.parse(stdout) as { id?: string }
      if (before !== undefined) await callApi(before)
      const answered = await callApi({ api: api.replace(KEY, keys.ofApi), ...(body && { body }) })
      t.strictSame(shapeOf(printed), shapeOf(answered), `${name} ${args.join(' ')} is ${api}`)
      if (name === 'key' && api.startsWith('POST'))
        Object.assign(keys, { ofCommand: printed.id, ofApi: answered.id })
    }
  }
  const known = [...Object.keys(ASKED), ...APART, ...WITHOUT]
  t.strictSame(Object.keys(COMMANDS).toSorted(), known.toSorted(), 'each command is in one of the lists')
})

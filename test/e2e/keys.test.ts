// Tests src/cli/commands/key.ts
import t, { type Test } from 'tap'
import { request } from 'undici'
import { createKey } from '../../src/credentials/key-format.js'
import { startGateway } from '../../src/main.js'
import { eventually } from '../support/eventually.js'
import { tidegate } from '../support/gateway/cli.js'
import { startBackend } from '../support/gateway/process.js'
import { hasRedisServer, ownRedis } from '../support/redis/redis.js'

const skip = hasRedisServer ? false : 'needs a redis-server on the PATH to stop and restart'

const config = (upstream: string, redis: string) => `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { redis: "${redis}", timeout: 2s }
tiers: [free, pro]
consumers: [{ api_key: { store: true } }]
services: { api: { upstreams: [${upstream}], limits: { free: 1000/h, pro: 2000/h } } }
routes: [{ path: /*, service: api }]
decisions: { sample: 1 }
server: { shutdown_delay: 0, shed: { event_loop_delay: 0 } }
log: { access: off, level: fatal }
`

async function ask(address: string, key: string, more: Record<string, string> = {}) {
  const headers = { 'x-api-key': key, connection: 'close', ...more }
  const { statusCode: status, body, headers: told } = await request(`${address}/x`, { headers })
  return { status, policy: String(told['ratelimit-policy']), text: await body.text() }
}

async function json(address: string, method: 'GET' | 'POST' = 'GET', what?: object) {
  const sent =
    what === undefined ? {} : { body: JSON.stringify(what), headers: { 'content-type': 'application/json' } }
  const { body } = await request(address, { method, ...sent })
  // biome-ignore lint/suspicious/noExplicitAny: the test looks into it
  return (await body.json()) as any
}

t.test('two gateways share API keys of the store, though one hears no messages', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const backend = await startBackend(t)
  await redis.client.call('ACL', 'SETUSER', 'deaf', 'on', '>pw', '~*', '+@all', 'resetchannels', '&tier:*')
  const deaf = redis.url.replace('://', '://deaf:pw@')
  const folder = t.testdir({
    'a.yaml': config(backend.origin, redis.url),
    'b.yaml': config(backend.origin, deaf),
  })
  const gateways: { close(delayMs: number): Promise<void> }[] = []
  t.teardown(() => Promise.all(gateways.map((one) => one.close(0))))
  async function open(name: string) {
    const gateway = await startGateway({ configFile: `${folder}/${name}.yaml` })
    gateways.push(gateway)
    return gateway
  }
  const [a, b] = [await open('a'), await open('b')]
  const key = (...args: string[]) => tidegate(['key', ...args, '--config', `${folder}/a.yaml`])
  /** Longest time until both gateways answer so, in ms. */
  async function everywhere(t: Test, key: string, status: number): Promise<void> {
    const started = performance.now()
    for (const [name, { address }] of Object.entries({ a, b })) {
      await eventually(`${status} of ${name}`, async () => (await ask(address, key)).status === status)
      t.comment(`${status} of ${name} after ${(performance.now() - started).toFixed(0)} ms`)
    }
  }
  const issued = ({ stdout, stderr }: { stdout: string; stderr: string }) => ({
    key: stdout.trim(),
    id: /key (\w{16}) of/.exec(stderr)?.[1] ?? '',
  })

  const made = await key('create', '--consumer', 'acme', '--tier', 'pro', '--scopes', 'a:read,a:write')
  t.match(made, {
    code: 0,
    stderr: /^key \w{16} of acme, tier pro, without end\. It is shown only once\.\n$/,
  })
  const first = issued(made)

  await t.test('a new key works on both gateways with its tier, and explain names the key', async (t) => {
    await everywhere(t, first.key, 200)
    const { policy } = await ask(a.address, first.key, { 'x-request-id': 'by-key' })
    t.match(policy, /q=2000/)
    t.match(await json(`${a.adminAddress}/decisions/by-key`), {
      consumer: 'acme',
      identified_by: 'api_key',
      key_id: first.id,
      tier: 'pro',
    })
    const why = await tidegate(['why', 'by-key', '--admin', a.adminAddress.replace('http://', '')])
    t.match(why.stdout, `consumer  acme, by API key ${first.id}, from 127.0.0.1`)
    t.notMatch(why.stdout, first.key)
    const headers = [['x-api-key', first.key]]
    const told = await json(`${a.adminAddress}/explain`, 'POST', { method: 'GET', url: '/x', headers })
    t.match(told, { consumer: 'acme', key_id: first.id, tier: 'pro', status: 0 })
    t.equal((await ask(a.address, createKey())).status, 401)
  })

  await t.test('after a rotation both keys work; after a revocation the old one does not', async (t) => {
    const rotated = await key('rotate', first.id, '--overlap', '1h', '--reason', 'quarterly')
    t.match(rotated, { code: 0, stderr: /The old key \w{16} works until/ })
    const second = issued(rotated)
    await everywhere(t, second.key, 200)
    await everywhere(t, first.key, 200)
    const list = JSON.parse((await key('list', '--consumer', 'acme', '--json')).stdout)
    t.equal(list.keys.length, 2)
    const keyOf = ({ id }: { id: string }) => list.keys.find((one: { id: string }) => one.id === id)
    t.match(keyOf(first), { replaced_by: second.id })
    t.match(keyOf(second), { scopes: ['a:read', 'a:write'] })
    const table = (await key('list')).stdout
    t.match(table, /^id +consumer +tier +scopes +created +expires +last used\n/)
    t.match(table, `then ${second.id}`)
    t.match(await key('revoke', first.id), { code: 0, stdout: `${first.id} of acme is revoked\n` })
    await everywhere(t, first.key, 401)
    t.equal((await ask(b.address, second.key)).status, 200)
    t.match(await key('revoke', first.id), { code: 1, stderr: /No key/ })
    const audit = await tidegate(['audit', '--target', 'acme', '--config', `${folder}/a.yaml`])
    t.match(audit.stdout, /key\.create.*\n.*key\.rotate.*quarterly\n.*key\.revoke/)
  })

  await t.test(
    'while Redis is away, known keys work; a gateway that has loaded none answers 503',
    async (t) => {
      const third = issued(await key('create', '--consumer', 'carl'))
      await everywhere(t, third.key, 200)
      await redis.stop()
      t.equal((await ask(a.address, third.key)).status, 200)
      t.equal((await ask(a.address, createKey())).status, 401, 'one that was loaded before knows what it has')
      const late = await open('a')
      const { status, text } = await ask(late.address, third.key)
      t.equal(status, 503)
      t.match(JSON.parse(text), { code: 'identity_unavailable' })
      t.equal((await ask(late.address, 'guess')).status, 401)
      t.match(await json(`${late.adminAddress}/readyz`), {
        reasons: [/store/, /assignments/, /API keys are not/],
      })
      t.match(await json(`${late.adminAddress}/keys`, 'POST', { consumer: 'dora' }), { status: 503 })
      await redis.restart()
      // Redis is empty now. The other gateways still know the keys and say so.
      await eventually('200', async () => (await ask(late.address, third.key)).status === 200)
    },
  )
})

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FleetAnswer } from '../../../src/admin/routes/fleet.js'
import { readVersion } from '../../../src/version.js'
import { eventually } from '../../support/eventually.js'
import { freePort } from '../../support/free-port.js'
import { tidegate } from '../../support/gateway/cli.js'
import { withPaths } from '../../support/gateway/paths.js'
import { startWhole } from '../../support/gateway/whole-gateway.js'
import { startRedis, type TestRedis } from '../../support/redis/redis.js'

function config(redis: string, admin: string, instance: string, limit: string, more: string) {
  return `
listen: 127.0.0.1:0
admin: { listen: "${admin}" }
store: { redis: "${redis}", timeout: 2s }
tiers: [free]
services: { api: { upstreams: [http://127.0.0.1:9], limits: { free: ${limit} } } }
routes: [{ path: /*, service: api }]
server: { shed: { event_loop_delay: 0 } }
log: { access: off }
instance: ${instance}
${more}`
}

async function start(t: Test, redis: TestRedis, name: string, more = '') {
  const of = (limit: string) => config(redis.url, '127.0.0.1:0', name, limit, more)
  const { configFile, admin } = await startWhole(t, of('10/min'))
  return {
    at: ['--admin', admin.replace('http://', '')],
    configFile,
    change: (limit: string) => writeFileSync(configFile, withPaths(of(limit))),
  }
}

const fleet = (...args: string[]) => tidegate(['fleet', ...args])

async function read(...args: string[]): Promise<FleetAnswer> {
  return JSON.parse((await fleet('--json', ...args)).stdout)
}

t.test(
  'tidegate fleet shows the gateways on a store, and waits until all have a configuration',
  async (t) => {
    const redis = await startRedis(t)
    const one = await start(t, redis, 'gw-1')
    const two = await start(t, redis, 'gw-2')
    const canary = await start(t, redis, 'gw-3', 'group: canary')
    await eventually('all are there', async () => (await read(...one.at)).gateways.length === 3)
    const shown = await fleet(...one.at)
    t.equal(shown.code, 0)
    t.match(shown.stdout, '3 gateways, 2 groups, 1 configuration, 1 version.\n')
    t.match(
      shown.stdout,
      new RegExp(`^ {2}gw-1 +${readVersion()} +[0-9a-f]{12} +\\d+ s +serving +0 s +0$`, 'm'),
    )
    t.match(await read(...one.at, '--group', 'canary'), { node: 'gw-1', gateways: [{ name: 'gw-3' }] })

    one.change('20/min')
    const hash = (await tidegate(['check', '--hash', '--config', one.configFile])).stdout.trim()
    await eventually('gw-1 has it', async () => (await read(...one.at)).gateways[0]!.config.hash === hash)
    const short = await fleet('--wait', hash, '--timeout', '1ms', ...one.at)
    t.equal(short.code, 1)
    t.match(short.stdout, `after 1ms: 1 of 3 gateways have ${hash}\n`)
    t.match(short.stdout, /gw-2 .* it has not loaded it\n/)

    two.change('2x0/min')
    await eventually(
      'it is rejected',
      async () => (await read(...one.at)).gateways[1]!.config.rejected !== null,
    )
    const told = await fleet('--wait', hash, '--timeout', '1ms', ...one.at)
    t.match(
      told.stdout,
      /gw-2 .* rejected its file \d+ s ago: \S+:6:\d+: services\.api\.limits\.free: "2x0\/min"/,
    )

    const waiting = fleet('--wait', hash, ...one.at)
    two.change('20/min')
    await eventually('gw-2 has it', async () => (await read(...one.at)).gateways[1]!.config.hash === hash)
    canary.change('20/min')
    const done = await waiting
    t.match(done, { code: 0, stdout: `3 of 3 gateways have ${hash}\n` })
    t.match(done.stderr, `tidegate fleet: 2 of 3 gateways have ${hash}\n`, 'it says how far it is')
    const of = await fleet('--wait', hash, '--group', 'canary', '--json', ...one.at)
    t.match({ ...of, stdout: JSON.parse(of.stdout) }, { code: 0, stdout: { complete: true, gateways: 1 } })
    t.match((await fleet('--receipts', ...one.at)).stdout, new RegExp(`Z {2}${hash} +gw-2\\n`))

    const nobody = join(
      t.testdir({ 'tidegate.yaml': config(redis.url, '127.0.0.1:1', 'x', '1/s', '') }),
      'tidegate.yaml',
    )
    const overStore = await read('--config', nobody)
    t.match(overStore, { node: null, gateways: [{}, {}, { name: 'gw-3' }], problem: null })
  },
)

t.test('tidegate fleet --wait says that it cannot see all gateways', async (t) => {
  const hash = '0123456789ab'
  const one = { name: 'gw-1', group: null, config: { hash, others: [], rejected: null } }
  const unknown = { processes: 0, names: [] }
  const answer = { gateways: [one], left_out: 2, unknown, libraries: 0, problem: null }
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer))
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const at = ['--admin', `127.0.0.1:${(server.address() as AddressInfo).port}`]
  t.match(await fleet('--wait', hash, '--timeout', '1ms', ...at), {
    code: 1,
    stdout: /^after 1ms: there are more gateways than the 1 that are listed\n/,
  })
})

t.test('tidegate fleet refuses wrong use, and says when nothing answers', async (t) => {
  t.match(await fleet('--wait', 'latest'), { code: 2, stderr: /--wait needs a hash of 12 digits/ })
  t.match(await fleet('--timeout', '1m'), { code: 2, stderr: /--timeout needs --wait/ })
  t.match(await fleet('--wait', '0123456789ab', '--timeout', '5'), {
    code: 2,
    stderr: /--timeout needs a duration/,
  })
  t.match(await fleet('--wait', '0123456789ab', '--receipts'), { code: 2, stderr: /exclude each other/ })
  const at = ['--admin', `127.0.0.1:${await freePort()}`]
  t.match(await fleet(...at), { code: 1, stderr: /no gateway answers/ })
  t.match(await fleet('--wait', '0123456789ab', '--timeout', '1ms', ...at), {
    code: 1,
    stderr: /no gateway answers/,
  })
})

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { loadConfig } from '../../src/config/load/load.js'
import { isOnPath } from '../support/redis/redis.js'

const RUN = fileURLToPath(new URL('../../load/run.mjs', import.meta.url))
/** Looks for the program without starting it: its version takes Locust half a second of CPU. */
const hasLocust = (process.env.PATH ?? '')
  .split(delimiter)
  .some((folder) => existsSync(join(folder, 'locust')))
const skip =
  hasLocust && isOnPath('redis-server') ? false : 'no locust, or no redis-server; install python3-locust'

function load(...args: string[]) {
  return spawnSync(process.execPath, [RUN, ...args], { encoding: 'utf8' })
}

t.test('Locust and two gateways count the same requests, status by status', { skip }, async (t) => {
  let run = load('check')
  // Some user reaches a limit within three seconds, and on a busy machine later.
  for (const seconds of ['15', '60']) {
    if (/^payments 429 /m.test(run.stdout)) break
    run = load('check', '--seconds', seconds)
  }
  const { status, stdout, stderr } = run
  t.equal(status, 0, stdout + stderr)
  const rows = [...stdout.matchAll(/^(payments|marketing|parallel) (200|429) +(\d+) +(\d+)$/gm)]
  t.ok(rows.length >= 3, stdout)
  for (const [row, , , locust, gateway] of rows) t.equal(locust, gateway, row)
  t.match(stdout, /^payments 429 /m, 'some user was limited')
  t.match(stdout, /^decided without store +0$/m)
  t.match(stdout, /^holds$/m)
})

t.test('an unknown scenario is wrong use', async (t) => {
  const { status, stderr } = load('d')
  t.equal(status, 2)
  t.match(stderr, /^there is no scenario d\n\nUsage: npm run load/)
})

t.test('the configuration of the load test is valid', async (t) => {
  const file = fileURLToPath(new URL('../../load/tidegate.yaml', import.meta.url))
  const env = {
    TIDEGATE_ADMIN_TOKEN: 'only-of-this-machine',
    REDIS_URL: 'redis://redis:6379',
    PAYMENTS_URL: 'http://payments:9001',
    MARKETING_URL: 'http://marketing:9002',
  }
  t.match(loadConfig(readFileSync(file, 'utf8'), { file, env }), { ok: true })
})

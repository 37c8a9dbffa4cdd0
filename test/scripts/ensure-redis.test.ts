import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { refusingPort } from '../support/http/hanging-listener.js'
import { startRedis } from '../support/redis/redis.js'

const script = fileURLToPath(new URL('../../scripts/ensure-redis.mjs', import.meta.url))

/** Runs the check on a machine that has no commands at all. */
function check(redisUrl?: string): SpawnSyncReturns<string> {
  const env = { PATH: '/nonexistent', ...(redisUrl === undefined ? {} : { REDIS_URL: redisUrl }) }
  return spawnSync(process.execPath, [script], { encoding: 'utf8', env, timeout: 60_000 })
}

t.test('says in one line what to install when there is no Redis', async (t) => {
  const { status, stdout, stderr } = check()
  t.equal(status, 1)
  t.equal(stdout, '')
  t.equal(
    stderr,
    'the tests need Redis: install redis-server (Debian: apt-get install redis-server, macOS: brew install redis) or set REDIS_URL\n',
  )
})

t.test('says that nothing answers at REDIS_URL, without showing its password', async (t) => {
  const { port } = await refusingPort()
  const { status, stderr } = check(`redis://user:secret@127.0.0.1:${port}`)
  t.equal(status, 1)
  t.equal(stderr, `no Redis answers at 127.0.0.1:${port} (REDIS_URL); start it, or install redis-server\n`)
})

t.test('accepts a Redis at REDIS_URL', async (t) => {
  const { url, host, port } = await startRedis(t)
  t.match(check(url), { status: 0, stdout: `Redis at ${host}:${port} (REDIS_URL)\n`, stderr: '' })
})

t.test('refuses a malformed REDIS_URL', async (t) => {
  t.match(check('not a url'), {
    status: 1,
    stderr: 'REDIS_URL is not a URL; write it like redis://127.0.0.1:6379\n',
  })
})

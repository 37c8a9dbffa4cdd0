import { fileURLToPath } from 'node:url'
import t from 'tap'
import { isOnPath } from '../../support/redis/redis.js'

/** Runs the same tests against Valkey, another server that speaks Redis' protocol. */
const SERVER = 'valkey-server'

if (!isOnPath(SERVER)) {
  t.comment(`${SERVER} is not on the PATH: not tested; install it (Debian: apt-get install valkey-server)`)
  t.pass(`${SERVER} is not there`)
} else {
  t.comment(`${SERVER} is on the PATH: tested`)
  const file = fileURLToPath(new URL('../../../dist-test/limiter/redis/valkey-suites.js', import.meta.url))
  const env = { ...process.env, TIDEGATE_TEST_REDIS_SERVER: SERVER }
  t.spawn(process.execPath, [file], { env }, `redis.test.ts and scripts.test.ts on ${SERVER}`)
}

import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { connectStore, type StoreAddress } from '../../../src/limiter/redis/connect.js'
import { makeCertificates } from '../../support/credentials/certificates.js'
import { eventually } from '../../support/eventually.js'
import { freePort } from '../../support/free-port.js'
import { hasRedisServer, ownRedis } from '../../support/redis/redis.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT, policy, SLOWEST, serviceWhich, slowest, traffic, used } from '../contract/traffic.js'

const skip = hasRedisServer ? false : 'needs a redis-server on the PATH'
const service = serviceWhich('open')

/** Starts a server that takes TLS on a second port, and asks for a certificate there, as Redis does by default. */
async function open(t: Test) {
  const files = makeCertificates(t)
  const port = await freePort()
  const redis = await ownRedis(t, [
    ...['--tls-port', String(port), '--tls-ca-cert-file', files.ca],
    ...['--tls-cert-file', files.cert, '--tls-key-file', files.key],
  ])
  return { redis, files, url: `rediss://127.0.0.1:${port}` }
}

t.test(
  'the limiter counts over TLS with its own CA, a client certificate and a server name',
  { skip },
  async (t) => {
    const { redis, files, url } = await open(t)
    const { limiter } = openLimiter(
      t,
      { redis: url, tls: { ...files, server_name: 'redis.internal' } },
      PATIENT,
    )
    await limiter.ready
    const all = await traffic(limiter, 200)
    t.ok(all.every(({ decision }) => decision.decidedBy === 'store'))
    t.equal(await used(limiter, 'alice'), all.length)
    await redis.stop()
    const during = await traffic(limiter, 200)
    t.ok(during.every(({ decision }) => decision.allowed))
    t.ok(slowest(during) < SLOWEST, 'no decision waits for the timeout')
    await redis.restart()
    while ((await limiter.take(service, policy, 'bob', 1)).decidedBy !== 'store') await delay(5)
  },
)

t.test(
  'an untrusted, mismatched or missing certificate degrades decisions, and the log says why',
  { skip },
  async (t) => {
    const { files, url } = await open(t)
    const named = { ...files, server_name: 'redis.internal' }
    const cases: [StoreAddress['tls'], RegExp][] = [
      [{ cert: files.cert, key: files.key, server_name: 'redis.internal' }, /certificate/i],
      [{ ...named, server_name: 'other.internal' }, /altnames|does not match/i],
      [{ ca: files.ca, server_name: 'redis.internal' }, /certificate|alert|ECONNRESET|EPIPE/i],
    ]
    await Promise.all(
      cases.map(async ([tls, why]) => {
        const { limiter, log } = openLimiter(t, { redis: url, tls })
        const told = () => log.filter(({ message }) => message === 'no connection to the store')
        await eventually('the log tells why', () => why.test(JSON.stringify(told())))
        t.match(await limiter.take(service, policy, 'alice', 1), {
          allowed: true,
          decidedBy: 'open',
          reason: 'breaker',
        })
        t.match(JSON.stringify(told()), why)
      }),
    )
  },
)

t.test('an unreadable file is an error at the start', async (t) => {
  const quiet = { info() {}, warn() {} }
  const tls = { ca: '/nonexistent/ca.pem' }
  t.throws(() => connectStore({ redis: 'rediss://127.0.0.1:1', tls }, quiet), {
    message: /store\.tls\.ca names \/nonexistent\/ca\.pem, which the gateway cannot read \(ENOENT\); name/,
  })
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { eventually } from '../eventually.js'
import { within } from '../within.js'
import { hasRedisServer, startRedis, type TestRedis } from './redis.js'

const skip = hasRedisServer ? false : 'needs a redis-server on the PATH'

interface Borrowed {
  readonly redis: TestRedis
  /** Runs the teardown of the test that has borrowed it. */
  giveBack(): Promise<unknown>
}

async function borrow(): Promise<Borrowed> {
  let giveBack = async (): Promise<unknown> => undefined
  const redis = await startRedis({
    teardown(fn) {
      giveBack = async () => fn()
    },
  })
  return { redis, giveBack: () => giveBack() }
}

/** Leaves a client of the test connected when the server is returned. */
function forget(t: Test, { port }: TestRedis): Redis {
  const client = new Redis(port, '127.0.0.1', { retryStrategy: () => null, disconnectTimeout: 100 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

t.test('a borrower finds nothing that the previous one left', { skip }, async (t) => {
  const first = await borrow()
  const { client, port } = first.redis
  await client.set('key', 'value')
  await client.select(3)
  await client.set('key', 'value')
  const script = String(await client.script('LOAD', 'return 1'))
  const subscribed = forget(t, first.redis)
  await subscribed.subscribe('channel')
  const connected = forget(t, first.redis)
  await connected.xadd('stream', '*', 'a', 'b')
  const reading = connected.xread('BLOCK', 0, 'STREAMS', 'stream', '$').catch((error: Error) => error.message)
  await first.giveBack()
  t.match(await reading, /Connection is closed/)

  const second = await borrow()
  const next = second.redis.client
  t.equal(second.redis.port, port, 'the same server')
  t.equal(await next.get('key'), null)
  t.notMatch(await next.info('keyspace'), /db\d/)
  t.same(await next.script('EXISTS', script), [0])
  t.same(await next.pubsub('CHANNELS'), [])
  t.notMatch(await next.info('commandstats'), /cmdstat_xadd/)
  const clients = String(await next.client('LIST'))
    .trim()
    .split('\n')
  t.equal(clients.length, 1, 'only its own connection')
  await second.giveBack()
})

t.test('two tests that borrow at the same time get two servers', { skip }, async (t) => {
  const both = await Promise.all([borrow(), borrow()])
  const [one, other] = both.map(({ redis }) => redis)
  t.not(one!.port, other!.port)
  await one!.client.set('key', 'value')
  t.equal(await other!.client.get('key'), null)
  for (const { giveBack } of both) await giveBack()
})

t.test('a server that cannot be reset fails the test, and is not lent again', { skip }, async (t) => {
  const changes: readonly [(redis: TestRedis) => unknown, RegExp][] = [
    [({ client }) => client.config('SET', 'maxmemory', '1gb'), /take ownRedis/],
    [({ client }) => client.call('ACL', 'SETUSER', 'somebody', 'on'), /take ownRedis/],
  ]
  for (const [change, message] of changes) {
    const { redis, giveBack } = await borrow()
    await change(redis)
    await t.rejects(giveBack(), { message })
    const next = await borrow()
    t.not(next.redis.port, redis.port)
    await next.giveBack()
  }
})

t.test('a process with an idle server ends, and the server with it', { skip }, async (t) => {
  const pool = JSON.stringify(new URL('../../../dist-test/support/redis/redis-pool.js', import.meta.url).href)
  const script = `
    import { returnRedis, takeRedis } from ${pool}
    const server = await takeRedis()
    await returnRedis(server)
    console.log(server.port)
  `
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let port = ''
  child.stdout.on('data', (data) => {
    port += data
  })
  t.strictSame(await within(60_000, 'its end', once(child, 'close')), [0, null])
  // It got the signal before, and takes a moment to die.
  await eventually('nothing listens there', async () => {
    const socket = connect(Number(port), '127.0.0.1')
    const refused = once(socket, 'connect').then(
      () => false,
      ({ code }) => code === 'ECONNREFUSED',
    )
    return refused.finally(() => socket.destroy())
  })
})

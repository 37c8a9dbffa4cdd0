import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.js'
import { hasRedisServer, ownRedis, startRedis, type TestRedis } from '../../support/redis/redis.js'
import { policyOf, serviceOf } from '../contract/build.js'
import { openLimiter } from '../contract/open-limiter.js'
import { PATIENT, policy, serviceWhich, used } from '../contract/traffic.js'

const service = serviceWhich('open')
const skip = hasRedisServer ? false : 'needs a redis-server of its own'

t.jobs = 4

/** Lists the gateway's connections, as Redis sees them. */
async function connections({ client }: TestRedis) {
  const list = String(await client.call('CLIENT', 'LIST'))
  const all = list.split('\n').filter((line) => / name=tidegate /.test(line))
  const idOf = (line: string) => /^id=(\d+)/.exec(line)![1]!
  return {
    all: all.length,
    takes: all.filter((line) => / cmd=eval/.test(line)).map(idOf),
    dbs: all.map((line) => / db=(\d+)/.exec(line)![1]),
    protocols: all.map((line) => / resp=(\d+)/.exec(line)![1]),
  }
}

type Kind = 'takes' | 'rest'

/** Starts a proxy that can make either connection silent, as a network that drops its packets does. */
async function silencing(t: Test, target: number) {
  const sockets = new Map<Socket, Kind>()
  let silent: Kind | undefined
  let accepted = 0
  const server = createServer((near) => {
    accepted++
    const far = connect(target, '127.0.0.1')
    sockets.set(near, 'takes')
    near.on('data', (data) => {
      if (/INFO|info/.test(data.toString('latin1'))) sockets.set(near, 'rest')
      if (sockets.get(near) !== silent) far.write(data)
    })
    far.on('data', (data) => {
      if (sockets.get(near) !== silent) near.write(data)
    })
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => {})
      one.on('close', () => other.destroy())
    }
    near.on('close', () => sockets.delete(near))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets.keys()) socket.destroy()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    accepted: () => accepted,
    silence(kind: Kind | undefined) {
      silent = kind
    },
  }
}

t.test('takes have a connection of their own, or none with own_connection off', { skip }, async (t) => {
  for (const ownConnection of [true, false]) {
    const redis = await ownRedis(t)
    const { limiter } = openLimiter(t, redis.url, PATIENT, { ownConnection })
    await limiter.ready
    await limiter.take(service, policy, 'alice', 1)
    const { all, takes } = await connections(redis)
    t.equal(all, ownConnection ? 2 : 1)
    t.equal(takes.length, 1)
    await limiter.close()
    await eventually('it is closed', async () => (await connections(redis)).all === 1)
  }
})

t.test('it logs in as the other one does: user, password, database, name', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.call('ACL', 'SETUSER', 'gäteway', 'on', '>pässword %', '~*', '&*', '+@all')
  const login = `${encodeURIComponent('gäteway')}:${encodeURIComponent('pässword %')}`
  const { limiter, log } = openLimiter(t, `redis://${login}@127.0.0.1:${redis.port}/3`, PATIENT)
  await limiter.ready
  await limiter.take(service, policy, 'alice', 1)
  t.equal(await used(limiter, 'alice'), 1)
  const { dbs, protocols } = await connections(redis)
  t.same(dbs, ['3', '3'])
  t.same(protocols.sort(), ['2', '3'])
  t.same(
    log.filter(({ level }) => level === 'warn'),
    [],
  )
})

t.test('a password that the server does not want does no harm', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const { limiter } = openLimiter(t, `redis://:unasked@127.0.0.1:${redis.port}`, PATIENT)
  await limiter.ready
  t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'store')
})

t.test('when it alone is lost, it alone is made again', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const { limiter, log } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  const [id] = (await connections(redis)).takes
  const before = String(await redis.client.call('CLIENT', 'LIST'))
  await redis.client.call('CLIENT', 'KILL', 'ID', id!)
  await eventually('the loss is noticed', () => limiter.state() === 'degraded')
  await eventually('it is back', () => limiter.state() === 'up')
  const events = log.flatMap(({ fields }) => (fields.event === undefined ? [] : [fields]))
  t.match(events, [{ event: 'degraded', reason: 'connection' }, { event: 'recovered' }])
  const kept = (await redis.client.call('CLIENT', 'LIST')) as string
  const rest = /^id=(\d+) .* name=tidegate .* cmd=(?!eval)/m.exec(before)![1]
  t.match(kept, new RegExp(`^id=${rest} `, 'm'), 'the other one stayed')
})

t.test('the log calls it a lost connection, however many calls are in flight', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const { limiter, log } = openLimiter(t, redis.url, PATIENT, { batch: 1, merge: false })
  await limiter.ready
  const [id] = (await connections(redis)).takes
  await redis.client.call('CLIENT', 'PAUSE', '10000', 'WRITE')
  const taken = Array.from({ length: 5 }, () => limiter.take(service, policy, 'alice', 1))
  await new Promise((resolve) => setTimeout(resolve, 50))
  await redis.client.call('CLIENT', 'KILL', 'ID', id!)
  for (const decision of await Promise.all(taken)) t.match(decision, { decidedBy: 'open', reason: 'error' })
  t.match(
    log.find(({ fields }) => fields.event === 'degraded'),
    { fields: { reason: 'connection' } },
  )
  await redis.client.call('CLIENT', 'UNPAUSE')
})

t.test('a password that is refused to it is logged, and not tried all the time', { skip }, async (t) => {
  const redis = await ownRedis(t)
  const { limiter, log } = openLimiter(t, `redis://default:first@127.0.0.1:${redis.port}`)
  await limiter.ready
  await redis.client.config('SET', 'requirepass', 'second')
  const [id] = (await connections(redis)).takes
  await redis.client.call('CLIENT', 'KILL', 'ID', id!)
  await eventually('it is refused', () => log.some(({ fields }) => /WRONGPASS/.test(String(fields.error))))
  t.notMatch(JSON.stringify(log), /first/)
  const received = async () =>
    Number(/total_connections_received:(\d+)/.exec(await redis.client.info('stats'))?.[1])
  const before = await received()
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.ok((await received()) - before <= 1)
  await redis.client.config('SET', 'requirepass', 'first')
  await eventually('it is let in', () => limiter.state() === 'up')
})

t.test('a server without room for it is named in the log, and keeps the other one', { skip }, async (t) => {
  const redis = await ownRedis(t)
  await redis.client.config('SET', 'maxclients', '2')
  const { limiter, log } = openLimiter(t, redis.url)
  const told = /max number of clients/
  await eventually('it is logged', () => log.some(({ fields }) => told.test(String(fields.error))))
  t.equal(limiter.state(), 'degraded')
  t.equal((await connections(redis)).all, 1)
  await redis.client.config('SET', 'maxclients', '10')
  await eventually('it is up', () => limiter.state() === 'up')
})

t.test('a server that closes it without a word is named in the log', async (t) => {
  const redis = await startRedis(t)
  const sockets: Socket[] = []
  const server = createServer((near) => {
    sockets.push(near.on('error', () => {}))
    if (sockets.length > 1) {
      near.once('data', () => near.destroy())
      return
    }
    const far = connect(redis.port, '127.0.0.1').on('error', () => {})
    near.pipe(far).pipe(near)
    near.on('close', () => far.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { log } = openLimiter(t, `redis://127.0.0.1:${(server.address() as AddressInfo).port}`)
  await eventually('it is logged', () =>
    log.some(({ fields }) => /closed the connection for decisions/.test(String(fields.error))),
  )
})

t.test('the probe proves this connection, not the other one', async (t) => {
  const redis = await startRedis(t)
  const proxy = await silencing(t, redis.port)
  const { limiter } = openLimiter(t, `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`)
  await limiter.ready
  proxy.silence('takes')
  for (let i = 0; limiter.state() === 'up'; i++) {
    t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'open')
    if (i > 10) break
  }
  t.equal(limiter.state(), 'degraded')
  await new Promise((resolve) => setTimeout(resolve, 1000))
  t.equal(limiter.state(), 'degraded', 'though the other one answers')
  const before = proxy.accepted()
  await eventually('both are given up', () => proxy.accepted() >= before + 1)
  proxy.silence(undefined)
  await eventually('it is up again', () => limiter.state() === 'up')
  t.equal((await limiter.take(service, policy, 'alice', 1)).decidedBy, 'store')
})

t.test('the other connection is given up, too, when it falls silent', async (t) => {
  const redis = await startRedis(t)
  const proxy = await silencing(t, redis.port)
  const url = `redis://127.0.0.1:${proxy.port}${new URL(redis.url).pathname}`
  const { limiter, log } = openLimiter(t, url)
  await limiter.ready
  proxy.silence('rest')
  await eventually('it is given up', () => log.some(({ fields }) => fields.event === 'degraded'))
  proxy.silence(undefined)
  await eventually('it is up again', () => limiter.state() === 'up')
})

t.test('what was given back in the last turn is sent before it closes', async (t) => {
  const redis = await startRedis(t)
  const slots = policyOf([1_000, 60_000])
  const orders = serviceOf('orders', [slots])
  const { limiter } = openLimiter(t, redis.url, PATIENT)
  await limiter.ready
  const taken = await limiter.take(orders, slots, 'alice', 10)
  const { at } = taken
  const charge = { service: orders, policy: slots, consumer: 'alice', levels: undefined, cost: 10 }
  const settled = limiter.settle(
    { ...charge, decidedBy: 'store', at, slotAt: at, times: undefined },
    -10,
    'keep',
  )
  await limiter.close()
  await settled
  const other = openLimiter(t, redis.url, PATIENT).limiter
  await other.ready
  await eventually('it is given back', async () => {
    const [usage] = await other.usage(orders, slots, 'alice')
    return usage?.used === 0
  })
})

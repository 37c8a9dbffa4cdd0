import type { LookupAddress, LookupOptions } from 'node:dns'
import t from 'tap'
import { createNames, type Names, type ResolvedAddress } from '../../../src/upstream/pool/dns.js'
import { createUpstreams } from '../../../src/upstream/pool/pool.js'
import { eventually } from '../../support/eventually.js'
import { snapshotOf, startGateway } from '../../support/gateway/gateway.js'
import { rawExchange } from '../../support/http/raw.js'
import { rawUpstream } from '../../support/http/raw-upstream.js'

const ipv4 = (...addresses: string[]): ResolvedAddress[] =>
  addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))

function namesOf(answer: (name: string) => Promise<readonly ResolvedAddress[]>, options = {}) {
  const asked: string[] = []
  const names = createNames({
    resolve: (name) => {
      asked.push(name)
      return answer(name)
    },
    ...options,
  })
  t.teardown(() => names.close())
  return { names, asked }
}

function look(names: Names, name: string, options: LookupOptions = { all: true }): Promise<string[]> {
  return new Promise((resolve, reject) => {
    names.lookup(name, options, (error, found) => {
      if (error !== null) reject(error)
      else resolve(typeof found === 'string' ? [found] : found.map(({ address }: LookupAddress) => address))
    })
  })
}

t.test('the addresses of a name take turns in being the first', async (t) => {
  const { names, asked } = namesOf(async () => ipv4('10.0.0.1', '10.0.0.2', '10.0.0.3'))
  t.strictSame(await look(names, 'api.test'), ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
  t.strictSame(await look(names, 'api.test'), ['10.0.0.2', '10.0.0.3', '10.0.0.1'])
  t.strictSame(await look(names, 'api.test', {}), ['10.0.0.3'])
  t.strictSame(await look(names, 'api.test'), ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
  t.strictSame(asked, ['api.test'], 'and it is asked for once')
})

t.test('a lookup for one family returns only its addresses', async (t) => {
  const { names } = namesOf(async () => ipv4('10.0.0.1', '::1'))
  t.strictSame(await look(names, 'api.test', { family: 6, all: true }), ['::1'])
  t.strictSame(await look(names, 'api.test', { family: 4 }), ['10.0.0.1'])
  await t.rejects(look(namesOf(async () => ipv4('::1')).names, 'api.test', { family: 4 }), {
    code: 'ENOTFOUND',
  })
  t.strictSame(await look(names, '192.0.2.1', {}), ['192.0.2.1'], 'an address is what it is')
})

t.test('a watched name is resolved again and again, and a change is reported', async (t) => {
  let answer = ipv4('10.0.0.1', '10.0.0.2')
  const { names, asked } = namesOf(async () => answer, { refreshMs: 10 })
  let moves = 0
  const stop = names.watch('api.test', () => moves++)
  await eventually('it was asked for twice', () => asked.length > 2)
  answer = ipv4('10.0.0.2', '10.0.0.1')
  const before = asked.length
  await eventually('it was asked for again', () => asked.length > before + 1)
  t.equal(moves, 0, 'another order is no move')
  answer = ipv4('10.0.0.1')
  await eventually('it moved', () => moves === 1)
  t.strictSame(names.state('api.test'), { addresses: ['10.0.0.1'], error: undefined })
  stop()
  await eventually('it is forgotten', () => names.state('api.test') === undefined)
})

t.test('the last good answer is kept when a lookup fails', async (t) => {
  let fails = false
  const { names } = namesOf(
    async () => {
      if (fails) throw Object.assign(new Error('getaddrinfo'), { code: 'EAI_AGAIN' })
      return ipv4('10.0.0.1')
    },
    { refreshMs: 10 },
  )
  let moves = 0
  names.watch('api.test', () => moves++)
  await eventually('it is known', () => names.state('api.test')?.addresses.length === 1)
  fails = true
  await eventually('the look-up failed', () => names.state('api.test')?.error === 'EAI_AGAIN')
  t.strictSame(await look(names, 'api.test'), ['10.0.0.1'])
  fails = false
  await eventually('it is back', () => names.state('api.test')?.error === undefined)
  t.equal(moves, 0)
})

t.test('an unknown name is resolved once a second at most, and an empty answer is an error', async (t) => {
  const clock = { now: 10_000 }
  let answer: readonly ResolvedAddress[] = []
  const { names, asked } = namesOf(async () => answer, { now: () => clock.now })
  for (let i = 0; i < 5; i++) await t.rejects(look(names, 'nowhere.test'), { code: 'ENOTFOUND' })
  t.equal(asked.length, 1)
  clock.now += 1_000
  answer = ipv4('10.0.0.1')
  t.strictSame(await look(names, 'nowhere.test'), ['10.0.0.1'])
  t.equal(asked.length, 2)
})

t.test('at most two lookups run at once', async (t) => {
  const waiting: (() => void)[] = []
  let most = 0
  let running = 0
  const { names } = namesOf(async () => {
    most = Math.max(most, ++running)
    await new Promise<void>((resolve) => waiting.push(resolve))
    running--
    return ipv4('10.0.0.1')
  })
  const all = Promise.all(Array.from({ length: 7 }, (_, i) => look(names, `name-${i}.test`)))
  let done = false
  const over = all.then(() => {
    done = true
  })
  while (!done) {
    waiting.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  await over
  t.equal(most, 2)
})

t.test("the addresses of an upstream's name share its requests, without a dead one", async (t) => {
  const seen: string[] = []
  const upstream = await rawUpstream(
    t,
    (request) => {
      seen.push(request.socket.localAddress!)
      request.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
    },
    { host: '0.0.0.0' },
  )
  let fails = false
  const { names } = namesOf(
    async () => {
      if (fails) throw Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' })
      return ipv4('127.0.0.2', '127.0.0.3')
    },
    { refreshMs: 20 },
  )
  const yaml = `
tiers: [free]
services: { api: { upstreams: ['http://backend.test:${upstream.port}'] } }
routes: [{ path: /*, service: api }]
`
  const upstreams = createUpstreams(snapshotOf(yaml), { names })
  t.teardown(() => upstreams.close())
  const gateway = await startGateway(t, yaml, { upstreams })
  const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
  for (let i = 0; i < 4; i++) t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
  t.strictSame(new Set(seen), new Set(['127.0.0.2', '127.0.0.3']))
  fails = true
  await eventually('DNS is gone', () => upstreams.describe()[0]!.dns_error === 'ENOTFOUND')
  t.equal((await rawExchange(gateway.port, GET)).responses[0]!.status, 200)
  t.match(upstreams.describe(), [{ resolved: ['127.0.0.2', '127.0.0.3'], dns_error: 'ENOTFOUND' }])
})

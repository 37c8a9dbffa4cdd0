import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createJwks, type Jwks } from '../../src/credentials/jwks.js'
import { createFetcher } from '../../src/credentials/jwks-fetch.js'
import type { FoundKeys, VerificationKey } from '../../src/credentials/keys.js'
import { createAuthority, pairOf } from '../support/credentials/authority.js'
import { createKey, type JwksServer, startJwksServer } from '../support/credentials/issuer.js'
import { createClock } from '../support/gateway/gateway.js'
import { hangingListener, refusingPort } from '../support/http/hanging-listener.js'

const [first, second, third] = ['first', 'second', 'third'].map((kid) => createKey('p256', kid)) as [
  Key,
  Key,
  Key,
]
type Key = ReturnType<typeof createKey>

const REFRESH = 600_000

/** Opens keys on a clock that the test moves, and collects log lines. */
function open(t: Test, url: string, patienceMs?: number) {
  const clock = createClock()
  const timers: { at: number; run: () => void }[] = []
  const said: { fields: Record<string, unknown>; message: string }[] = []
  const say = (fields: object, message: string) => void said.push({ fields: { ...fields }, message })
  const jwks = createJwks({
    url,
    fetcher: createFetcher(url, patienceMs),
    refreshMs: REFRESH,
    log: { info: say, warn: say },
    now: () => clock.now,
    random: () => 1,
    after(ms, run) {
      const timer = { at: clock.now + ms, run }
      timers.push(timer)
      return () => void timers.splice(timers.indexOf(timer), timers.includes(timer) ? 1 : 0)
    },
  })
  t.teardown(() => jwks.close())
  const done = () => Object.values(jwks.fetches).reduce((sum, count) => sum + count, 0)
  /** Resolves when that many fetches have ended. */
  async function fetched(count: number): Promise<void> {
    while (done() < count || timers.length === 0) await delay(2)
  }
  return {
    jwks,
    clock,
    said,
    fetched,
    /** Ms until the next fetch. */
    next: () => timers[0]!.at - clock.now,
    /** Moves time to the next fetch, and waits for its end. */
    async pass(): Promise<void> {
      const before = done()
      const timer = timers.shift()!
      clock.now = timer.at
      timer.run()
      await fetched(before + 1)
    },
  }
}

function kids(found: FoundKeys | Promise<FoundKeys>): string[] | string {
  if (found instanceof Promise) return 'waits'
  if ('length' in found) return found.map(({ kid }) => kid ?? '-')
  return found.unavailable ? 'unavailable' : 'no such key'
}

const find = async (jwks: Jwks, kid: string | undefined) => kids(await jwks.find('ES256', kid))

t.test('keys are fetched at once, and early tokens wait for them', async (t) => {
  const server = await startJwksServer(t, [first.jwk, second.jwk])
  const { jwks, fetched, next } = open(t, server.url)
  t.equal(kids(jwks.find('ES256', 'first')), 'waits')
  t.same(await find(jwks, 'second'), ['second'])
  await fetched(1)
  t.same(kids(jwks.find('ES256', 'first')), ['first'], 'later tokens do not wait')
  t.same(jwks.state(), { keys: 2, ageMs: 0 })
  t.equal(next(), REFRESH)
  t.equal(server.asked(), 1)
})

t.test('the next scheduled fetch finds added and removed keys', async (t) => {
  const server = await startJwksServer(t, [first.jwk, second.jwk])
  const { jwks, fetched, pass } = open(t, server.url)
  await fetched(1)
  const [before] = jwks.find('ES256', 'first') as readonly VerificationKey[]
  server.answer([second.jwk, third.jwk])
  await pass()
  t.ok(before!.gone, 'tokens signed with it are no longer valid')
  t.same(kids(jwks.find('ES256', 'third')), ['third'])
  const [kept] = jwks.find('ES256', 'second') as [object]
  await pass()
  t.equal((jwks.find('ES256', 'second') as [object])[0], kept, 'the others are what they were')
})

t.test('unknown key ids cause a fetch, once in 30 seconds', async (t) => {
  const server = await startJwksServer(t, [first.jwk])
  const { jwks, clock, fetched } = open(t, server.url)
  await fetched(1)
  for (let i = 0; i < 100; i++) t.equal(kids(jwks.find('ES256', `made-up-${i}`)), 'no such key')
  t.equal(server.asked(), 1)
  clock.now += 30_000
  server.answer([first.jwk, second.jwk])
  const asked = Array.from({ length: 100 }, (_, i) => find(jwks, i === 50 ? 'second' : `made-up-${i}`))
  const found = await Promise.all(asked)
  t.same(found[50], ['second'])
  t.equal(found.filter((one) => one === 'no such key').length, 99)
  t.equal(server.asked(), 2, 'all of them together')
  clock.now += 29_999
  server.answer([third.jwk])
  t.equal(await find(jwks, 'third'), 'no such key')
  clock.now += 1
  t.same(await find(jwks, 'third'), ['third'])
})

t.test('a token without a key id uses the only key that fits, and fails if there are several', async (t) => {
  const rsa = createKey('rsa', 'rsa')
  const server = await startJwksServer(t, [first.jwk, rsa.jwk])
  const { jwks, fetched, pass } = open(t, server.url)
  await fetched(1)
  t.same(await find(jwks, undefined), ['first'])
  t.match(await jwks.find('ES384', undefined), { unavailable: false, why: /no key is for ES384/ })
  server.answer([first.jwk, second.jwk, rsa.jwk])
  await pass()
  t.match(await jwks.find('ES256', undefined), { unavailable: false, why: /2 could be meant/ })
  t.equal(server.asked(), 2, 'and nothing is fetched for it')
})

t.test('the last good keys hold while the server is down, and are fetched more often', async (t) => {
  const server = await startJwksServer(t, [first.jwk])
  const { jwks, clock, fetched, pass, next, said } = open(t, server.url)
  await fetched(1)
  server.answer((_, res) => void res.writeHead(500).end('no'))
  const waits: number[] = []
  for (let i = 0; i < 7; i++) {
    await pass()
    waits.push(next())
    t.same(kids(jwks.find('ES256', 'first')), ['first'])
  }
  t.same(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000])
  t.match(said.at(-1), {
    fields: { error: 'it answered 500', failures: 7 },
    message: /the last good ones stay in use/,
  })
  t.equal(jwks.state().ageMs, REFRESH + 61_000)
  clock.now += 30_000
  const unknown = await jwks.find('ES256', 'second')
  t.match(unknown, { unavailable: true }, 'it is unknown whether there is such a key')
  server.answer([first.jwk, second.jwk])
  await pass()
  t.same(kids(jwks.find('ES256', 'second')), ['second'])
  t.match(said.at(-1), { message: 'keys fetched' })
  t.equal(next(), REFRESH)
})

t.test('after a start without the server no token can be judged until it answers', async (t) => {
  const { origin } = await refusingPort()
  const { jwks, fetched, next } = open(t, `${origin}/jwks.json`)
  t.equal(await find(jwks, 'first'), 'unavailable', 'every token that waited for the first fetch')
  await fetched(1)
  const late = jwks.find('ES256', 'first')
  t.equal(kids(late), 'unavailable', 'and whoever comes later, at once')
  t.equal((late as { retryMs: number }).retryMs, next())
  t.match(jwks.fetches, { failed: 1 })
  t.same(jwks.state(), { keys: 0, ageMs: undefined })
})

t.test('a bounded number of tokens waits for keys', async (t) => {
  const server = await startJwksServer(t)
  let answer = () => {}
  server.answer((_, res) => {
    answer = () => void res.end(JSON.stringify({ keys: [first.jwk] }))
  })
  const { jwks } = open(t, server.url)
  const waiting = Array.from({ length: 1000 }, () => jwks.find('ES256', 'first'))
  t.match(jwks.find('ES256', 'first'), { unavailable: true, why: /too many requests wait/ })
  while (server.asked() === 0) await delay(2)
  answer()
  t.same(new Set((await Promise.all(waiting)).map((found) => kids(found)[0])), new Set(['first']))
})

t.test('a server that lies, hangs or never ends its response changes nothing', async (t) => {
  const server = await startJwksServer(t, [first.jwk])
  const ways: [string, string, (server: JwksServer) => void][] = [
    ['no JSON', 'invalid', (s) => s.answer((_, res) => void res.end('<html>'))],
    ['a list', 'invalid', (s) => s.answer((_, res) => void res.end('[]'))],
    ['null', 'invalid', (s) => s.answer((_, res) => void res.end('null'))],
    ['keys that are no list', 'invalid', (s) => s.answer((_, res) => void res.end('{"keys":{}}'))],
    ['no key', 'invalid', (s) => s.answer([])],
    ['keys of the wrong shape', 'invalid', (s) => s.answer([null, [], 1, {}] as unknown as object[])],
    [
      'a redirect',
      'failed',
      (s) =>
        s.answer((req, res) => {
          if (req.url === '/other') res.end(JSON.stringify({ keys: [second.jwk] }))
          else res.writeHead(302, { location: '/other' }).end()
        }),
    ],
    ['a page that says 200 with nothing', 'invalid', (s) => s.answer((_, res) => void res.end())],
    ['204', 'failed', (s) => s.answer((_, res) => void res.writeHead(204).end())],
    [
      'more than 64 KiB, announced',
      'too_large',
      (s) =>
        s.answer((_, res) => void res.end(JSON.stringify({ keys: [second.jwk], more: 'x'.repeat(65_536) }))),
    ],
    [
      'more than 64 KiB, in pieces',
      'too_large',
      (s) =>
        s.answer((_, res) => {
          res.write('{"keys":[')
          for (let i = 0; i < 70; i++) res.write(' '.repeat(1024))
        }),
    ],
    [
      'half an answer',
      'failed',
      (s) =>
        s.answer(
          (_, res) => void res.writeHead(200, { 'content-length': '100' }).write('{', () => res.destroy()),
        ),
    ],
    ['no answer', 'failed', (s) => s.answer((req) => void req.socket.destroy())],
  ]
  const { jwks, fetched, pass, said } = open(t, server.url)
  await fetched(1)
  for (const [what, result, lie] of ways) {
    lie(server)
    const before = jwks.fetches[result as 'failed']
    await pass()
    t.equal(jwks.fetches[result as 'failed'], before + 1, `${what}: ${JSON.stringify(said.at(-1)?.fields)}`)
    t.same(kids(jwks.find('ES256', 'first')), ['first'], what)
  }
})

t.test('a fetch times out, wherever the server hangs', async (t) => {
  const slow = await startJwksServer(t)
  // A byte now and then stays within every idle timeout.
  slow.answer((_, res) => {
    res.write('{"keys":[')
    const timer = setInterval(() => res.write(' '), 50)
    res.on('close', () => clearInterval(timer))
  })
  const mute = await startJwksServer(t)
  mute.answer(() => {})
  const full = await hangingListener(t)
  const all = [slow.url, mute.url, `${full.origin}/jwks.json`].map((url) => open(t, url, 200))
  for (const { jwks, fetched } of all) {
    await fetched(1)
    t.match(jwks.fetches, { timeout: 1 })
  }
})

t.test('only keys that can verify signatures here are taken from a set', async (t) => {
  const rsa = createKey('rsa', 'rsa')
  const short = createKey('rsa', 'short', 1024)
  const ed = createKey('ed25519', 'ed')
  const server = await startJwksServer(t, [
    { kty: 'oct', kid: 'shared', k: 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA', alg: 'HS256' },
    { ...first.jwk, kid: 'for-encryption', use: 'enc' },
    { ...first.jwk, kid: 'for-nothing', key_ops: ['encrypt'] },
    { ...first.jwk, kid: 'off-the-curve', y: first.jwk.x },
    { ...first.jwk, kid: 'cut', x: 'AA' },
    { ...first.jwk, kid: 'of-a-number', x: 1 },
    { ...first.jwk, kid: 7 },
    { ...rsa.jwk, kid: 'exponent-1', e: 'AQ' },
    { ...rsa.jwk, kid: 'exponent-huge', e: rsa.jwk.n },
    { ...rsa.jwk, kid: 'only-ps256', alg: 'PS256' },
    { ...ed.jwk, kid: '__proto__' },
    { kty: '__proto__', kid: 'proto' },
    short.jwk,
    first.jwk,
    { ...second.jwk, kid: 'first' },
    { ...first.privateKey.export({ format: 'jwk' }), kid: 'with-its-private-half' },
  ])
  const { jwks, fetched, said } = open(t, server.url)
  await fetched(1)
  for (const kid of [
    'shared',
    'for-encryption',
    'for-nothing',
    'off-the-curve',
    'cut',
    'of-a-number',
    'proto',
    'short',
  ])
    for (const algorithm of ['ES256', 'RS256', 'HS256', 'EdDSA'] as const)
      t.equal(kids(await jwks.find(algorithm, kid)), 'no such key', `${kid} for ${algorithm}`)
  for (const kid of ['exponent-1', 'exponent-huge'])
    t.equal(kids(await jwks.find('RS256', kid)), 'no such key', kid)
  t.equal(kids(await jwks.find('RS256', 'only-ps256')), 'no such key')
  t.same(kids(await jwks.find('PS256', 'only-ps256')), ['only-ps256'])
  t.same(kids(await jwks.find('EdDSA', '__proto__')), ['__proto__'])
  const [named] = (await jwks.find('ES256', 'first')) as readonly VerificationKey[]
  t.ok(named!.key.equals(first.publicKey), 'the first of two keys with one id')
  const [half] = (await jwks.find('ES256', 'with-its-private-half')) as readonly VerificationKey[]
  t.equal(half!.key.type, 'public')
  t.match(said[0]!.fields.problems, [
    /keys\[0\] is of an unsupported kind/,
    /keys\[1\] is not for signatures/,
  ])
})

t.test('an endless set is cut, and a malformed one removes no good key', async (t) => {
  const server = await startJwksServer(t, [
    ...Array.from({ length: 100 }, (_, i) => ({ kty: 'oct', kid: String(i) })),
    first.jwk,
  ])
  const { jwks, fetched } = open(t, server.url)
  await fetched(1)
  t.match(jwks.fetches, { invalid: 1 }, 'the 101st is not looked at')
})

t.test("the server's certificate is verified", async (t) => {
  const authority = createAuthority(t)
  const server = createTlsServer(
    pairOf(authority.issue('localhost', 'DNS:localhost,IP:127.0.0.1')),
    (_, res) => res.end(JSON.stringify({ keys: [first.jwk] })),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { jwks, fetched, said } = open(t, `https://127.0.0.1:${port}/jwks.json`)
  await fetched(1)
  t.match(jwks.fetches, { failed: 1 })
  t.match(said[0]?.fields.error, /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/)
})

t.test('nothing is fetched after close', async (t) => {
  const server = await startJwksServer(t, [first.jwk])
  const { jwks, clock, fetched } = open(t, server.url)
  await fetched(1)
  jwks.close()
  clock.now += REFRESH
  t.equal(kids(jwks.find('ES256', 'second')), 'no such key')
  t.same(kids(jwks.find('ES256', 'first')), ['first'], 'requests under way still know what there was')
  t.equal(server.asked(), 1)
})

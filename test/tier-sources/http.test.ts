import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { openHttp } from '../../src/tier-sources/http.js'
import { NoAnswerForOne } from '../../src/tier-sources/tier-answer.js'

type Answer = (req: IncomingMessage, res: ServerResponse) => void

/** Starts an endpoint on a free port, which remembers targets and headers of requests. */
async function endpoint(t: Test, answer: Answer) {
  const asked: { url: string; headers: IncomingMessage['headers'] }[] = []
  const server = createServer((req, res) => {
    asked.push({ url: req.url!, headers: req.headers })
    answer(req, res)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

function openedAt(t: Test, url: string, changes: Partial<Parameters<typeof openHttp>[0]> = {}) {
  const directory = openHttp({ url, tier: 'tier', timeout: 5_000, pool: 4, ...changes })
  t.teardown(() => directory.close())
  return (consumer: string, signal = new AbortController().signal) => directory.look(consumer, signal)
}

const json =
  (body: unknown): Answer =>
  (_, res) =>
    res.end(JSON.stringify(body))

t.test('the tier and the tenant are read from the configured members', async (t) => {
  const { origin, asked } = await endpoint(t, json({ subscription: { plan: 'pro' }, org: { id: 42 } }))
  const look = openedAt(t, `${origin}/plans/{consumer}`, {
    tier: 'subscription.plan',
    tenant: 'org.id',
    headers: { authorization: 'Bearer of-the-gateway' },
  })
  t.same(await look('acme'), { tier: 'pro', tenant: '42' })
  t.match(asked, [
    { url: '/plans/acme', headers: { authorization: 'Bearer of-the-gateway', accept: 'application/json' } },
  ])
})

t.test('404, 410, 204 and an answer without a tier mean that the consumer is unknown', async (t) => {
  const { origin } = await endpoint(t, (req, res) => {
    const status = Number(req.url!.slice(1))
    res.writeHead(status)
    res.end(status === 200 ? '{"tier":null}' : undefined)
  })
  const look = openedAt(t, `${origin}/{consumer}`)
  for (const status of ['404', '410', '204', '200']) t.equal(await look(status), undefined)
})

t.test('an unusable answer is an error that says why', async (t) => {
  const { origin } = await endpoint(t, (req, res) => {
    const [status, body] = JSON.parse(decodeURIComponent(req.url!.slice(1))) as [number, string]
    res.writeHead(status, { location: '/elsewhere' })
    res.end(body)
  })
  const look = openedAt(t, `${origin}/{consumer}`)
  const asked = (status: number, body: string) => look(JSON.stringify([status, body]))
  await t.rejects(asked(500, ''), { message: 'it answers 500' })
  await t.rejects(asked(302, ''), { message: 'it answers 302' }, 'redirects are not followed')
  for (const status of [400, 409, 413, 414, 422, 431, 451]) {
    await t.rejects(asked(status, ''), new NoAnswerForOne(`it answers ${status}`))
  }
  for (const status of [401, 403, 405, 408, 429, 500, 503]) {
    const error: unknown = await asked(status, '').catch((reason: unknown) => reason)
    t.notOk(error instanceof NoAnswerForOne, `${status} is not the fault of one consumer`)
  }
  await t.rejects(asked(200, '<html>'), { message: 'it answers with something that is not JSON' })
  await t.rejects(asked(200, '{"tier":["pro"]}'), { message: 'its tier is neither text nor a number' })
  await t.rejects(asked(200, JSON.stringify({ tier: 'x'.repeat(64) })), {
    message: 'its tier is longer than 63 characters',
  })
})

t.test('properties that every object has are no tier', async (t) => {
  const { origin } = await endpoint(t, json({ tier: 'pro', plan: 'pro' }))
  for (const tier of ['constructor.name', 'toString', '__proto__.plan', 'tier.length', 'plan.0']) {
    t.equal(await openedAt(t, `${origin}/{consumer}`, { tier })('acme'), undefined)
  }
})

t.test('an endless answer is not read to its end', async (t) => {
  let sent = 0
  const { origin } = await endpoint(t, (_, res) => {
    const more = () => {
      while (!res.destroyed && res.write(Buffer.alloc(16_384, 0x20))) sent += 16_384
    }
    res.on('drain', more)
    more()
  })
  await t.rejects(openedAt(t, `${origin}/{consumer}`)('acme'), { code: 'UND_ERR_RES_EXCEEDED_MAX_SIZE' })
  t.ok(sent < 64 * 1024 * 1024)
})

t.test('aborting a lookup ends its request', async (t) => {
  const { origin } = await endpoint(t, () => {})
  const controller = new AbortController()
  const asked = openedAt(t, `${origin}/{consumer}`)('acme', controller.signal)
  controller.abort(new Error('too late'))
  await t.rejects(asked, { message: 'too late' })
})

t.test('any id becomes one path segment or one query value, and arrives unchanged', async (t) => {
  const { origin, asked } = await endpoint(t, json({ tier: 'pro' }))
  const inPath = openedAt(t, `${origin}/plans/{consumer}/tier`)
  const inQuery = openedAt(t, `${origin}/tierSources?of={consumer}&v=1`)
  const nasty = fc.constantFrom(
    '../admin',
    'a/b',
    'a?b=c',
    'a#b',
    'a&v=2',
    'a\r\nx: y',
    '%2e%2e',
    'ü€😀',
    '\0',
    ' ',
    '{consumer}',
  )
  const id = fc
    .oneof(nasty, fc.string({ minLength: 1, unit: 'grapheme' }))
    .filter((text) => !/^\.{1,2}$/.test(text) && text.isWellFormed())
  await fc.assert(
    fc.asyncProperty(id, async (consumer) => {
      asked.length = 0
      await inPath(consumer)
      await inQuery(consumer)
      const { pathname, search } = new URL(asked[0]!.url, origin)
      const segments = pathname.split('/')
      if (segments.length !== 4 || decodeURIComponent(segments[2]!) !== consumer || search !== '')
        throw new Error(asked[0]!.url)
      const { searchParams } = new URL(asked[1]!.url, origin)
      if (searchParams.get('of') !== consumer || searchParams.get('v') !== '1') throw new Error(asked[1]!.url)
    }),
    { numRuns: 60 },
  )
})

t.test('an id that would change the path is unknown, without a request', async (t) => {
  const { origin, asked } = await endpoint(t, json({ tier: 'pro' }))
  const look = openedAt(t, `${origin}/plans/{consumer}`)
  t.equal(await look('..'), undefined)
  t.equal(await look('.'), undefined)
  t.same(asked, [])
  t.same(await openedAt(t, `${origin}/tierSources?of={consumer}`)('..'), { tier: 'pro', tenant: undefined })
})

import t from 'tap'
import { call as callPort, startAdmin } from '../support/gateway/admin.js'
import { openRaw, rawExchange } from '../support/http/raw.js'

t.test('an unknown path is answered with a problem', async (t) => {
  const { call } = await startAdmin(t)
  for (const [method, path] of [
    ['GET', '/nowhere'],
    ['POST', '/healthz'],
    ['PUT', '/config/reload'],
  ] as const) {
    const answer = await call(method, path)
    t.equal(answer.status, 404)
    t.equal(answer.headers['content-type'], 'application/problem+json')
    t.match(answer.json, { title: 'Not found', status: 404, code: 'not_found', detail: String })
  }
})

t.test('no response may be cached or framed', async (t) => {
  const { call } = await startAdmin(t)
  for (const path of ['/healthz', '/config', '/metrics', '/nowhere', '/usage/none/x']) {
    const { headers } = await call('GET', path)
    t.match(
      headers,
      { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' },
      path,
    )
  }
})

t.test('only small JSON bodies are accepted, and a refusal says what is wrong', async (t) => {
  const { call, deps } = await startAdmin(t)
  const put = (body: unknown, type = 'application/json') =>
    call('PUT', '/consumers/alice/tier', { body, headers: { 'content-type': type } })
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'x',
  ]) {
    const answer = await put({ tier: 'pro' }, type)
    t.equal(answer.status, 415, type)
    t.match(answer.json, { code: 'unsupported_media_type', detail: /application\/json/ })
  }
  t.match((await put('{"tier":')).json, { status: 400, code: 'bad_request' })
  t.match((await put('{"__proto__":{"tier":"pro"}}')).json, { status: 400 })
  t.match((await put({ tier: 'x'.repeat(5000) })).json, {
    status: 413,
    code: 'payload_too_large',
    detail: /4096/,
  })
  t.equal(deps.assignments.get('alice'), undefined, 'none of them changed anything')
  t.equal((await put({ tier: 'pro' }, 'application/json; charset=utf-8')).status, 200)
})

t.test('an internal error is 500 without details, and logged', async (t) => {
  const { deps } = await startAdmin(t)
  const { call, logged } = await startAdmin(t, {
    metrics: { ...deps.metrics, scrape: () => Promise.reject(new Error('s3cret detail')) },
  })
  const answer = await call('GET', '/metrics')
  t.match(answer.json, { status: 500, code: 'internal' })
  t.notMatch(answer.text, /s3cret/)
  t.match(logged, [{ level: 'error', fields: { err: { message: 's3cret detail' }, route: '/metrics' } }])
})

t.test('bytes that are no HTTP get a response and a closed connection', async (t) => {
  const { port } = await startAdmin(t)
  const broken = {
    'GET /healthz SPDY/9\r\n\r\n': 400,
    'GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n': 400,
    [`GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`]: 431,
    'GET /usage/payments/%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n': 400,
    'GET /usage/payments/%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n': 400,
    'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n': 400,
  }
  for (const [bytes, status] of Object.entries(broken)) {
    const { responses, closed } = await rawExchange(port, bytes.replace('localhost', `localhost:${port}`))
    t.equal(responses[0]?.status, status, bytes.slice(0, 50))
    t.ok(closed)
  }
})

t.test('a client that sends its request too slowly is closed', { timeout: 20_000 }, async (t) => {
  const { port } = await startAdmin(t)
  const slow = await openRaw(port)
  slow.write('GET /healthz HTTP/1.1\r\nHost: ')
  await slow.closed(12_000)
  t.equal(slow.responses()[0]?.status, 408)
})

t.test('an idle connection does not delay the close', async (t) => {
  const { app, port } = await startAdmin(t)
  const idle = await openRaw(port)
  idle.write(`GET /readyz HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
  await idle.until('answer', () => idle.responses().length === 1)
  t.notOk(idle.isClosed())
  await app.close()
  await idle.closed()
  await t.rejects(callPort(port, 'GET', '/readyz'), { code: 'ECONNREFUSED' })
})

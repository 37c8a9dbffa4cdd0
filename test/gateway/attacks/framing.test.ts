// Tests src/gateway/listen/chunk-extensions.ts src/gateway/respond/client-error.ts
import t from 'tap'
import { expectRefused, type Refused, startSite } from '../../support/gateway/site.js'
import { startFaces } from '../../support/http/faces.js'
import { openRaw, rawExchange } from '../../support/http/raw.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/**
 * Tests where a message ends: the gateway refuses what two servers could read differently, and frames anew what passes. Tests
 * write bytes by hand and check what the upstream received.
 */

const SITE = `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS], limits: { free: 100000/s } } }
routes: [{ path: /*, service: payments }]
server: { min_rate: 0 }
`
const BAD: Refused = { status: 400, code: 'bad_request' }
const HIDDEN = 'GET /hidden HTTP/1.1\r\nHost: gateway.example\r\n\r\n'

const post = (fields: string, body = '', version = '1.1') =>
  `POST /orders HTTP/${version}\r\nHost: gateway.example\r\n${fields}\r\n${body}`

const refused: Record<string, string> = {
  'Content-Length and Transfer-Encoding': post(
    'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding and Content-Length': post(
    'Transfer-Encoding: chunked\r\nContent-Length: 4\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Content-Length: 0 and Transfer-Encoding': post(
    'Content-Length: 0\r\nTransfer-Encoding: chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'two different Content-Lengths': post(`Content-Length: 0\r\nContent-Length: ${HIDDEN.length}\r\n`, HIDDEN),
  'two equal Content-Lengths': post('Content-Length: 4\r\nContent-Length: 4\r\n', 'abcd'),
  'a list of Content-Lengths': post('Content-Length: 4, 4\r\n', 'abcd'),
  'Content-Length: +4': post('Content-Length: +4\r\n', 'abcd'),
  'Content-Length: -1': post('Content-Length: -1\r\n', HIDDEN),
  'Content-Length: 0x4': post('Content-Length: 0x4\r\n', 'abcd'),
  'Content-Length: 4 4': post('Content-Length: 4 4\r\n', 'abcd'),
  'Content-Length: 4;': post('Content-Length: 4;\r\n', 'abcd'),
  'an empty Content-Length': post('Content-Length: \r\n', HIDDEN),
  'Content-Length of 2^64': post('Content-Length: 18446744073709551616\r\n', HIDDEN),
  'Content-Length of 2^64 + 4': post('Content-Length: 18446744073709551620\r\n', 'abcd'),
  'Content-Length above 2^53': post('Content-Length: 9007199254740993\r\n', 'abcd'),
  'Transfer-Encoding: identity, chunked': post(
    'Transfer-Encoding: identity, chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding: gzip, chunked': post('Transfer-Encoding: gzip, chunked\r\n', `0\r\n\r\n${HIDDEN}`),
  'Transfer-Encoding: chunked, identity': post(
    'Transfer-Encoding: chunked, identity\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding: chunked, chunked': post(
    'Transfer-Encoding: chunked, chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding: identity': post('Transfer-Encoding: identity\r\n', HIDDEN),
  'Transfer-Encoding: xchunked': post('Transfer-Encoding: xchunked\r\n', HIDDEN),
  'Transfer-Encoding: chunked;q=1': post('Transfer-Encoding: chunked;q=1\r\n', `0\r\n\r\n${HIDDEN}`),
  'Transfer-Encoding: "chunked"': post('Transfer-Encoding: "chunked"\r\n', `0\r\n\r\n${HIDDEN}`),
  'an empty Transfer-Encoding': post('Transfer-Encoding: \r\n', HIDDEN),
  'Transfer-Encoding twice': post(
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding twice, one unknown': post(
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding behind a vertical tab': post('Transfer-Encoding:\x0bchunked\r\n', `0\r\n\r\n${HIDDEN}`),
  'Transfer-Encoding folded': post('Transfer-Encoding:\r\n chunked\r\n', `0\r\n\r\n${HIDDEN}`),
  'a space before the colon of Transfer-Encoding': post(
    'Transfer-Encoding : chunked\r\n',
    `0\r\n\r\n${HIDDEN}`,
  ),
  'Transfer-Encoding behind a bare CR': post('X: y\rTransfer-Encoding: chunked\r\n', `0\r\n\r\n${HIDDEN}`),
  'Transfer-Encoding behind a bare LF': post('X: y\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${HIDDEN}`),
  'Transfer-Encoding in HTTP/1.0': post('Transfer-Encoding: chunked\r\n', `0\r\n\r\n${HIDDEN}`, '1.0'),
  'a folded header': post('X: a\r\n b\r\n'),
  'a folded first header': 'GET /orders HTTP/1.1\r\n Host: gateway.example\r\n\r\n',
  'a space before the colon': post('X : a\r\n'),
  'a header without colon': post('Hidden\r\n'),
  'a header without name': post(': a\r\n'),
  'NUL in a header value': post('X: a\0b\r\n'),
  'NUL in a header name': post('X\0: a\r\n'),
  'a control character in a header value': post('X: a\x01b\r\n'),
  'a bare CR in a header value': post('X: a\rb\r\n'),
  'a bare CR at the end of a header': post('X: a\r\r\n'),
  'a bare LF at the end of the header': 'GET /orders HTTP/1.1\r\nHost: gateway.example\n\r\n',
  'a chunk size with 0x': post('Transfer-Encoding: chunked\r\n', '0x4\r\nabcd\r\n0\r\n\r\n'),
  'a chunk size with a sign': post('Transfer-Encoding: chunked\r\n', '+4\r\nabcd\r\n0\r\n\r\n'),
  'a chunk size with a space in front': post('Transfer-Encoding: chunked\r\n', ' 4\r\nabcd\r\n0\r\n\r\n'),
  'a chunk size with a space behind': post('Transfer-Encoding: chunked\r\n', '4 \r\nabcd\r\n0\r\n\r\n'),
  'an empty chunk size': post('Transfer-Encoding: chunked\r\n', '\r\nabcd\r\n0\r\n\r\n'),
  'a chunk size of 2^64 + 4': post(
    'Transfer-Encoding: chunked\r\n',
    '10000000000000004\r\nabcd\r\n0\r\n\r\n',
  ),
  'a bare ; behind a chunk size': post('Transfer-Encoding: chunked\r\n', '4;\r\nabcd\r\n0\r\n\r\n'),
  'a chunk size that ends in LF': post('Transfer-Encoding: chunked\r\n', '4\nabcd\r\n0\r\n\r\n'),
  'a chunk extension with LF': post('Transfer-Encoding: chunked\r\n', '4;x\nabcd\r\n0\r\n\r\n'),
  'no HTTP at all': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'a method that nobody knows': 'BREW /orders HTTP/1.1\r\nHost: gateway.example\r\n\r\n',
  'a method in lower case': 'get /orders HTTP/1.1\r\nHost: gateway.example\r\n\r\n',
  'a space in the target': 'GET /or ders HTTP/1.1\r\nHost: gateway.example\r\n\r\n',
  'a tab for a space': 'GET\t/orders\tHTTP/1.1\r\nHost: gateway.example\r\n\r\n',
}

t.test('a request that two servers could frame differently is refused as a whole', async (t) => {
  const site = await startSite(t, SITE)
  for (const [what, bytes] of Object.entries(refused)) await expectRefused(t, site, what, bytes, BAD)
  t.same(site.payments.received, [], 'nothing of it has reached the upstream')
})

t.test('an unsupported HTTP version is 505', async (t) => {
  const site = await startSite(t, SITE)
  for (const version of ['0.9', '1.2', '2.0', '3.0']) {
    const bytes = `GET /orders HTTP/${version}\r\nHost: gateway.example\r\n\r\n`
    await expectRefused(t, site, version, bytes, { status: 505, code: 'http_version' })
  }
  await expectRefused(t, site, 'HTTP/0.9', 'GET /orders\r\n\r\n', { status: 505, code: 'http_version' })
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  await expectRefused(t, site, 'the preface of HTTP/2', preface, { status: 505, code: 'http_version' })
})

t.test('a malformed version or a line ending in a bare LF is 400 on every face', async (t) => {
  const upstream = await recordingUpstream(t)
  const host = 'Host: gateway.example\r\n'
  const wrong = [
    ...[
      'HTTP/1',
      'HTTP/1.',
      'HTTP/.1',
      'HTTP/01.1',
      'HTTP/1.01',
      'HTTP/1.10',
      'HTTP/ 1.1',
      'HTTP/1 .1',
      'http/1.1',
      'HTTPS/1.1',
    ].map((version) => `GET / ${version}\r\n${host}\r\n`),
    `GET / HTTP/1.1 \r\n${host}\r\n`,
    `GET / HTTP/1.1\n${host}\r\n`,
    'GET / HTTP/1.1\r\nHost: gateway.example\nX: y\r\n\r\n',
    'GET / HTTP/1.1\nHost: gateway.example\n\n',
    `GET / HTTP/1.1\r\n${host}\n`,
    `GET / HTTP/1.1\r${host}\r\n`,
    `GET / HTTP/1.0\n${host}\r\n`,
  ]
  for (const { name, open, gateway } of await startFaces(
    t,
    SITE.replace('PAYMENTS', upstream.origin).replace(/^server.*$/m, ''),
  )) {
    if (open === undefined) continue
    for (const bytes of wrong) {
      const connection = await open()
      connection.write(bytes)
      await connection.closed()
      t.match(connection.responses(), [{ status: 400 }], `${name}: ${JSON.stringify(bytes)}`)
      t.equal(connection.responses().length, 1)
      t.equal(gateway.records.at(-1)?.error, 'bad_request')
    }
  }
  t.same(upstream.received, [])
})

t.test('after a refusal the gateway reads nothing more from the connection', async (t) => {
  const site = await startSite(t, SITE)
  const reasons: Record<string, [string, Refused]> = {
    'a bad target': [
      'GET /../x HTTP/1.1\r\nHost: gateway.example\r\n\r\n',
      { status: 400, code: 'bad_target' },
    ],
    'no Host': ['GET /orders HTTP/1.1\r\n\r\n', { status: 400, code: 'bad_host' }],
    'chunks in HTTP/1.0': [
      'POST /orders HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      BAD,
    ],
    'Transfer-Encoding: gzip, chunked': [
      post('Transfer-Encoding: gzip, chunked\r\n', '4\r\nabcd\r\n0\r\n\r\n'),
      BAD,
    ],
    'an expectation': [
      post('Expect: more\r\nContent-Length: 4\r\n', 'abcd'),
      { status: 417, code: 'expectation_failed' },
    ],
    'a version': [
      'GET /orders HTTP/2.0\r\nHost: gateway.example\r\nConnection: keep-alive\r\n\r\n',
      { status: 505, code: 'http_version' },
    ],
  }
  for (const [what, [bytes, expected]] of Object.entries(reasons)) {
    await expectRefused(t, site, what, bytes + HIDDEN + HIDDEN, expected)
  }
})

t.test('a body is framed anew, without its extensions and trailers', async (t) => {
  const site = await startSite(t, SITE)
  const bytes = post(
    'Transfer-Encoding: Chunked\r\nTrailer: X-Late\r\n',
    '4;name=value;flag\r\nabcd\r\n0003\r\nefg\r\n0\r\nX-Late: 1\r\nX-User-Id: mallory\r\n\r\n',
  )
  const { responses } = await rawExchange(site.gateway.port, bytes)
  t.equal(responses[0]?.status, 200)
  const [got] = site.payments.received
  t.match(got, { method: 'POST', url: '/orders', body: 'abcdefg', complete: true })
  t.same(got!.values('transfer-encoding'), ['chunked'])
  for (const name of ['trailer', 'x-late', 'x-user-id', 'content-length']) t.same(got!.values(name), [], name)
})

t.test('a Content-Length is forwarded as the number that was read', async (t) => {
  const site = await startSite(t, SITE)
  const { responses } = await rawExchange(site.gateway.port, post('Content-Length:\t 0004 \r\n', 'abcd'))
  t.equal(responses[0]?.status, 200)
  const [got] = site.payments.received
  t.same(got!.values('content-length'), ['4'])
  t.equal(got!.body, 'abcd')
})

t.test('a body is framed the same whatever the method', async (t) => {
  const site = await startSite(t, SITE)
  for (const method of ['GET', 'HEAD', 'DELETE', 'OPTIONS', 'PATCH', 'PUT', 'SEARCH']) {
    for (const [framing, body] of [
      [`Content-Length: ${HIDDEN.length}`, HIDDEN],
      ['Transfer-Encoding: chunked', `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`],
    ]) {
      const bytes = `${method} /orders HTTP/1.1\r\nHost: gateway.example\r\n${framing}\r\n\r\n${body}`
      const { responses } = await rawExchange(site.gateway.port, bytes, { head: method === 'HEAD' })
      t.equal(responses[0]?.status, 200, `${method}, ${framing}`)
      t.match(
        site.payments.received.at(-1),
        { method, url: '/orders', body: HIDDEN },
        `${method}, ${framing}`,
      )
    }
  }
  t.notOk(site.payments.received.some(({ url }) => url === '/hidden'))
})

t.test('a body that turns malformed is answered, and never looks complete to the upstream', async (t) => {
  const site = await startSite(t, SITE)
  const { gateway, payments } = site
  const wrong = {
    'a bad chunk size': `zz\r\n${HIDDEN}`,
    'a chunk that is too long': `2\r\nefg\r\n0\r\n\r\n${HIDDEN}`,
    'a chunk that ends in LF': `4\r\nefgh\n0\r\n\r\n${HIDDEN}`,
    'a Content-Length in the trailer': `0\r\nContent-Length: 3\r\n\r\n${HIDDEN}`,
  }
  for (const [what, rest] of Object.entries(wrong)) {
    const before = payments.received.length
    const connection = await openRaw(gateway.port)
    connection.write(post('Transfer-Encoding: chunked\r\n', '4\r\nabcd\r\n'))
    await until(() => payments.received[before]?.body === 'abcd')
    connection.write(rest)
    await connection.closed()
    t.match(connection.responses(), [{ status: 400 }], what)
    await gateway.recorded(before + 1)
    t.match(gateway.records[before], { status: 400, error: 'bad_request' }, what)
  }
  t.same(
    payments.received.map(({ url, complete }) => [url, complete]),
    Object.keys(wrong).map(() => ['/orders', false]),
  )
  t.equal(gateway.records.length, payments.received.length)
})

t.test('a body that breaks off never looks complete to the upstream', async (t) => {
  const site = await startSite(t, SITE)
  const { gateway, payments } = site
  for (const framing of ['Content-Length: 100', 'Transfer-Encoding: chunked']) {
    const before = payments.received.length
    const connection = await openRaw(gateway.port)
    connection.write(post(`${framing}\r\n`, '4\r\nabcd\r\n'))
    await until(() => payments.received[before]?.body.includes('abcd') === true)
    connection.socket.destroy()
    await gateway.recorded(before + 1)
    t.match(gateway.records[before], { status: 499, error: 'client_closed' }, framing)
    t.equal(payments.received[before]!.complete, false, framing)
  }
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

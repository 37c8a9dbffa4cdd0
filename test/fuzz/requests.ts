import fc from 'fast-check'
import type { Test } from 'tap'
import { startGateway } from '../support/gateway/gateway.js'
import { openRaw } from '../support/http/raw.js'
import { rawUpstream, respond } from '../support/http/raw-upstream.js'
import { checkReceived, OWN } from './received.js'
import { holds, must, mutated, type Target } from './target.js'

const SMUGGLED = 'GET /api/smuggled HTTP/1.1\r\nHost: a\r\nX-User-Id: mallory\r\n\r\n'

const FIELDS = [
  ...[
    'Host: a',
    'Host: b',
    'Content-Length: 5',
    'Content-Length: 0',
    'Content-Length: 71',
    'Content-Length: +5',
  ],
  ...[
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: xchunked',
    'Transfer-Encoding : chunked',
    'transfer-encoding:\tchunked',
  ],
  ...[
    'Transfer-Encoding: gzip, chunked',
    'Connection: close',
    'Connection: keep-alive',
    'Connection: x-user-id',
    'X_User_Id: bob',
  ],
  ...[
    'Connection: upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
  ],
  ...[
    'X-User-Id: alice',
    'X-User-Id: bob',
    'X-Request-Id: a b',
    'X-Forwarded-For: 1.1.1.1',
    'Forwarded: for=1.1.1.1',
    'TE: trailers',
  ],
  ...[
    'Expect: 100-continue',
    'Trailer: x',
    'X-Original-URL: /admin',
    'X-HTTP-Method-Override: DELETE',
    'X-A: 1',
    'X-A:',
    ' folded',
  ],
  ...[
    'X-A: \x80\xff',
    'Cookie: a=1',
    'Accept-Encoding: gzip',
    'Range: bytes=0-1',
    'Proxy-Authorization: x',
    'Keep-Alive: 5',
  ],
]
const TOKENS = [
  ...[
    '\r\n',
    '\r',
    '\n',
    '\r\n\r\n',
    '\n\n',
    ' ',
    '\t',
    '\0',
    ':',
    ': ',
    ',',
    ';',
    '%0d%0a',
    '%00',
    '%2e%2e/',
    '\x0b',
    '\x7f',
    '\xff',
  ],
  ...[
    'HTTP/1.1',
    'HTTP/1.0',
    'HTTP/2.0',
    'HTTP/0.9',
    'GET ',
    'POST ',
    ' /',
    'http://b/',
    '*',
    '0\r\n\r\n',
    '5\r\nhello\r\n',
    '5;a=b\r\n',
  ],
  ...[
    'fffffffffffffffff\r\n',
    '-1\r\n',
    '0x5\r\n',
    'Content-Length: 0\r\n',
    'Transfer-Encoding: chunked\r\n',
    SMUGGLED,
  ],
]

const request = fc
  .record({
    method: fc.constantFrom(
      'GET',
      'GET',
      'POST',
      'PUT',
      'HEAD',
      'OPTIONS',
      'DELETE',
      'get',
      'CONNECT',
      'TRACE',
      'PRI',
      'X',
    ),
    target: fc.constantFrom(
      '/api/a',
      '/api/a?b=c',
      '/api//b',
      '/api/%61',
      '/api/../x',
      'http://a/api/x',
      '*',
      '/other',
      '/api/%2e%2e/y',
    ),
    version: fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0'),
    host: fc.constantFrom('Host: a\r\n', 'Host: a\r\n', 'Host: a\r\n', ''),
    fields: fc.array(fc.constantFrom(...FIELDS), { maxLength: 5 }),
    body: fc.constantFrom(
      '',
      '',
      'hello',
      '5\r\nhello\r\n0\r\n\r\n',
      '0\r\n\r\n',
      '5\r\nhello\r\n0\r\nX-User-Id: bob\r\n\r\n',
      SMUGGLED,
    ),
  })
  .map(({ method, target, version, host, fields, body }) => {
    const lines = fields.map((field) => `${field}\r\n`).join('')
    return `${method} ${target} ${version}\r\n${host}${lines}\r\n${body}`
  })

const connection = fc.record({
  bytes: mutated(
    fc.array(request, { minLength: 1, maxLength: 3 }).map((all) => all.join('')),
    TOKENS,
    3,
  ),
  /** Fraction of the bytes, in thousandths, after which the rest is sent a moment later. */
  cut: fc.integer({ min: 0, max: 1000 }),
  leaves: fc.boolean(),
})

/** How long a client waits for more, in ms. More may never come: the gateway may wait for the client. */
const PATIENCE = 25

export const requests: Target = {
  name: 'requests',
  what: 'whatever bytes a client sends, upstreams get plain requests, exactly those that were recorded',
  short: 12,
  async open(t) {
    const upstream = await rawUpstream(t as Test, (request) =>
      respond(request, 'HTTP/1.1 200 OK\r\nX-Upstream: 1\r\nContent-Length: 2\r\n\r\nok'),
    )
    const gateway = await startGateway(
      t as Test,
      `
tiers: [free]
consumers: [{ header: { name: x-user-id, from: anyone } }, { ip: {} }]
services: { api: { upstreams: ['${upstream.origin}'], limits: { free: 1000000/min } } }
routes: [{ path: /api/*, service: api, body_limit: 1000 }]
`,
    )

    async function send({
      bytes,
      cut,
      leaves,
    }: {
      bytes: string
      cut: number
      leaves: boolean
    }): Promise<void> {
      const client = await openRaw(gateway.port)
      const place = Math.floor((bytes.length * cut) / 1000)
      client.write(bytes.slice(0, place))
      await new Promise(setImmediate)
      client.write(bytes.slice(place))
      if (!leaves) {
        let heard = -1
        while (!client.isClosed() && client.received().length > heard) {
          heard = client.received().length
          await client.closed(PATIENCE).catch(() => {})
        }
      }
      client.socket.destroy()
      // A response to HEAD has no body, and from here it cannot be seen which response is one.
      if (bytes.includes('HEAD')) return
      for (const { status, header } of client.responses()) {
        const own = header('content-type') === 'application/problem+json'
        // 204: the gateway itself answers OPTIONS so.
        must(
          own ? OWN.has(status) : status === 200 || status === 204 || status === 101,
          `answers ${status}: ${JSON.stringify(bytes)}`,
        )
      }
    }

    return holds(fc.array(connection, { minLength: 1, maxLength: 8 }), async (connections) => {
      await Promise.all(connections.map(send))
      await checkReceived(gateway, upstream)
    })
  },
}

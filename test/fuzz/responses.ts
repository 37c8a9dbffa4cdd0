import fc from 'fast-check'
import type { Test } from 'tap'
import { eventually } from '../support/eventually.js'
import { startGateway } from '../support/gateway/gateway.js'
import { openRaw } from '../support/http/raw.js'
import { rawUpstream, respond } from '../support/http/raw-upstream.js'
import { holds, must, mutated, type Target } from './target.js'

const FORGED = 'HTTP/1.1 200 OK\r\nX-Token: forged\r\nContent-Length: 6\r\n\r\nforged'
const FIELDS = [
  ...[
    'Content-Length: 5',
    'Content-Length: 0',
    'Content-Length: 500',
    'Content-Length: -1',
    'Content-Length: 5, 5',
    'Content-Length: 5 5',
  ],
  ...[
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip',
    'Transfer-Encoding : chunked',
    'Connection: close',
    'Connection: x-a',
  ],
  ...[
    'Upgrade: x',
    'Trailer: x',
    'X-A: 1',
    'X-A:',
    ' folded',
    'X A: 1',
    'X-A: \x80',
    'X-A: a\rb',
    'Set-Cookie: a',
    'Set-Cookie: b',
  ],
  ...[
    'RateLimit: forged',
    'X-RateLimit-Remaining: 99',
    'X-Request-Id: forged',
    'Content-Encoding: gzip',
    'Location: /',
    'X-Token: forged',
  ],
  // Node sends the first ones once over HTTP/2, and the others not at all.
  ...[
    'ETag: a',
    'ETag: b',
    'Host: a',
    'Host: b',
    'Referer: a',
    'Referer: b',
    'TE: gzip',
    'Keep-Alive: timeout=1',
  ],
]
const TOKENS = [
  ...[
    '\r\n',
    '\r',
    '\n',
    '\r\n\r\n',
    ' ',
    '\t',
    '\0',
    ':',
    ',',
    '\xff',
    'HTTP/1.1 ',
    'HTTP/1.0 ',
    'HTTP/2 ',
    '100',
    '101',
    '103',
    '204',
    '304',
    '99',
    '1000',
  ],
  ...[
    '0\r\n\r\n',
    '5\r\nhello\r\n',
    'ffffffffffffffff\r\n',
    '5;x\r\n',
    'Content-Length: 0\r\n',
    'Transfer-Encoding: chunked\r\n',
    FORGED,
  ],
]

/** Generates what a backend may say over HTTP/1.1, and what it must not. */
export const answer = mutated(
  fc
    .record({
      before: fc.constantFrom(
        '',
        '',
        '',
        'HTTP/1.1 100 Continue\r\n\r\n',
        'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n',
        '\r\n',
      ),
      status: fc.constantFrom(
        '200 OK',
        '200 OK',
        '204 No',
        '304 Not',
        '500 Oh',
        '101 Switching',
        '200',
        '999 x',
        '20 x',
        '0200 x',
        '205 Reset',
        '600 x',
      ),
      fields: fc.array(fc.constantFrom(...FIELDS), { maxLength: 4 }),
      body: fc.constantFrom(
        'hello',
        '',
        '5\r\nhello\r\n0\r\n\r\n',
        '5\r\nhello\r\n0\r\nDate: a\r\nDate: b\r\nX-A: 1\r\n\r\n',
        '5\r\nhel',
        FORGED,
      ),
      after: fc.constantFrom('', '', FORGED),
    })
    .map(({ before, status, fields, body, after }) => {
      const lines = fields.map((field) => `${field}\r\n`).join('')
      return `${before}HTTP/1.1 ${status}\r\n${lines}\r\n${body}${after}`
    }),
  TOKENS,
  3,
)

interface Turn {
  readonly method: string
  readonly bytes: string
  readonly ends: boolean
}
const turn: fc.Arbitrary<Turn> = fc.record({
  method: fc.constantFrom('GET', 'GET', 'POST', 'HEAD'),
  bytes: answer,
  ends: fc.boolean(),
})

export const responses: Target = {
  name: 'responses',
  what: 'whatever a backend sends, each request gets one response, and never that of another',
  short: 8,
  async open(t) {
    const turns = new Map<string, Turn>()
    const upstream = await rawUpstream(t as Test, (request) => {
      const id = request.values('x-request-id')[0]!
      const turn = turns.get(id)
      if (turn === undefined)
        respond(request, `HTTP/1.1 200 OK\r\nX-Token: ${id}\r\nContent-Length: 4\r\n\r\ngood`)
      else {
        respond(request, turn.bytes)
        if (turn.ends) request.socket.end()
      }
    })
    const gateway = await startGateway(
      t as Test,
      `
tiers: [free]
trusted_proxies: [127.0.0.1]
services: { api: { upstreams: ['${upstream.origin}'], max_connections: 4, max_wait: 5s, outliers: false } }
routes:
  - { path: /good, service: api }
  - { path: /bad, service: api, timeouts: { headers: 60ms, idle: 60ms, total: 200ms } }
`,
    )
    let ids = 0

    async function ask(turn: Turn): Promise<void> {
      const id = `bad-${ids++}`
      turns.set(id, turn)
      const client = await openRaw(gateway.port, turn.method === 'HEAD')
      const length = turn.method === 'POST' ? 'Content-Length: 2\r\n' : ''
      client.write(
        `${turn.method} /bad HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\n${length}\r\n${length === '' ? '' : 'ab'}`,
      )
      await client.until('an answer', () => client.responses().length > 0 || client.isClosed())
      const [first, ...more] = client.responses()
      must(more.length === 0, `two answers: ${JSON.stringify(client.received())}`)
      if (first !== undefined) {
        const { header } = first
        must(header('x-request-id') === id, `another id: ${first.head}`)
        must(
          header('ratelimit') !== undefined || header('x-ratelimit-limit') === undefined,
          `limits: ${first.head}`,
        )
        if (header('content-type') === 'application/problem+json')
          must(first.status >= 502, `answers ${first.status}`)
      }
      client.socket.destroy()
      turns.delete(id)
    }

    async function askWell(): Promise<void> {
      const id = `good-${ids++}`
      const client = await openRaw(gateway.port)
      client.write(`GET /good HTTP/1.1\r\nHost: a\r\nX-Request-Id: ${id}\r\n\r\n`)
      await client.until('an answer', () => client.responses().length > 0)
      const { status, body, header } = client.responses()[0]!
      must(
        status === 200 && header('x-token') === id && body === 'good',
        `a good one gets ${client.received()}`,
      )
      client.socket.destroy()
    }

    return holds(fc.array(turn, { minLength: 1, maxLength: 6 }), async (all) => {
      await Promise.all(all.flatMap((turn) => [ask(turn), askWell()]))
      await askWell()
      await eventually('nothing is under way', () => gateway.watchdog.size() === 0)
      must(gateway.logged.length === 0, `logged ${JSON.stringify(gateway.logged)}`)
      gateway.records.length = 0
      gateway.accessLines.length = 0
      upstream.requests.length = 0
    })
  },
}

// Tests src/gateway/listen/{server,pipeline}.ts
// Tests src/gateway/listen/plain/{connections,head,request}.ts
// Tests src/gateway/listen/http2/{server,stream,request-head}.ts
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type AnyFace, fieldsOf, type Sent, startAllFaces } from '../support/http/all-faces.js'
import { type RawRequest, reset } from '../support/http/raw-upstream.js'

/**
 * One corpus through every way in. Whatever reads a request and writes its response, the upstream gets the same bytes and the client the
 * same answer, but for what the protocols differ in.
 */

const yaml = (up: string) => `
tiers: [free, pro]
default_tier: free
consumers:
  - api_key: { keys: [{ key: the-key-of-acme-inc, consumer: acme, tier: pro }] }
  - header: { name: x-user-id, from: anyone }
  - ip: {}
services:
  api: { upstreams: ['${up}'], limits: { free: 1000/min, pro: 5000/min }, identity: headers }
  scarce: { upstreams: ['${up}'], limits: { free: 2/min, pro: 2/min } }
  down: { upstreams: ['http://127.0.0.1:1'] }
routes:
  - { path: /scarce/*, service: scarce }
  - { path: /down/*, service: down }
  - { path: /members/*, service: api, auth: { any_of: [api_key] } }
  - { path: /shop/*, service: api, strip_prefix: /shop, methods: [GET, HEAD, POST] }
  - { path: /small/*, service: api, body_limit: 1KiB }
  - { path: /slow/*, service: api, timeouts: { headers: 200ms } }
  - { path: /none, respond: { status: 204 } }
  - { path: /*, service: api }
`

interface Case {
  readonly name: string
  readonly method?: string
  readonly target?: string
  readonly fields?: Sent['fields']
  readonly body?: readonly string[]
  readonly sized?: boolean
  readonly trailers?: Sent['trailers']
  /** Pieces that the upstream writes, each in a packet of its own, or what it does; a small answer unless said. */
  readonly answer?: readonly string[] | ((request: RawRequest) => void)
  /** Expected status of the response. */
  readonly status?: number
  /** False: nothing may reach the upstream. */
  readonly forwarded?: boolean
}

const FIXED_DATE = 'Thu, 01 Jan 2026 00:00:00 GMT'
const DATE = `Date: ${FIXED_DATE}\r\n`
const head = (status: string, fields = '') => `HTTP/1.1 ${status}\r\n${DATE}${fields}`
const sized = (body: string, fields = '', status = '200 OK') =>
  `${head(status, fields)}Content-Length: ${body.length}\r\n\r\n${body}`
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n'
const SMALL = sized('{"id":"ord_81723"}', 'Content-Type: application/json\r\n')
const LARGE = 'x'.repeat(10_240)
const many = (count: number): [string, string][] =>
  Array.from({ length: count }, (_, i) => [`X-Field-${i}`, `value ${i}`])

const CASES: readonly Case[] = [
  // Methods.
  { name: 'GET' },
  { name: 'HEAD', method: 'HEAD', answer: [head('200 OK', 'Content-Length: 18\r\n\r\n')] },
  { name: 'HEAD of a response in chunks', method: 'HEAD', answer: [head('200 OK', CHUNKED)] },
  { name: 'DELETE', method: 'DELETE' },
  { name: 'OPTIONS', method: 'OPTIONS' },
  { name: 'OPTIONS with Max-Forwards', method: 'OPTIONS', fields: [['Max-Forwards', '3']] },
  {
    name: 'OPTIONS with Max-Forwards 0',
    method: 'OPTIONS',
    fields: [['Max-Forwards', '0']],
    status: 204,
    forwarded: false,
  },
  { name: 'PATCH without a body', method: 'PATCH' },
  { name: 'POST without a body', method: 'POST' },
  { name: 'a method of its own', method: 'PURGE' },
  { name: 'TRACE', method: 'TRACE', status: 405, forwarded: false },
  { name: 'a method that only the last route has', method: 'PUT', target: '/shop/1' },

  // Bodies.
  { name: 'POST with a length', method: 'POST', body: ['a=1&b=2'] },
  { name: 'POST with a length of 0', method: 'POST', body: [''] },
  { name: 'GET with a body', body: ['query'] },
  { name: 'DELETE with a body', method: 'DELETE', body: ['which'] },
  { name: 'PUT in pieces', method: 'PUT', body: ['one ', 'two ', 'three'] },
  { name: 'PUT of 10 KB', method: 'PUT', body: [LARGE] },
  { name: 'PUT of 100 KB in pieces', method: 'PUT', body: Array.from({ length: 10 }, () => LARGE) },
  { name: 'POST without a length', method: 'POST', body: ['one ', 'two'], sized: false },
  { name: 'POST without a length, 10 KB', method: 'POST', body: [LARGE], sized: false },
  { name: 'POST with trailers', method: 'POST', body: ['one'], sized: false, trailers: [['x-sum', '17']] },
  { name: 'a body of binary bytes', method: 'POST', body: ['\0\x01\xff\r\n\r\n\x80'] },
  {
    name: 'a body above its limit',
    method: 'POST',
    target: '/small/1',
    body: ['x'.repeat(1025)],
    status: 413,
    forwarded: false,
  },
  { name: 'a body at its limit', method: 'POST', target: '/small/1', body: ['x'.repeat(1024)] },

  // Headers.
  { name: 'an empty value', fields: [['X-Empty', '']] },
  {
    name: 'repeated names',
    fields: [
      ['X-Twice', 'one'],
      ['X-Twice', 'two'],
      ['X-Twice', ''],
    ],
  },
  { name: 'a value with tabs, quotes and commas', fields: [['X-Odd', 'a\tb, "c,d"; e=\'f\'']] },
  { name: 'a value of bytes above ASCII', fields: [['X-Latin', 'caf\xe9']] },
  { name: 'many headers', fields: many(60) },
  { name: 'a long value', fields: [['X-Long', 'y'.repeat(6000)]] },
  { name: 'cookies', fields: [['Cookie', 'a=1; b=2']] },
  {
    name: 'conditions and ranges',
    fields: [
      ['If-None-Match', 'W/"1", "2"'],
      ['Range', 'bytes=0-9'],
      ['Accept-Encoding', 'gzip, br;q=0.5'],
    ],
  },
  {
    name: 'who the client claims to be',
    fields: [
      ['X-Forwarded-For', '203.0.113.7'],
      ['Forwarded', 'for=203.0.113.7'],
      ['X-Real-IP', '203.0.113.7'],
      ['X-Consumer-Id', 'root'],
      ['Remote-User', 'root'],
    ],
  },
  {
    name: 'a name with an underscore',
    fields: [
      ['X_Consumer_Id', 'root'],
      ['X_Other', 'kept'],
    ],
  },
  { name: 'a Via of its own', fields: [['Via', '1.0 edge']] },
  {
    name: 'trace context',
    fields: [
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
      ['tracestate', 'a=b'],
    ],
  },
  { name: 'an id that is no id', fields: [['X-Request-Id', 'a b']] },

  // Targets.
  { name: 'percent-encoding', target: '/a%20b/%E2%82%AC/%7Etilde?q=%2F%3F&r=a+b' },
  { name: 'an encoded slash', target: '/a%2Fb', status: 400, forwarded: false },
  { name: 'dot segments', target: '/a/./b/../c', status: 400, forwarded: false },
  { name: 'an empty query', target: '/a?' },
  { name: 'a query with odd characters', target: '/a?x=[1]&y={2}|3^`"<>' },
  { name: 'repeated slashes', target: '//a///b' },
  {
    name: 'a prefix that is removed',
    target: '/shop/cart?x=1',
    answer: [sized('', 'Location: /login\r\nSet-Cookie: a=1; Path=/cart\r\n', '302 Found')],
    status: 302,
  },
  { name: 'a bad escape', target: '/a%zz', status: 400, forwarded: false },

  // Credentials.
  { name: 'a key', target: '/members/1', fields: [['X-Api-Key', 'the-key-of-acme-inc']] },
  {
    name: 'a wrong key',
    target: '/members/1',
    fields: [['X-Api-Key', 'not-a-key-of-anyone']],
    status: 401,
    forwarded: false,
  },
  { name: 'no key', target: '/members/1', status: 401, forwarded: false },
  { name: 'a consumer that a header names', fields: [['X-User-Id', 'user 7']] },
  {
    name: 'a key with a body',
    method: 'POST',
    target: '/members/1',
    fields: [['X-Api-Key', 'the-key-of-acme-inc']],
    body: ['paid'],
  },

  // Denials, and answers of the gateway itself.
  { name: 'the first of two', target: '/scarce/1' },
  { name: 'the second of two', target: '/scarce/2' },
  { name: 'denied', target: '/scarce/3', status: 429, forwarded: false },
  { name: 'denied again', target: '/scarce/3', status: 429, forwarded: false },
  { name: 'denied HEAD', method: 'HEAD', target: '/scarce/3', status: 429, forwarded: false },
  { name: 'a direct response', target: '/none', status: 204, forwarded: false },

  // Responses.
  { name: '204', answer: [`${head('204 No Content')}\r\n`], status: 204 },
  { name: '304', answer: [`${head('304 Not Modified', 'ETag: "1"\r\n')}\r\n`], status: 304 },
  {
    name: '304 with a length',
    answer: [`${head('304 Not Modified', 'Content-Length: 5\r\n')}\r\n`],
    status: 304,
  },
  { name: 'an empty 200', answer: [sized('')] },
  { name: '10 KB', answer: [sized(LARGE)] },
  { name: '10 KB in two pieces', answer: [sized(LARGE).slice(0, 3000), sized(LARGE).slice(3000)] },
  { name: '200 KB', answer: [sized(LARGE.repeat(20))] },
  { name: 'a head in pieces', answer: [SMALL.slice(0, 9), SMALL.slice(9, 40), SMALL.slice(40)] },
  { name: 'head and body apart', answer: SMALL.split(/(?<=\r\n\r\n)/) },
  { name: 'one chunk', answer: [head('200 OK', CHUNKED) + chunk('all of it') + chunk('')] },
  {
    name: 'chunks one by one',
    answer: [head('200 OK', CHUNKED), chunk('one '), chunk('two '), chunk('three'), chunk('')],
  },
  {
    name: 'chunks with trailers',
    answer: [`${head('200 OK', `Trailer: X-Sum\r\n${CHUNKED}`)}${chunk('all')}0\r\nX-Sum: 17\r\n\r\n`],
  },
  { name: 'chunks with extensions', answer: [`${head('200 OK', CHUNKED)}3;a=b\r\nall\r\n0;c\r\n\r\n`] },
  {
    name: 'without a length, until the end',
    answer: (request) => void request.socket.end(`HTTP/1.0 200 OK\r\n${DATE}\r\nuntil the end`, 'latin1'),
  },
  {
    name: 'with Connection: close',
    answer: (request) => void request.socket.end(sized('last', 'Connection: close\r\n'), 'latin1'),
  },
  {
    name: 'with Keep-Alive and what Connection names',
    answer: [
      sized(
        'ok',
        'Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=9\r\nX-Hop: dropped\r\nX-End: kept\r\n',
      ),
    ],
  },
  {
    name: 'repeated and empty headers',
    answer: [sized('ok', 'Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty:\r\nX-Odd: caf\xe9, \t"q"\r\n')],
  },
  {
    name: 'many headers of the upstream',
    answer: [
      sized(
        'ok',
        many(60)
          .map(([name, value]) => `${name}: ${value}\r\n`)
          .join(''),
      ),
    ],
  },
  { name: 'without a Date', answer: ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'] },
  {
    name: 'fields that the gateway replaces',
    answer: [
      sized(
        'ok',
        'X-Request-Id: theirs\r\nRateLimit: "x";r=1;t=1\r\nX-RateLimit-Limit: 1\r\nVia: 1.1 inner\r\n',
      ),
    ],
  },
  { name: 'an unknown status', answer: [sized('ok', '', '299 Odd')], status: 299 },
  { name: 'a status without a reason', answer: [sized('ok', '', '200')] },
  { name: '404 of the upstream', answer: [sized('gone', '', '404 Not Found')], status: 404 },
  { name: '500 of the upstream', answer: [sized('broken', '', '500 Internal Server Error')], status: 500 },
  { name: '100 Continue before the answer', answer: [`HTTP/1.1 100 Continue\r\n\r\n${SMALL}`] },

  // Faults of upstreams.
  { name: 'nobody listens', target: '/down/1', status: 502, forwarded: false },
  {
    name: 'reset before a response',
    method: 'POST',
    body: ['x'],
    answer: (request) => reset(request.socket),
    status: 502,
  },
  {
    name: 'closed before a response',
    method: 'POST',
    body: ['x'],
    answer: (request) => void request.socket.end(),
    status: 502,
  },
  { name: 'no HTTP', method: 'POST', body: ['x'], answer: ['SSH-2.0-OpenSSH\r\n\r\n'], status: 502 },
  {
    name: 'two lengths',
    method: 'POST',
    body: ['x'],
    answer: [`${head('200 OK', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\n')}ok`],
    status: 502,
  },
  {
    name: 'length and chunks',
    method: 'POST',
    body: ['x'],
    answer: [head('200 OK', `Content-Length: 2\r\n${CHUNKED}`) + chunk('ok') + chunk('')],
    status: 502,
  },
  {
    name: 'a header too large',
    method: 'POST',
    body: ['x'],
    answer: [sized('ok', `X-Long: ${'y'.repeat(20_000)}\r\n`)],
    status: 502,
  },
  { name: 'silence', method: 'POST', target: '/slow/1', body: ['x'], answer: [], status: 504 },
  {
    name: 'cut in its body',
    method: 'POST',
    body: ['x'],
    answer: (request) =>
      void request.socket.end(`${head('200 OK', 'Content-Length: 20\r\n\r\n')}half`, 'latin1'),
  },
  {
    name: 'cut in its chunks',
    method: 'POST',
    body: ['x'],
    answer: (request) => void request.socket.end(head('200 OK', CHUNKED) + chunk('half'), 'latin1'),
  },
  { name: 'more bytes than its length', answer: [`${sized('ok')}garbage`] },
  { name: 'and a plain GET after all that' },
]

/** What a case led to behind one face, without what the protocols differ in. */
interface Outcome {
  readonly status: number
  readonly fields: readonly string[]
  readonly body: string
  readonly cut: boolean
  readonly upstream: readonly { readonly head: readonly string[]; readonly body: string }[]
  readonly record: object
}

/** Fields that only HTTP/1.1 has. */
const OF_THE_CONNECTION = new Set(['connection', 'keep-alive', 'transfer-encoding'])

/** Writes what differs from one response to the next, or from one protocol to another, as the same word. */
function plainly(fields: readonly (readonly [string, string])[]): string[] {
  return fields.map(([name, value]) => {
    const key = name.toLowerCase()
    if (key === 'date' && value !== FIXED_DATE) value = 'now'
    if (key === 'x-request-id' && !value.startsWith('face-')) value = 'new'
    if (key === 'host') value = value.replace(/:\d+$/, '')
    if (key === 'via') value = value.replace(/\b[12]\.\d tidegate/, 'tidegate')
    if (key === 'x-forwarded-proto') value = value.replace('https', 'http')
    return `${name}: ${value}`
  })
}

/** Returns a long body as its length and hash: a comparison of texts takes longer than the request. */
function brief(body: string): string {
  if (body.length < 1000) return body
  return `${body.length} bytes, ${createHash('sha256').update(body, 'latin1').digest('hex')}`
}

/** Returns the outcome with the names of fields in lower case, which is all that HTTP/2 has. */
function lowered(outcome: Outcome): Outcome {
  const lower = (fields: readonly string[]) =>
    fields.map((field) => field.replace(/^[^ :]+(?=:)/, (name) => name.toLowerCase()))
  const upstream = outcome.upstream.map(({ head, body }) => ({ head: lower(head), body }))
  return { ...outcome, fields: lower(outcome.fields), upstream }
}

t.test('every face sends upstreams the same bytes, and clients the same answers', async (t) => {
  let current: Case
  const faces = await startAllFaces(t, yaml, async (request) => {
    const { answer = [SMALL] } = current
    if (typeof answer === 'function') return answer(request)
    for (const [i, piece] of answer.entries()) {
      if (i > 0) await sleep(10)
      request.socket.write(piece, 'latin1')
    }
  })

  async function run(face: AnyFace, index: number): Promise<Outcome> {
    const {
      method = 'GET',
      target = '/orders/1?page=2',
      fields = [],
      body,
      sized = true,
      trailers = [],
    } = current
    const from = face.upstream.requests.length
    const recorded = face.gateway.records.length
    const named = fields.some(([name]) => name === 'X-Request-Id')
    const id: Sent['fields'] = named ? [] : [['X-Request-Id', `face-${index}`]]
    const answer = await face.ask({ method, target, fields: [...id, ...fields], body, sized, trailers })
    await face.gateway.recorded(recorded + 1)
    const { status, error, bytesIn, bytesOut, consumer, tier } = face.gateway.records.at(-1)!
    const fieldsOfAnswer = answer.fields.filter(([name]) => !OF_THE_CONNECTION.has(name.toLowerCase()))
    return {
      status: answer.status,
      fields: plainly(fieldsOfAnswer),
      body: brief(answer.body).replace(/"request_id":"(?!face-)[^"]*"/, '"request_id":"new"'),
      cut: answer.cut,
      upstream: face.upstream.requests.slice(from).map((request) => ({
        head: [request.head.split('\r\n')[0]!, ...plainly(fieldsOf(request.head))],
        body: brief(request.body),
      })),
      record: { status, error, bytesIn, bytesOut, consumer, tier },
    }
  }

  for (const [index, one] of CASES.entries()) {
    current = one
    const [expected, ...others] = await Promise.all(faces.map((face) => run(face, index)))
    t.equal(expected!.status, one.status ?? 200, `${one.name}: ${JSON.stringify(expected)}`)
    t.equal(expected!.upstream.length > 0, one.forwarded ?? true, `${one.name}: forwarded`)
    for (const [i, seen] of others.entries()) {
      const { name, http2 } = faces[i + 1]!
      const alike = http2 ? lowered : (outcome: Outcome) => outcome
      t.strictSame(alike(seen), alike(expected!), `${one.name}, over ${name}`)
    }
  }
  for (const { name, gateway } of faces) t.strictSame(gateway.logged, [], `${name} logged nothing`)
})

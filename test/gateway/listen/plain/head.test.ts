import { createServer, type IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { readPlainHead } from '../../../../src/gateway/listen/plain/head.js'
import { rawRequest } from '../../../support/http/raw.js'

/** Tests that the plain path reads a head as Node's parser does, or leaves it to that. */

const MOST = { max_headers: 100, max_header_size: 16_384 }

interface Understood {
  readonly method: string
  readonly target: string
  readonly fields: readonly string[]
  readonly body: string
}

/** Returns what Node makes of bytes that arrive at once: its requests, and whether it refuses something. */
async function nodeReads(
  bytes: Buffer,
): Promise<{ requests: Understood[]; refused: boolean; open: boolean }> {
  const requests: Understood[] = []
  let refused = false
  let open = true
  // The settings of `server.ts`.
  const server = createServer(
    { maxHeaderSize: MOST.max_header_size, requireHostHeader: false, insecureHTTPParser: false },
    (req, res) => {
      if (!res.shouldKeepAlive) open = false
      take(req)
    },
  )
  const refuse = () => {
    refused = true
  }
  server.on('clientError', refuse)
  // An upgrade, a CONNECT or an Expect is a negotiation.
  for (const event of ['upgrade', 'connect', 'checkContinue', 'checkExpectation']) server.on(event, refuse)
  function take(req: IncomingMessage): void {
    let body = ''
    req.on('data', (chunk) => {
      body += chunk.toString('latin1')
    })
    req.on('end', () => {
      const { method, url, rawHeaders, httpVersion } = req
      if (httpVersion !== '1.1') refused = true
      requests.push({ method: method!, target: url!, fields: rawHeaders, body })
    })
  }
  const connection = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  server.emit('connection', connection)
  connection.push(bytes)
  await turn()
  await turn()
  connection.destroy()
  return { requests, refused, open }
}

/** @returns whether the plain path read it at all */
async function agree(bytes: Buffer): Promise<boolean> {
  const head = readPlainHead(bytes, MOST)
  if (head === undefined) return false
  const { method, target, fields, body } = head
  const ours = { method, target, fields, body: body?.toString('latin1') ?? '' }
  const theirs = await nodeReads(bytes)
  const text = JSON.stringify(bytes.toString('latin1'))
  if (theirs.refused || !theirs.open) throw new Error(`Node refuses, or ends the connection after, ${text}`)
  if (JSON.stringify(theirs.requests) !== JSON.stringify([ours]))
    throw new Error(`${text}: Node reads ${JSON.stringify(theirs.requests)}, we ${JSON.stringify(ours)}`)
  return true
}

/** Mostly well-formed parts: one oddity is enough, and a second would hide the first. */
function mostly<T>(good: readonly T[], odd: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...good) },
    { weight: 1, arbitrary: fc.constantFrom(...odd) },
  )
}

const LONG = 'x'.repeat(2_000)
const field = fc.tuple(
  mostly(
    ['Cookie', 'X-User-Id', 'x_y', "!#$%&'*+-.^_`|~0", 'Keep-Alive', 'TE', 'Trailer', 'Accept'],
    [
      'Host',
      'HOST',
      'Transfer-Encoding',
      'Connection',
      'Upgrade',
      'Expect',
      'Proxy-Connection',
      'Content-Length',
    ],
  ),
  mostly([': ', ':'], [':  ', ' : ', ':\t']),
  mostly(
    ['', 'a', 'a b, c', 'a\tb', '"\\', LONG],
    [
      '0',
      '4',
      'chunked',
      'identity',
      'close',
      'keep-alive',
      'upgrade',
      '100-continue',
      'a ',
      'a\0b',
      'a\x7fb',
      'caf\xe9',
    ],
  ),
)
const requests = fc
  .record({
    method: mostly(
      ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS'],
      ['CONNECT', 'PRI', 'get', 'TRACE', ''],
    ),
    target: mostly(
      ['/', '/a/b?c=%20d', '/a;b/../c', '//a', '/?', "/!$&'()*+,;=:@?/~"],
      ['*', 'http://a/', '/caf\xe9', '/a b', '/{', '/#x', ''],
    ),
    version: mostly(['HTTP/1.1'], ['HTTP/1.0', 'HTTP/2.0', 'http/1.1', 'HTTP/1.1 ']),
    host: mostly(['Host: a\r\n', 'Host:a\r\n', 'host: \r\n'], ['']),
    fields: fc.array(field, { maxLength: 4 }),
    body: mostly(
      [
        ['', ''],
        ['Content-Length: 4\r\n', 'body'],
        ['content-length:0\r\n', ''],
      ],
      [
        ['', 'body'],
        ['Content-Length: 4\r\n', 'bodyGET / HTTP/1.1\r\n\r\n'],
        ['Content-Length: 4\r\n', 'bod'],
        ['Content-Length: +4\r\n', 'body'],
        ['Content-Length: 04\r\n', 'body'],
        ['Content-Length: 4, 4\r\n', 'body'],
        ['Transfer-Encoding: chunked\r\n', '0\r\n\r\n'],
      ],
    ),
  })
  .map(({ method, target, version, host, fields, body: [length, body] }) => {
    const lines = fields.map((parts) => `${parts.join('')}\r\n`).join('')
    return `${method} ${target} ${version}\r\n${host}${lines}${length}\r\n${body}`
  })
/** Inserts, removes or changes a byte now and then. */
const slips = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    cut: fc.integer({ min: 0, max: 2 }),
    put: fc.constantFrom(
      '',
      '\r',
      '\n',
      ' ',
      '\t',
      ':',
      '\0',
      '\x80',
      '/',
      'a',
      '\r\n',
      '\r\n\r\n',
      '\n\n',
      '\v',
    ),
  }),
  { maxLength: 2 },
)
const mostlyNone = fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: slips })
const mutated = fc.tuple(requests, mostlyNone).map(([text, list]) => {
  let out = text
  for (const { at, cut, put } of list) {
    const i = Math.floor(at * out.length)
    out = out.slice(0, i) + put + out.slice(i + cut)
  }
  return Buffer.from(out, 'latin1')
})

t.test('Node reads every head as the plain path does', async (t) => {
  let read = 0
  const check = fc.asyncProperty(mutated, async (bytes) => {
    if (await agree(bytes)) read++
  })
  await fc.assert(check, { numRuns: 2_000 })
  t.ok(read > 300, `${read} were read here`)
})

t.test('the same holds when any single byte of a good request is changed', async (t) => {
  const good = 'POST /a HTTP/1.1\r\nHost: a\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nok'
  const others = [0x00, 0x09, 0x0a, 0x0b, 0x0d, 0x20, 0x22, 0x3a, 0x41, 0x7e, 0x7f, 0x80, 0xff]
  let read = 0
  for (let i = 0; i < good.length; i++) {
    for (const other of others) {
      const bytes = Buffer.from(good, 'latin1')
      bytes[i] = other
      if (await agree(bytes)) read++
    }
  }
  t.ok(read > 20, `${read} were read here`)
})

t.test('the plain path reads the usual requests', (t) => {
  const usual = [
    rawRequest('GET /'),
    rawRequest('DELETE /orders/1?x=%7B', 'Connection: keep-alive', 'Accept: */*', 'Cookie: a=b; c="d"'),
    rawRequest('GET /', `Authorization: Bearer ${'x'.repeat(4_000)}`),
    rawRequest('POST /', 'Content-Length: 0'),
    rawRequest('POST /'),
    `${rawRequest('PUT /', 'Content-Length: 4')}body`,
    `${rawRequest('POST /', 'Content-Length: 16384')}${'x'.repeat(16_384)}`,
  ]
  for (const text of usual) t.ok(readPlainHead(Buffer.from(text), MOST), text.slice(0, 60))
  const { fields, body } = readPlainHead(Buffer.from(usual[5]!), MOST)!
  t.same(fields, ['Host', 'gateway.example', 'Content-Length', '4'])
  t.equal(body?.toString(), 'body')
  t.end()
})

t.test('an ambiguous or incomplete head is left to Node', (t) => {
  const get = rawRequest('GET /')
  const left: Record<string, string> = {
    nothing: '',
    'a part of a head': get.slice(0, -1),
    'two requests': get + get,
    'a request and a half': get + get.slice(0, 9),
    'an empty line in front': `\r\n${get}`,
    'no Host': 'GET / HTTP/1.1\r\nX: y\r\n\r\n',
    'no field at all': 'GET / HTTP/1.1\r\n\r\n',
    'two Hosts': rawRequest('GET /', 'host: other'),
    'two lengths': `${rawRequest('POST /', 'Content-Length: 1', 'Content-Length: 1')}x`,
    'a length that is none': `${rawRequest('POST /', 'Content-Length: 0x1')}x`,
    'a length with a zero in front': `${rawRequest('POST /', 'Content-Length: 01')}x`,
    'a body that is not all there': `${rawRequest('POST /', 'Content-Length: 2')}x`,
    'a body with something behind it': `${rawRequest('POST /', 'Content-Length: 1')}xy`,
    'a long body': `${rawRequest('POST /', 'Content-Length: 16385')}${'x'.repeat(16_385)}`,
    chunks: `${rawRequest('POST /', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    'an upgrade': rawRequest('GET /', 'Connection: Upgrade', 'Upgrade: websocket'),
    'an Upgrade that Connection does not name': rawRequest('GET /', 'Upgrade: h2c'),
    'an Expect': rawRequest('GET /', 'Expect: 100-continue'),
    'the last request': rawRequest('GET /', 'Connection: close'),
    'a field that is for this connection only': rawRequest('GET /', 'Connection: keep-alive, x-hop'),
    'Proxy-Connection': rawRequest('GET /', 'Proxy-Connection: close'),
    'HTTP/1.0': get.replace('1.1', '1.0'),
    'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'an absolute target': rawRequest('GET http://a/'),
    'an odd target': rawRequest('GET /a"b'),
    'an odd method': rawRequest('TRACE /'),
    'a blank more': rawRequest('GET /', 'X:  y'),
    'a blank behind': rawRequest('GET /', 'X: y '),
    'a folded line': rawRequest('GET /', 'X: y', ' z'),
    'bare line feeds': get.replaceAll('\r\n', '\n'),
    'a byte beyond ASCII': rawRequest('GET /', 'X: caf\xe9'),
    'a long head': rawRequest('GET /', `X: ${'x'.repeat(8_192)}`),
    'a long target': rawRequest(`GET /${'x'.repeat(8_192)}`),
    'many fields': rawRequest('GET /', ...Array(100).fill('X: y')),
  }
  for (const [what, text] of Object.entries(left)) {
    t.equal(readPlainHead(Buffer.from(text, 'latin1'), MOST), undefined, what)
  }
  t.equal(
    readPlainHead(Buffer.from(get), { ...MOST, max_header_size: get.length }),
    undefined,
    'past the limit',
  )
  t.end()
})

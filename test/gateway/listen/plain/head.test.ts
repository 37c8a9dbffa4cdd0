import fc from 'fast-check'
import t from 'tap'
import { readPlainHead } from '../../../../src/gateway/listen/plain/head.js'
import { agree, MOST, mutated } from '../../../support/http/mutated-requests.js'
import { rawRequest } from '../../../support/http/raw.js'

/** Tests that the plain path reads a head as Node's parser does, or leaves it to that. */

t.test('Node reads every head as the plain path does', async (t) => {
  let read = 0
  const check = fc.asyncProperty(mutated, async (bytes) => {
    if (await agree(bytes)) read++
  })
  await fc.assert(check, { numRuns: 10_000 })
  t.ok(read > 1_500, `${read} were read here`)
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

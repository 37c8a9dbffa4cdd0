import { createServer, type IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { readPlainHead } from '../../../src/gateway/listen/plain/head.js'

/** Requests of HTTP/1.1, mutated ones among them, and what the two readers of the gateway make of them. */

/** Settings of `server` that the readers use. */
export const MOST = { max_headers: 100, max_header_size: 16_384 }

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

/**
 * Gives the same bytes to both readers.
 *
 * @returns whether the plain path read them at all
 * @throws Error if Node's parser reads them differently
 */
export async function agree(bytes: Buffer): Promise<boolean> {
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
/** Bytes of a request; most are well-formed. */
export const mutated = fc.tuple(requests, mostlyNone).map(([text, list]) => {
  let out = text
  for (const { at, cut, put } of list) {
    const i = Math.floor(at * out.length)
    out = out.slice(0, i) + put + out.slice(i + cut)
  }
  return Buffer.from(out, 'latin1')
})

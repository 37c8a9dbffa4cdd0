import { deepStrictEqual as same } from 'node:assert'
import fc from 'fast-check'
import { ResponseReader } from '../../src/upstream/http1/reader.js'
import { wholeReader } from '../../src/upstream/http1/whole-response.js'
import { readWithLlhttp } from '../support/http/llhttp.js'
import { holds, must, mutated, type Target } from './target.js'

const SEEN_ONE_BY_ONE = ['via', 'x-request-id']
const readWhole = wholeReader(SEEN_ONE_BY_ONE)

const USUAL = [
  ...[
    'Content-Type: application/json',
    'Server: x',
    'ETag: "a"',
    'X-A: 1',
    'x-b: a, b; c="d e"',
    'Date: now',
  ],
  ...[
    'Connection: keep-alive',
    'Connection: Keep-Alive',
    'Keep-Alive: timeout=5',
    'Keep-Alive: timeout=9, max=7',
  ],
]
const ODD = [
  ...[
    'Connection: close',
    'connection: KEEP-ALIVE',
    'Connection: x-a',
    'Keep-Alive: max=7',
    'keep-alive: timeout=99999999999',
  ],
  ...[
    'Content-Length: 5',
    'Content-Length: 05',
    'Content-Length: 0',
    'Content-Length: 5, 5',
    'content-length: +5',
  ],
  ...['Transfer-Encoding: chunked', 'transfer-encoding: identity', 'Trailer: X', 'TE: x', 'Upgrade: h2c'],
  ...[
    'Via: 1.1 a',
    'X-Request-Id: b',
    'X-A:',
    'X-A: ',
    'X-A:1',
    'X-A:  1',
    'X-A: 1 ',
    'X-A : 1',
    'X-A: a\tb',
    'X-A: \x80',
  ],
]
const field = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...USUAL) },
  { weight: 1, arbitrary: fc.constantFrom(...ODD) },
)
const TOKENS = [
  ...['\r\n', '\r', '\n', '\r\n\r\n', ' ', '\t', '\0', ':', ',', '\x7f', '\xff', '0', '5'],
  ...['0\r\n\r\n', '5\r\n', ';x', 'A', 'X: y\r\n'],
  ...['HTTP/1.1 ', 'HTTP/1.0 ', '100 Continue\r\n\r\n', '204 No', '304 Not', '199', '600', '20', '2000'],
  ...[
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    'hello',
  ],
]

const text = mutated(
  fc
    .record({
      status: fc.constantFrom(
        '200 OK',
        '200 OK',
        '201 Created',
        '404 Not Found',
        '500 Oh no',
        '204 No Content',
        '200',
        '200 ',
      ),
      before: fc.array(field, { maxLength: 3 }),
      body: fc.constantFrom('hello', '', '\r\n\r\nx', '\x00\xff\x80', '{"a":1}'),
      after: fc.array(field, { maxLength: 2 }),
      framed: fc.constantFrom('length', 'length', 'length', 'chunk', 'chunks', 'none'),
    })
    .map(({ status, before, body, after, framed }) => {
      const framing = {
        length: [`Content-Length: ${body.length}`],
        chunk: ['Transfer-Encoding: chunked'],
        chunks: ['transfer-encoding: chunked'],
        none: [],
      }[framed]
      const lines = [...before, ...framing, ...after].map((field) => `${field}\r\n`).join('')
      const chunk = (data: string) => (data === '' ? '' : `${data.length.toString(16)}\r\n${data}\r\n`)
      const chunks = framed === 'chunk' ? chunk(body) : [...body].map(chunk).join('')
      if (framed.startsWith('chunk')) return `HTTP/1.1 ${status}\r\n${lines}\r\n${chunks}0\r\n\r\n`
      return `HTTP/1.1 ${status}\r\n${lines}\r\n${body}`
    }),
  TOKENS,
  1,
)

/** Reads what the full reader makes of bytes: its heads and bodies, or nothing if it is not one complete response. */
function readFully(bytes: Buffer) {
  let head: { status: number; reason: string; fields: string[] } | undefined
  let body = ''
  const reader = new ResponseReader({
    started() {},
    head({ status, reason, fields }) {
      must(head === undefined, 'two heads')
      head = { status, reason, fields }
    },
    data(piece, from, to) {
      body += piece.toString('latin1', from, to)
    },
  })
  reader.expect(false)
  const end = reader.read(Buffer.from(bytes), bytes.length)
  must(reader.ended && end === bytes.length, 'the full reader waits for more, or has some left')
  const { keepAlive, idleSeconds, trailers } = reader
  return { ...head!, body, keepAlive, idleSeconds, trailers }
}

const HOP = new Set(['connection', 'keep-alive', 'transfer-encoding'])

function withoutHop(fields: readonly string[]): string[] {
  return fields.filter((_, i) => !HOP.has(fields[i - (i % 2)]!.toLowerCase()))
}

let taken = 0

/** Returns how many responses were read as a whole. */
export function wholeTaken(): number {
  return taken
}

export const wholeResponses: Target = {
  name: 'whole-responses',
  what: 'a response that is read as a whole is read so by the full reader and by Node, cut anywhere',
  short: 100,
  open() {
    return holds(text, (input) => {
      // The buffer of a connection still has the bytes of earlier reads behind those that have come.
      const bytes = Buffer.from(`${input}\r\n\r\nX: y\r\n\r\nhello`, 'latin1')
      for (let size = 0; size <= input.length; size++) {
        const found = readWhole(bytes, size)
        if (found === undefined) continue
        taken++
        const arrived = bytes.subarray(0, size)
        const full = readFully(arrived)
        const { responses, wrong } = readWithLlhttp(arrived)
        same([responses.length, wrong], [1, undefined])
        const [node] = responses
        same(
          [node!.status, node!.reason, node!.body, node!.keepAlive],
          [full.status, full.reason, full.body, true],
        )
        same(node!.fields, full.fields)
        same([found.status, found.body, found.idleSeconds], [full.status, full.body, full.idleSeconds])
        must(full.keepAlive, 'the connection cannot be used again')
        const kept = withoutHop(full.fields)
        const lines = kept.map((part, i) => (i % 2 === 0 ? `${part}: ` : `${part}\r\n`)).join('')
        same(found.head, `HTTP/1.1 ${full.status} ${full.reason}\r\n${lines}`)
        const names = kept.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
        const chunked = full.fields.some(
          (name, i) => i % 2 === 0 && name.toLowerCase() === 'transfer-encoding',
        )
        same([found.chunked, full.trailers], [chunked, null])
        same(found.dated, names.includes('date'))
        must(!SEEN_ONE_BY_ONE.some((name) => names.includes(name)), 'a field that has to be seen')
      }
    })
  },
}

// Tests src/upstream/http1/{chunks,fields}.ts
import { deepStrictEqual as same } from 'node:assert'
import { Duplex } from 'node:stream'
import fc from 'fast-check'
import t from 'tap'
import { Client } from 'undici'
import type { Head } from '../../../src/upstream/http1/head.js'
import { ResponseReader } from '../../../src/upstream/http1/reader.js'
import { codePoint } from '../../support/code-point.js'

/** The reading of bytes, by our reader or undici's. */
interface Understood {
  /** Heads in order, including 1xx: status, then name, value, … */
  readonly heads: (readonly (number | string)[])[]
  readonly body: string
  readonly trailers: readonly string[]
  readonly complete: boolean
}

type Method = 'GET' | 'HEAD'

/** Reads pieces, and then the end of the connection. */
function ours(pieces: readonly Buffer[], method: Method) {
  const heads: Understood['heads'] = []
  let body = ''
  let wrong: string | undefined
  let left = 0
  const reader = new ResponseReader({
    started() {},
    head: ({ status, fields }: Head) => void heads.push([status, ...fields]),
    data(bytes, from, to) {
      body += bytes.toString('latin1', from, to)
    },
  })
  reader.expect(method === 'HEAD')
  for (const piece of pieces) {
    if (reader.ended || wrong !== undefined) break
    try {
      // A view into a buffer that is larger than what has come.
      const bytes = Buffer.concat([piece, Buffer.from('\r\n\r\nX')])
      left = piece.length - reader.read(bytes, piece.length)
    } catch (error) {
      wrong = (error as Error).message
    }
  }
  if (wrong === undefined && !reader.ended) reader.close()
  return { heads, body, trailers: reader.trailers ?? [], complete: reader.ended, wrong, left, reader }
}

/** Reads the same with undici, whose parser is llhttp. */
function undicis(pieces: readonly Buffer[], method: Method): Promise<Understood> {
  const socket = new (class extends Duplex {
    constructor() {
      // Behaves as a socket: closed once both sides have ended.
      super({ allowHalfOpen: false })
    }
    override _read(): void {}
    override _write(_bytes: unknown, _encoding: unknown, done: () => void): void {
      done()
      setImmediate(() => {
        for (const piece of pieces) this.push(piece)
        this.push(null)
      })
    }
  })()
  const client = new Client('http://upstream.invalid', {
    connect: (_options, done) => process.nextTick(done, null, socket as never),
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  const heads: Understood['heads'] = []
  const texts = (raw: readonly (Buffer | string)[]) =>
    raw.map((piece) => piece.toString('latin1').replace(/^[\t ]+|[\t ]+$/g, ''))
  let body = ''
  return new Promise((resolve) => {
    const end = (trailers: readonly string[], complete: boolean) => {
      client.destroy().catch(() => {})
      resolve({ heads, body, trailers, complete })
    }
    client.dispatch(
      { path: '/', method },
      {
        onConnect() {},
        onHeaders(status, raw) {
          heads.push([status, ...texts(raw)])
          return true
        },
        onData(piece) {
          body += piece.toString('latin1')
          return true
        },
        onComplete: (raw) => end(texts((raw ?? []) as string[]), true),
        // undici takes the length of a 304 for that of a missing body.
        onError: (error: NodeJS.ErrnoException) =>
          end([], heads.at(-1)?.[0] === 304 && error.code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH'),
      },
    )
  })
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...sorted]
    .map((from, i) => Buffer.from(bytes.subarray(from, sorted[i] ?? bytes.length)))
    .filter((piece) => piece.length > 0)
}

const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}$/)
const value = fc.stringMatching(/^(?:[!-~\x80-\xff](?:[\t !-~\x80-\xff]{0,20}[!-~\x80-\xff])?)?$/)
const FRAMING = new Set(['content-length', 'transfer-encoding', 'connection', 'upgrade', 'keep-alive'])
const field = fc.tuple(token, value).filter(([name]) => !FRAMING.has(name.toLowerCase()))
const blank = fc.constantFrom('', ' ', '\t', '  ')
const line = fc.tuple(field, blank, blank).map(([[name, text], a, b]) => `${name}:${a}${text}${b}\r\n`)
const lines = fc.array(line, { maxLength: 4 }).map((all) => all.join(''))
const content = fc
  .string({ unit: codePoint, maxLength: 60 })
  .map((text) => Buffer.from(text).toString('latin1'))
const extension = fc.constantFrom('', '', ';a', ';a=b', ';a=b;c', ';a="b;c \xe9\\""')
const chunk = fc
  .tuple(
    content.filter((text) => text !== ''),
    extension,
    fc.constantFrom('', '0', '000'),
  )
  .map(([text, ext, zeros]) => `${zeros}${text.length.toString(16)}${ext}\r\n${text}\r\n`)
const framed = fc.oneof(
  content.map((text) => [`Content-Length: ${text.length}\r\n`, text] as const),
  fc
    .tuple(fc.array(chunk, { maxLength: 4 }), lines)
    .map(
      ([chunks, trailers]) =>
        ['Transfer-Encoding: chunked\r\n', `${chunks.join('')}0\r\n${trailers}\r\n`] as const,
    ),
  content.map((text) => ['', text] as const),
)
const interim = fc.constantFrom(
  '',
  '',
  'HTTP/1.1 102 Processing\r\n\r\n',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n',
)
const response = fc
  .tuple(
    interim,
    fc.constantFrom('200 OK', '200 ', '404 Not Found', '304 Not Modified', '204 No Content', '599 \xe9'),
    lines,
    fc.constantFrom('', 'Connection: close\r\n', 'Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n'),
    framed,
    lines,
    fc.boolean(),
  )
  .map(([before, status, first, connection, [framing, body], last, framingFirst]) => {
    const bodiless = /^[32]04/.test(status)
    const fields = bodiless
      ? first + connection + last
      : framingFirst
        ? framing + first + connection + last
        : first + connection + last + framing
    return `${before}HTTP/1.1 ${status}\r\n${fields}\r\n${bodiless ? '' : body}`
  })

/** Changes, adds, removes or repeats a few bytes somewhere in the text. */
const mutation = fc.record({
  at: fc.nat(4_000),
  remove: fc.constantFrom(0, 0, 1, 2, 5, 20),
  put: fc.oneof(
    fc.constantFrom(
      '\r',
      '\n',
      '\r\n',
      '\r\n\r\n',
      '\0',
      ' ',
      '\t',
      ':',
      ';',
      ',',
      '0',
      '1',
      'f',
      'HTTP/1.1 200 OK\r\n',
    ),
    fc.constantFrom(
      'Content-Length: 5\r\n',
      'Transfer-Encoding: chunked\r\n',
      'Connection: Upgrade\r\n',
      '\r\n X: y',
      '\x7f',
    ),
    fc.nat(255).map((code) => String.fromCharCode(code)),
    fc.constant(''),
  ),
})
const mutated = fc
  .tuple(response, fc.array(mutation, { minLength: 1, maxLength: 3 }))
  .map(([text, mutations]) => {
    let out = text
    for (const { at, remove, put } of mutations) {
      const place = at % (out.length + 1)
      out = out.slice(0, place) + put + out.slice(place + remove)
    }
    return out
  })
const piece = fc.constantFrom(
  'HTTP/1.1 200 OK\r\n',
  'HTTP/1.0 500 \r\n',
  'HTTP/1.1 101 Switching Protocols\r\n',
  'HTTP/1.1 304\r\n',
  'HTTP/2 200\r\n',
  'Content-Length: 5\r\n',
  'Content-Length:\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: gzip, chunked\r\n',
  'Connection: close, x-a\r\n',
  'Set-Cookie: \xff\x80=\t;\r\n',
  ' folded\r\n',
  '\r\n',
  '5\r\nhello\r\n',
  '5 \r\nhello\r\n',
  '0x5\r\nhello\r\n',
  '0\r\n\r\n',
  'hello',
)
const assembled = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))
const method = fc.constantFrom<Method>('GET', 'GET', 'GET', 'HEAD')
const places = fc.array(fc.nat(2_000), { maxLength: 6 })

/** Returns whether all chunk extensions are tokens. */
function hasPlainExtensions(text: string): boolean {
  return text
    .split('\n')
    .every((line) => !/^[0-9a-f]+[\t ]*;/i.test(line) || /^[0-9a-f]+(?:;\w+(?:=\w+)?)+\r$/i.test(line))
}

/** Some head ends its response, whatever it says of a body. */
function endsWithHead({ heads }: Pick<Understood, 'heads'>, method: Method): boolean {
  return (
    method === 'HEAD' ||
    heads.some(([status]) => (status as number) < 200 || status === 204 || status === 304)
  )
}

t.test('a well-formed response is read as undici reads it, however it is cut', async () => {
  await fc.assert(
    fc.asyncProperty(response, method, places, async (text, method, places) => {
      const pieces = cut(Buffer.from(text, 'latin1'), places)
      const { wrong, left, reader, ...found } = ours(pieces, method)
      const theirs = await undicis(pieces, method)
      same([wrong, found.complete], [undefined, true])
      same(found, theirs)
    }),
    { numRuns: Number(process.env.RUNS ?? 300) },
  )
})

t.test('it accepts nothing that undici refuses or reads differently', async () => {
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(
      fc.oneof({ arbitrary: mutated, weight: 4 }, { arbitrary: assembled, weight: 1 }),
      method,
      places,
      async (text, method, places) => {
        // llhttp refuses a tab around these values, which RFC 9110 §5.5 allows.
        fc.pre(!/(?:content-length|transfer-encoding):[^\r]*\t/i.test(text))
        // llhttp parses chunk extensions; ours skips them, as they mean nothing.
        fc.pre(hasPlainExtensions(text))
        const bytes = Buffer.from(text, 'latin1')
        const pieces = cut(bytes, places)
        const found = ours(pieces, method)
        const theirs = await undicis(pieces, method)
        // undici refuses every 100. One that nobody asked for means nothing (RFC 9110 §15.2).
        if (found.heads.some(([status]) => status === 100)) return
        // undici looks for a body where RFC 9112 §6.3 knows of none.
        if (endsWithHead(found, method) && /content-length|transfer-encoding/i.test(text)) return
        same(found.heads, theirs.heads.slice(0, found.heads.length))
        if (!found.complete) return
        accepted++
        const { heads, body, trailers, complete } = found
        same({ heads, body, trailers, complete }, theirs)
        const whole = ours([bytes], method)
        same([whole.heads, whole.body, whole.complete], [heads, body, complete])
      },
    ),
    { numRuns: Number(process.env.RUNS ?? 1_200) },
  )
  t.ok(accepted > 100, `${accepted} were accepted`)
})

t.test('Connection and Keep-Alive say whether and for how long a connection is reused', async (t) => {
  const cases: Record<string, [boolean, number?]> = {
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n': [true],
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n': [false],
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-a, Close\r\n\r\n': [false],
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n': [false],
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n': [true],
    'HTTP/1.1 204 No Content\r\n\r\n': [true],
    'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n': [false],
    'HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n': [true],
    'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5, max=9\r\n\r\n': [true, 5],
    'HTTP/1.1 200 OK\r\n\r\nto the end': [false],
  }
  for (const [text, [keepAlive, idleSeconds = -1]] of Object.entries(cases)) {
    const { reader, complete } = ours([Buffer.from(text)], 'GET')
    t.strictSame([complete, reader.keepAlive, reader.idleSeconds], [true, keepAlive, idleSeconds], text)
  }
})

t.test('a head and the trailers are 16 KiB long at most each', async (t) => {
  const head = (size: number) => `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ${'y'.repeat(size - 43)}\r\n\r\n`
  const trailers = (size: number) =>
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ${'y'.repeat(size)}\r\n\r\n`
  for (const places of [[], [5, 40, 900, 15_000]]) {
    const read = (text: string) => ours(cut(Buffer.from(text), places), 'GET')
    t.match(read(head(16_384)), { complete: true, left: 0 })
    t.match(read(head(16_385)), { complete: false, wrong: /16 KiB/ })
    t.match(read(head(1_000_000)), { complete: false, wrong: /16 KiB/ })
    t.match(read(trailers(16_000)), { complete: true })
    t.match(read(trailers(20_000)), { complete: false, wrong: /16 KiB/ })
  }
})

t.test('bytes after a response are left, and bytes that cannot be one fail at once', async (t) => {
  const surplus = 'HTTP/1.1 200 OK\r\n\r\n'
  for (const text of [
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n',
    'HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n',
  ]) {
    t.match(ours([Buffer.from(text + surplus)], 'GET'), { complete: true, left: surplus.length }, text)
  }
  for (const text of ['hello', 'HTTP/2', 'HTTP/1.1 200 OK\n', 'HTTP/1.1 200 OK\r\nX: \0']) {
    t.match(ours([Buffer.from(text)], 'GET'), { wrong: /malformed/ }, text)
  }
})

t.test('many small chunks make one piece', async (t) => {
  const pieces: number[] = []
  const reader = new ResponseReader({
    started() {},
    head() {},
    data: (_, from, to) => void pieces.push(to - from),
  })
  reader.expect(false)
  const text = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(5_000)}0\r\n\r\n`
  reader.read(Buffer.from(text), text.length)
  t.strictSame([pieces, reader.ended], [[5_000], true])
})

t.test('a response to HEAD, a 204 and a 304 end with their head, whatever it says of a body', async (t) => {
  const framings = [
    'Content-Length: 5',
    'Content-Length: 0',
    'Content-Length: five',
    'Content-Length: 5\r\nContent-Length: 6',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
    'Transfer-Encoding: gzip',
    'Content-Length: 5\r\nTransfer-Encoding: chunked',
  ]
  for (const framing of framings) {
    for (const [status, method] of [
      ['204 No Content', 'GET'],
      ['304 Not Modified', 'GET'],
      ['200 OK', 'HEAD'],
    ] as const) {
      const text = `HTTP/1.1 ${status}\r\nX-A: b\r\n${framing}\r\n\r\n`
      for (const places of [[], [1, 30, 50]]) {
        const found = ours(cut(Buffer.from(text), places), method)
        t.match(found, { complete: true, body: '', wrong: undefined, left: 0 }, `${status} ${framing}`)
        if (framing !== 'Content-Length: 0') t.equal(found.reader.keepAlive, false, `${status} ${framing}`)
      }
    }
    t.match(
      ours([Buffer.from(`HTTP/1.1 103 Early Hints\r\n${framing}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n`)], 'GET'),
      {
        complete: true,
        heads: [[103], [200]],
      },
    )
  }
  const two = ours(
    [Buffer.from('HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\nX: y\r\n\r\n')],
    'GET',
  )
  t.same(two.heads, [[304, 'X', 'y']], 'either of two lengths may be the true one')
})

t.test('a 100 that nobody asked for and empty lines before a head are skipped', async (t) => {
  const response = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
  for (const before of [
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n',
    '\r\n',
    '\r\n\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\n\r\n',
  ]) {
    for (let place = 0; place <= before.length; place++) {
      const found = ours(cut(Buffer.from(before + response), [place, place + 1]), 'GET')
      t.match(
        found,
        { complete: true, body: 'ok', left: 0, wrong: undefined },
        JSON.stringify([before, place]),
      )
    }
  }
  for (const before of ['\n', '\r', '\r\r\n', '\r\n\r', '\r\n'.repeat(5), ' ']) {
    t.match(
      ours([Buffer.from(before + response)], 'GET'),
      { complete: false, wrong: /malformed/ },
      JSON.stringify(before),
    )
  }
})

t.test('chunk extensions are skipped if they are short and on one line', async (t) => {
  const read = (extension: string, places: number[] = []) => {
    const text = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2${extension}\r\nok\r\n0${extension}\r\n\r\n`
    return ours(cut(Buffer.from(text, 'latin1'), places), 'GET')
  }
  for (const extension of [
    ';a="b;c\\""',
    ' ;a',
    '\t; a = b',
    ';a="x y"',
    ';\xe9',
    ';',
    `;${'x'.repeat(4_000)}`,
  ])
    for (const places of [[], [46, 48, 50, 52]])
      t.match(read(extension, places), { complete: true, body: 'ok', left: 0 }, JSON.stringify(extension))
  for (const extension of [
    ' ',
    ' x',
    ';a\nb',
    ';a\rb',
    ';\0',
    ';\x7f',
    `;${'x'.repeat(5_000)}`,
    `${' '.repeat(5_000)};`,
  ])
    t.match(read(extension), { complete: false, wrong: /malformed/ }, JSON.stringify(extension.slice(0, 20)))
})

import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { startFaces } from '../../support/http/faces.js'
import { recordingUpstream } from '../../support/http/upstream.js'

/**
 * The scored cases of Http11Probe (github.com/MDA2AV/Http11Probe), by their names there: bytes, and the allowed responses. A
 * response that the suite only warns of is allowed, too.
 */

type Allowed =
  | 'baseline'
  | '400'
  | '400 or 2xx'
  | '400 or 501'
  | '400 or 505'
  | '405'
  | '417 or 2xx'
  | 'no 101'
  | 'nothing or 400'
  | 'large'
type Case = readonly [name: string, bytes: string, allowed: Allowed]

const H = 'Host: api.example\r\n'
const get = (fields = '', line = 'GET / HTTP/1.1') => `${line}\r\n${H}${fields}\r\n`
const post = (fields: string, body = '', line = 'POST / HTTP/1.1') =>
  `${line}\r\n${H}${fields}\r\n\r\n${body}`
const chunked = (body: string) => post('Transfer-Encoding: chunked', body)
const websocket = (line: string, version = '13') =>
  get(
    `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: ${version}\r\n`,
    line,
  )
const HELLO = '5\r\nhello\r\n0\r\n\r\n'
const SMUGGLED = `GET / HTTP/1.1\r\n${H}\r\n`
const clte = (te: string, length = String(5 + SMUGGLED.length)) =>
  post(`Content-Length: ${length}\r\n${te}`, `0\r\n\r\n${SMUGGLED}`)

const compliance: Case[] = [
  ['COMP-BASELINE', get(), 'baseline'],
  ['BARE-LF-REQUEST-LINE', `GET / HTTP/1.1\n${H}\r\n`, '400'],
  ['BARE-LF-HEADER', 'GET / HTTP/1.1\r\nHost: api.example\nX-Test: value\r\n\r\n', '400'],
  ['OBS-FOLD', get('X-Test: value\r\n continued\r\n'), '400'],
  ['SP-BEFORE-COLON', get('X-Test : value\r\n'), '400'],
  ['MULTI-SP-REQUEST-LINE', get('', 'GET  / HTTP/1.1'), '400 or 2xx'],
  ['MISSING-HOST', 'GET / HTTP/1.1\r\n\r\n', '400'],
  ['INVALID-VERSION', get('', 'GET / HTTP/9.9'), '400 or 505'],
  ['EMPTY-HEADER-NAME', get(': empty-name\r\n'), '400'],
  ['CR-ONLY-LINE-ENDING', `GET / HTTP/1.1\r${H}\r\n`, '400'],
  ['MISSING-TARGET', get('', 'GET HTTP/1.1'), '400'],
  ['FRAGMENT-IN-TARGET', get('', 'GET /path#frag HTTP/1.1'), '400 or 2xx'],
  ['HTTP09-REQUEST', 'GET /\r\n', 'nothing or 400'],
  ['INVALID-HEADER-NAME', get('Bad[Name: value\r\n'), '400'],
  ['HEADER-NO-COLON', get('NoColonHere\r\n'), '400'],
  ['DUPLICATE-HOST', get('Host: other.example\r\n'), '400'],
  ['COMP-DUPLICATE-HOST-SAME', get(H), '400'],
  ['CL-NON-NUMERIC', post('Content-Length: abc'), '400'],
  ['CL-PLUS-SIGN', post('Content-Length: +5', 'hello'), '400'],
  ['COMP-WHITESPACE-BEFORE-HEADERS', `GET / HTTP/1.1\r\n \r\n${H}\r\n`, '400'],
  ['COMP-HOST-WITH-USERINFO', 'GET / HTTP/1.1\r\nHost: user@api.example\r\n\r\n', '400'],
  ['COMP-HOST-WITH-PATH', 'GET / HTTP/1.1\r\nHost: api.example/path\r\n\r\n', '400'],
  ['COMP-HOST-EMPTY-VALUE', 'GET / HTTP/1.1\r\nHost: \r\n\r\n', '400'],
  ['COMP-ASTERISK-WITH-GET', get('', 'GET * HTTP/1.1'), '400'],
  ['COMP-OPTIONS-STAR', get('', 'OPTIONS * HTTP/1.1'), 'baseline'],
  ['COMP-UNKNOWN-TE-501', post('Transfer-Encoding: gzip'), '400 or 501'],
  ['COMP-LEADING-CRLF', `\r\n\r\n${get()}`, '400 or 2xx'],
  ['COMP-METHOD-CASE', get('', 'get / HTTP/1.1'), '400 or 501'],
  ['COMP-POST-CL-BODY', post('Content-Length: 5', 'hello'), 'baseline'],
  ['COMP-POST-CL-ZERO', post('Content-Length: 0'), 'baseline'],
  ['COMP-POST-NO-CL-NO-TE', get('', 'POST / HTTP/1.1'), 'baseline'],
  ['COMP-POST-CL-UNDERSEND', post('Content-Length: 10', 'hello'), 'nothing or 400'],
  ['COMP-CHUNKED-BODY', chunked(HELLO), 'baseline'],
  ['COMP-CHUNKED-MULTI', chunked('5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'), 'baseline'],
  ['COMP-CHUNKED-EMPTY', chunked('0\r\n\r\n'), 'baseline'],
  ['COMP-CHUNKED-NO-FINAL', chunked('5\r\nhello\r\n'), 'nothing or 400'],
  ['COMP-CHUNKED-EXTENSION', chunked('5;ext=value\r\nhello\r\n0\r\n\r\n'), 'baseline'],
  ['COMP-CHUNKED-TRAILER-VALID', chunked('5\r\nhello\r\n0\r\nX-Checksum: abc\r\n\r\n'), 'baseline'],
  ['COMP-CHUNKED-HEX-UPPERCASE', chunked('A\r\nhelloworld\r\n0\r\n\r\n'), 'baseline'],
  ['COMP-UPGRADE-POST', websocket('POST / HTTP/1.1'), 'no 101'],
  [
    'COMP-UPGRADE-MISSING-CONN',
    get('Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n'),
    'no 101',
  ],
  ['COMP-UPGRADE-UNKNOWN', get('Connection: Upgrade\r\nUpgrade: totally-made-up/1.0\r\n'), 'no 101'],
  ['COMP-UPGRADE-INVALID-VER', websocket('GET / HTTP/1.1', '99'), 'no 101'],
  ['COMP-UPGRADE-HTTP10', websocket('GET / HTTP/1.0'), 'no 101'],
  ['COMP-METHOD-CONNECT', 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n', '405'],
  ['COMP-EXPECT-UNKNOWN', get('Expect: 200-ok\r\n'), '417 or 2xx'],
  ['COMP-REQUEST-LINE-TAB', get('', 'GET\t/ HTTP/1.1'), '400 or 2xx'],
  ['COMP-VERSION-MISSING-MINOR', get('', 'GET / HTTP/1'), '400'],
  ['COMP-VERSION-LEADING-ZEROS', get('', 'GET / HTTP/01.01'), '400'],
  ['COMP-VERSION-WHITESPACE', get('', 'GET / HTTP/ 1.1'), '400'],
  ['COMP-VERSION-CASE', get('', 'GET / http/1.1'), '400'],
  ['COMP-CONNECTION-CLOSE', get('Connection: close\r\n'), 'baseline'],
  ['COMP-HTTP10-DEFAULT-CLOSE', get('', 'GET / HTTP/1.0'), 'baseline'],
  ['COMP-RANGE-POST', post('Content-Length: 5\r\nRange: bytes=0-10', 'hello'), 'baseline'],
  ['COMP-UNKNOWN-METHOD', get('', 'FOOBAR / HTTP/1.1'), '400 or 501'],
  [
    'COMP-NO-1XX-HTTP10',
    post('Expect: 100-continue\r\nContent-Length: 5', 'hello', 'POST / HTTP/1.0'),
    'baseline',
  ],
  ['COMP-OPTIONS-ALLOW', get('', 'OPTIONS / HTTP/1.1'), 'baseline'],
  ['COMP-LONG-URL-OK', get('', `GET /${'a'.repeat(7_900)} HTTP/1.1`), 'baseline'],
  ['COMP-SPACE-IN-TARGET', get('', 'GET /pa th HTTP/1.1'), '400'],
  [
    'COMP-DUPLICATE-CT',
    post('Content-Length: 5\r\nContent-Type: text/plain\r\nContent-Type: text/html', 'hello'),
    '400 or 2xx',
  ],
]

const smuggling: Case[] = [
  ['SMUG-CL-TE-BOTH', post('Content-Length: 15\r\nTransfer-Encoding: chunked', HELLO), '400'],
  ['SMUG-DUPLICATE-CL', post('Content-Length: 5\r\nContent-Length: 10', 'helloworld'), '400'],
  ['SMUG-CL-LEADING-ZEROS', post('Content-Length: 005', 'hello'), '400 or 2xx'],
  ['SMUG-CL-LEADING-ZEROS-OCTAL', post('Content-Length: 0200', 'A'.repeat(200)), '400 or 2xx'],
  ['SMUG-CL-DOUBLE-ZERO', post('Content-Length: 00'), '400 or 2xx'],
  ['SMUG-CL-TRAILING-SPACE', post('Content-Length: 5 ', 'hello'), '400 or 2xx'],
  ['SMUG-CL-EXTRA-LEADING-SP', post('Content-Length:  5', 'hello'), '400 or 2xx'],
  ...['-1', '-0', '1_0', '0x5', '0o5', '1 0', '5, 10'].map(
    (length): Case => [`SMUG-CL ${length}`, post(`Content-Length: ${length}`, 'helloworld'), '400'],
  ),
  ['SMUG-TE-XCHUNKED', post('Transfer-Encoding: xchunked\r\nContent-Length: 5', 'hello'), '400 or 501'],
  ['SMUG-TE-IDENTITY', post('Transfer-Encoding: identity\r\nContent-Length: 5', 'hello'), '400 or 501'],
  ['SMUG-TE-SP-BEFORE-COLON', post('Transfer-Encoding : chunked\r\nContent-Length: 5', 'hello'), '400'],
  ...[
    'chunked ',
    'chunked, chunked',
    'Chunked',
    ', chunked',
    'chunked,',
    '',
    '\x0bchunked',
    '\x0cchunked',
    'chunked\0',
    '\r\n chunked',
  ].map(
    (coding): Case => [
      `SMUG-TE ${JSON.stringify(coding)} with a length`,
      post(`Transfer-Encoding: ${coding}\r\nContent-Length: 5`, 'hello'),
      '400',
    ],
  ),
  ['SMUG-TE-NOT-FINAL-CHUNKED', post('Transfer-Encoding: chunked, gzip', '0\r\n\r\n'), '400'],
  [
    'SMUG-TE-HTTP10',
    post('Transfer-Encoding: chunked\r\nContent-Length: 5', 'hello', 'POST / HTTP/1.0'),
    '400',
  ],
  [
    'SMUG-TE-DUPLICATE-HEADERS',
    post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5', 'hello'),
    '400',
  ],
  ['SMUG-MULTIPLE-HOST-COMMA', 'GET / HTTP/1.1\r\nHost: api.example, other.example\r\n\r\n', '400'],
  ['SMUG-BARE-CR-HEADER-VALUE', post('Content-Length: 5\r\nX-Test: val\rue', 'hello'), '400'],
  ['SMUG-CHUNK-BARE-SEMICOLON', chunked('5;\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-EXT-INVALID-TOKEN', chunked('5;bad[=x\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-EXT-LF', chunked('5;\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-EXT-CTRL', chunked('5;\0ext\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-EXT-CR', chunked('5;a\rX\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-UNDERSCORE', chunked('1_0\r\nhello world!!!!!\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-HEX-PREFIX', chunked('0x5\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-SIZE-PLUS', chunked('+5\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-NEGATIVE', chunked('-1\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-SIZE-TRAILING-OWS', chunked('5 \r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-LEADING-SP', chunked(' 5\r\nhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-MISSING-TRAILING-CRLF', chunked('5\r\nhello0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-SPILL', chunked('5\r\nhello!!\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-LF-TERM', chunked('5\r\nhello\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-LF-TRAILER', chunked('5\r\nhello\r\n0\r\n\n'), '400'],
  ['SMUG-CHUNK-BARE-CR-TERM', chunked('5\rhello\r\n0\r\n\r\n'), '400'],
  ['SMUG-CHUNK-INVALID-SIZE-DESYNC', chunked('+0\r\n\r\nX'), '400'],
  ['SMUG-CLTE-PIPELINE', post('Content-Length: 4\r\nTransfer-Encoding: chunked', '0\r\n\r\n'), '400'],
  ['SMUG-TECL-PIPELINE', post('Transfer-Encoding: chunked\r\nContent-Length: 30', '0\r\n\r\n'), '400'],
  ['SMUG-CLTE-DESYNC', post('Content-Length: 6\r\nTransfer-Encoding: chunked', '0\r\n\r\nX') + get(), '400'],
  ['SMUG-TECL-DESYNC', post('Transfer-Encoding: chunked\r\nContent-Length: 30', '0\r\n\r\nX') + get(), '400'],
  ...['chunked', 'chunked ', ', chunked', 'Chunked', '\r\n chunked'].map(
    (coding): Case => [
      `SMUG-CLTE-SMUGGLED-GET ${JSON.stringify(coding)}`,
      clte(`Transfer-Encoding: ${coding}`),
      '400',
    ],
  ),
  ['SMUG-CLTE-SMUGGLED-GET-CL-PLUS', clte('Transfer-Encoding: chunked', '+40'), '400'],
  ['SMUG-CLTE-SMUGGLED-GET-CL-NON-NUMERIC', clte('Transfer-Encoding: chunked', '40x'), '400'],
  [
    'SMUG-DUPLICATE-CL-SMUGGLED-GET',
    post(`Content-Length: 4\r\nContent-Length: ${4 + SMUGGLED.length}`, `PING${SMUGGLED}`),
    '400',
  ],
  [
    'SMUG-OPTIONS-TE-OBS-FOLD',
    post('Transfer-Encoding:\r\n chunked\r\nContent-Length: 5', 'hello', 'OPTIONS / HTTP/1.1'),
    '400',
  ],
]

const malformed: Case[] = [
  [
    'MAL-BINARY-GARBAGE',
    String.fromCharCode(...Array.from({ length: 256 }, (_, i) => (i * 167 + 42) % 256)),
    'nothing or 400',
  ],
  ['MAL-LONG-URL', get('', `GET /${'A'.repeat(100_000)} HTTP/1.1`), 'large'],
  ['MAL-LONG-HEADER-VALUE', get(`X-Big: ${'B'.repeat(100_000)}\r\n`), 'large'],
  ['MAL-LONG-HEADER-NAME', get(`${'A'.repeat(100_000)}: val\r\n`), 'large'],
  [
    'MAL-MANY-HEADERS',
    get(Array.from({ length: 10_000 }, (_, i) => `X-H-${i}: value\r\n`).join('')),
    'large',
  ],
  ['MAL-LONG-METHOD', get('', `${'A'.repeat(100_000)} / HTTP/1.1`), '400'],
  ['MAL-NUL-IN-URL', get('', 'GET /\0test HTTP/1.1'), '400'],
  ['MAL-CONTROL-CHARS-HEADER', get('X-Test: abc\x07\x08\x0bdef\r\n'), '400'],
  ['MAL-INCOMPLETE-REQUEST', `GET / HTTP/1.1\r\n${H}X-Test: value`, 'nothing or 400'],
  ['MAL-EMPTY-REQUEST', '', 'nothing or 400'],
  ['MAL-NON-ASCII-HEADER-NAME', get('X-T\xc3\xabst: value\r\n'), '400'],
  ['MAL-NON-ASCII-URL', get('', 'GET /caf\xc3\xa9 HTTP/1.1'), '400'],
  ['MAL-CL-OVERFLOW', post('Content-Length: 99999999999999999999'), '400'],
  ['MAL-WHITESPACE-ONLY-LINE', '   \r\n\r\n', 'nothing or 400'],
]

const isSuccess = (status: number) => status >= 200 && status < 300
/** Status; 0 if the connection was closed or nothing came. */
const MEETS: Record<Allowed, (status: number) => boolean> = {
  baseline: isSuccess,
  '400': (status) => status === 400,
  '400 or 2xx': (status) => status === 400 || isSuccess(status),
  '400 or 501': (status) => [400, 405, 501].includes(status),
  '400 or 505': (status) => status === 400 || status === 505,
  '405': (status) => [400, 405, 501].includes(status),
  '417 or 2xx': (status) => status === 417 || isSuccess(status),
  'no 101': (status) => status !== 101 && status !== 0,
  'nothing or 400': (status) => status === 0 || status === 400,
  large: (status) => [400, 414, 431].includes(status),
}
/** How long silence must last to count as no response, in ms. */
const SILENCE_MS = 300

const upstream = await recordingUpstream(t, (req, res, received) => {
  req.on('end', () => {
    res.setHeader('Allow', 'GET, POST, OPTIONS')
    res.setHeader('Content-Type', 'text/plain')
    res.end(received.body === '' ? 'ok' : received.body)
  })
})
const faces = await startFaces(
  t,
  `
tiers: [free]
services: { api: { upstreams: ["${upstream.origin}"] } }
routes: [{ path: /*, service: api, websocket: true }]
`,
)

for (const [what, cases] of Object.entries({ compliance, smuggling, malformed })) {
  t.test(`Http11Probe, ${what}: no scored case fails`, async (t) => {
    for (const { name: face, open } of faces) {
      if (open === undefined || face === 'node' || face === 'upgrade') continue
      for (const [name, bytes, allowed] of cases) {
        const connection = await open()
        connection.write(bytes)
        const answered = () => connection.responses().length > 0 || connection.isClosed()
        if (allowed === 'nothing or 400') await wait(SILENCE_MS)
        else await connection.until(`an answer to ${name}`, answered)
        const [first, ...more] = connection.responses()
        t.ok(
          MEETS[allowed](first?.status ?? 0),
          `${face} ${name}: ${first?.status ?? 'nothing'}, allowed: ${allowed}`,
        )
        if (allowed === '400') {
          await connection.closed()
          t.equal(connection.responses().length, 1, `${face} ${name}: one answer, and the connection ends`)
        } else t.same(more, [], `${face} ${name}`)
        connection.socket.destroy()
      }
    }
  })
}

t.test('a body that is read is the one that was sent', async (t) => {
  for (const { open } of faces) {
    if (open === undefined) continue
    for (const [bytes, body] of [
      [post('Content-Length: 5', 'hello'), 'hello'],
      [chunked('5;ext=value\r\nhello\r\n6\r\n world\r\n0\r\nX-Checksum: abc\r\n\r\n'), 'hello world'],
    ] as const) {
      const connection = await open()
      connection.write(bytes)
      await connection.until('an answer', () => connection.responses().length > 0)
      t.equal(connection.responses()[0]!.body, body)
      connection.socket.destroy()
    }
  }
})

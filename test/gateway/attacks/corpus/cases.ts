/** One request, and the response that the upstream gives. Bytes are one character each. */
export interface CorpusCase {
  readonly name: string
  readonly method: string
  readonly target: string
  /** Header lines as on the wire, after Host. */
  readonly fields?: readonly (readonly [name: string, value: string])[]
  /** Body, sent with a Content-Length. */
  readonly body?: string
  /** Body, sent in chunks instead. */
  readonly chunks?: readonly string[]
  readonly version?: '1.0'
  readonly response: string
  /** True if the upstream ends its connection after the response. */
  readonly closes?: true
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok'

function response(first: string, fields: readonly string[], body = ''): string {
  const length = first.includes(' 204') || first.includes(' 304') ? [] : [`Content-Length: ${body.length}`]
  return `HTTP/1.1 ${first}\r\n${[...fields, ...length].map((field) => `${field}\r\n`).join('')}\r\n${body}`
}

function chunked(first: string, fields: readonly string[], chunks: readonly string[]): string {
  const body = chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')
  const header = ['Transfer-Encoding: chunked', ...fields].map((field) => `${field}\r\n`).join('')
  return `HTTP/1.1 ${first}\r\n${header}\r\n${body}0\r\n\r\n`
}

const bytes = (from: number, to: number) =>
  String.fromCharCode(...Array.from({ length: to - from + 1 }, (_, i) => from + i))

const LONG = 'v'.repeat(4_000)
const MULTIPART = [
  '--b0undary\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n',
  `--b0undary\r\nContent-Disposition: form-data; name="f"; filename="f\xc3\xa9.bin"\r\nContent-Type: application/octet-stream\r\n\r\n${bytes(0, 255)}\r\n`,
  '--b0undary--\r\n',
].join('')

export const CASES: readonly CorpusCase[] = [
  // Methods
  { name: 'GET', method: 'GET', target: '/', response: OK },
  {
    name: 'HEAD with a length',
    method: 'HEAD',
    target: '/a',
    response: 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n',
  },
  {
    name: 'HEAD of a chunked response',
    method: 'HEAD',
    target: '/a',
    response: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: "x"\r\n\r\n',
  },
  {
    name: 'HEAD without either',
    method: 'HEAD',
    target: '/a',
    response: 'HTTP/1.1 404 Not Found\r\nX-A: b\r\n\r\n',
  },
  {
    name: 'POST',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    body: '{"a":1}',
    response: response('201 Created', ['Location: /a/1']),
  },
  {
    name: 'PUT',
    method: 'PUT',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    body: '{"a": 1 }',
    response: response('204 No Content', []),
  },
  {
    name: 'PATCH',
    method: 'PATCH',
    target: '/a',
    fields: [['Content-Type', 'application/json-patch+json']],
    body: '[]',
    response: OK,
  },
  { name: 'DELETE', method: 'DELETE', target: '/a/1', response: response('204 No Content', []) },
  {
    name: 'OPTIONS',
    method: 'OPTIONS',
    target: '/a',
    fields: [
      ['Origin', 'https://a.example'],
      ['Access-Control-Request-Method', 'PUT'],
    ],
    response: response('204 No Content', ['Access-Control-Allow-Origin: *', 'Allow: GET, PUT']),
  },
  {
    name: 'PROPFIND',
    method: 'PROPFIND',
    target: '/dav/',
    fields: [
      ['Depth', '1'],
      ['Content-Type', 'application/xml'],
    ],
    body: '<x/>',
    response: response('207 Multi-Status', ['Content-Type: application/xml'], '<y/>'),
  },
  { name: 'PURGE', method: 'PURGE', target: '/cached', response: OK },

  // Request bodies
  { name: 'POST of nothing, by length', method: 'POST', target: '/a', body: '', response: OK },
  { name: 'POST of nothing, unsaid', method: 'POST', target: '/a', response: OK },
  { name: 'PUT of nothing, unsaid', method: 'PUT', target: '/a', response: OK },
  { name: 'POST of nothing, in chunks', method: 'POST', target: '/a', chunks: [], response: OK },
  {
    name: 'POST in chunks',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'application/octet-stream']],
    chunks: ['hello', ' ', 'world'],
    response: OK,
  },
  {
    name: 'PUT in chunks',
    method: 'PUT',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    chunks: ['{', '}'],
    response: OK,
  },
  {
    name: 'POST of every byte',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'application/octet-stream']],
    body: bytes(0, 255),
    response: OK,
  },
  {
    name: 'POST of JSON that is none',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    body: '{"a":',
    response: OK,
  },
  {
    name: 'POST of a form',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'application/x-www-form-urlencoded']],
    body: 'a=1&b=%20&b=+&c',
    response: OK,
  },
  {
    name: 'POST of a multipart',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'multipart/form-data; boundary=b0undary']],
    body: MULTIPART,
    response: OK,
  },
  {
    name: 'POST of gzip',
    method: 'POST',
    target: '/a',
    fields: [
      ['Content-Type', 'application/json'],
      ['Content-Encoding', 'gzip'],
    ],
    body: '\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0',
    response: OK,
  },
  {
    name: 'POST of 100 kB',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'text/plain']],
    body: '0123456789'.repeat(10_000),
    response: OK,
  },
  { name: 'POST without a type', method: 'POST', target: '/a', body: 'hello', response: OK },
  {
    name: 'POST with a type that is none',
    method: 'POST',
    target: '/a',
    fields: [['Content-Type', 'a/b; c; ;;']],
    body: 'hello',
    response: OK,
  },
  {
    name: 'POST with a vendor’s type',
    method: 'POST',
    target: '/a',
    fields: [['content-type', 'application/vnd.a.v1+json;charset="utf-8"']],
    body: '{"\xc3\xa9":1}',
    response: OK,
  },
  {
    name: 'DELETE with a body',
    method: 'DELETE',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    body: '{"why":1}',
    response: OK,
  },
  { name: 'DELETE of nothing, by length', method: 'DELETE', target: '/a', body: '', response: OK },
  {
    name: 'OPTIONS with a body',
    method: 'OPTIONS',
    target: '/a',
    fields: [['Content-Type', 'application/json']],
    body: '{}',
    response: OK,
  },
  {
    name: 'GET with a body',
    method: 'GET',
    target: '/search',
    fields: [['Content-Type', 'application/json']],
    body: '{"q":1}',
    response: OK,
  },
  { name: 'GET of nothing, by length', method: 'GET', target: '/a', body: '', response: OK },
  {
    name: 'Expect',
    method: 'POST',
    target: '/a',
    fields: [
      ['Expect', '100-continue'],
      ['Content-Type', 'text/plain'],
    ],
    body: 'hello',
    response: OK,
  },

  // Targets
  { name: 'a query', method: 'GET', target: '/a?b=c&d=e&d=f&g&h=', response: OK },
  {
    name: 'a query of odd characters',
    method: 'GET',
    target: "/a?x=[1]&y={2}|'^`\\&z=a/b?c//..",
    response: OK,
  },
  { name: 'an empty query', method: 'GET', target: '/a?', response: OK },
  { name: 'escapes in the query', method: 'GET', target: '/a?q=%20%2f%2F%c3%a9%zz', response: OK },
  { name: 'escapes in the path', method: 'GET', target: '/caf%C3%A9/%20/%5B1%5D', response: OK },
  { name: 'escapes in lower case', method: 'GET', target: '/caf%c3%a9', response: OK },
  { name: 'escapes that need not be', method: 'GET', target: '/%61%7E/b', response: OK },
  { name: 'characters of a segment', method: 'GET', target: "/a-b._~!$&'()*+,=:@/c", response: OK },
  { name: 'a semicolon in the path', method: 'GET', target: '/a;v=1/b', response: OK },
  { name: 'an escaped slash', method: 'GET', target: '/a%2Fb', response: OK },
  { name: 'slashes at the end', method: 'GET', target: '/a/b/', response: OK },
  { name: 'two slashes', method: 'GET', target: '/a//b', response: OK },
  { name: 'a dot segment', method: 'GET', target: '/a/./b', response: OK },
  { name: 'a dot segment that goes up', method: 'GET', target: '/a/../b', response: OK },
  { name: 'dots that are no dot segment', method: 'GET', target: '/a/...b/.c', response: OK },
  { name: 'a long target', method: 'GET', target: `/a?${'q'.repeat(3_000)}`, response: OK },

  // Request fields
  {
    name: 'usual fields of a browser',
    method: 'GET',
    target: '/a',
    fields: [
      ['User-Agent', 'Mozilla/5.0 (X11; Linux x86_64)'],
      ['Accept', 'text/html,*/*;q=0.8'],
      ['Accept-Language', 'en-US,en;q=0.5'],
      ['Accept-Encoding', 'gzip, deflate, br'],
      ['Referer', 'https://a.example/?q'],
      ['DNT', '1'],
      ['Sec-Fetch-Mode', 'navigate'],
    ],
    response: OK,
  },
  {
    name: 'cookies',
    method: 'GET',
    target: '/a',
    fields: [['Cookie', 'a=1; b="2, 3"; c=\xc3\xa9']],
    response: OK,
  },
  {
    name: 'cookies in two fields',
    method: 'GET',
    target: '/a',
    fields: [
      ['Cookie', 'a=1'],
      ['Cookie', 'b=2'],
    ],
    response: OK,
  },
  {
    name: 'a field twice',
    method: 'GET',
    target: '/a',
    fields: [
      ['X-A', '1'],
      ['X-B', '2'],
      ['x-a', '3'],
    ],
    response: OK,
  },
  {
    name: 'fields that Node keeps one of',
    method: 'GET',
    target: '/a',
    fields: [
      ['User-Agent', 'one'],
      ['User-Agent', 'two'],
      ['Authorization', 'Basic YTpi'],
      ['Authorization', 'Basic Yzpk'],
    ],
    response: OK,
  },
  {
    name: 'an empty field',
    method: 'GET',
    target: '/a',
    fields: [
      ['X-Empty', ''],
      ['X-A', 'b'],
    ],
    response: OK,
  },
  {
    name: 'odd names',
    method: 'GET',
    target: '/a',
    fields: [
      ["X-!#$%&'*+.^`|~", '1'],
      ['x', '2'],
      ['X-Under_Score', '3'],
    ],
    response: OK,
  },
  {
    name: '__proto__ as a field',
    method: 'GET',
    target: '/a',
    fields: [
      ['__proto__', '1'],
      ['constructor', '2'],
    ],
    response: OK,
  },
  {
    name: 'UTF-8 in a field',
    method: 'GET',
    target: '/a',
    fields: [['X-Name', 'Zo\xc3\xab \xe2\x82\xac']],
    response: OK,
  },
  { name: 'Latin-1 in a field', method: 'GET', target: '/a', fields: [['X-Name', 'Zo\xeb']], response: OK },
  {
    name: 'tabs and commas in a field',
    method: 'GET',
    target: '/a',
    fields: [['X-A', 'a\tb, "c,d" ,e']],
    response: OK,
  },
  {
    name: 'a large field',
    method: 'GET',
    target: '/a',
    fields: [
      ['X-Large', LONG],
      ['X-Larger', LONG + LONG],
    ],
    response: OK,
  },
  {
    name: 'many fields',
    method: 'GET',
    target: '/a',
    fields: Array.from({ length: 60 }, (_, i) => [`X-${i}`, `${i}`] as const),
    response: OK,
  },
  {
    name: 'an Authorization',
    method: 'GET',
    target: '/a',
    fields: [['Authorization', 'Bearer a.b.c']],
    response: OK,
  },
  {
    name: 'a conditional request',
    method: 'GET',
    target: '/a',
    fields: [
      ['If-None-Match', 'W/"x", "y"'],
      ['If-Modified-Since', 'Mon, 01 Jan 2024 00:00:00 GMT'],
    ],
    response: response('304 Not Modified', ['ETag: W/"x"', 'Cache-Control: max-age=5']),
  },
  {
    name: 'a range',
    method: 'GET',
    target: '/a',
    fields: [
      ['Range', 'bytes=0-3'],
      ['If-Range', '"x"'],
    ],
    response: response(
      '206 Partial Content',
      ['Content-Range: bytes 0-3/10', 'Accept-Ranges: bytes'],
      'abcd',
    ),
  },
  {
    name: 'fields of one connection',
    method: 'GET',
    target: '/a',
    fields: [
      ['Connection', 'keep-alive, X-Hop'],
      ['X-Hop', '1'],
      ['Keep-Alive', 'timeout=5'],
      ['Proxy-Connection', 'keep-alive'],
      ['TE', 'trailers'],
      ['Proxy-Authorization', 'Basic YTpi'],
      ['X-End', '1'],
    ],
    response: OK,
  },
  {
    name: 'an upgrade to h2c',
    method: 'GET',
    target: '/a',
    fields: [
      ['Connection', 'Upgrade, HTTP2-Settings'],
      ['Upgrade', 'h2c'],
      ['HTTP2-Settings', 'AAMAAABk'],
    ],
    response: OK,
  },
  {
    name: 'fields that say where it came from',
    method: 'GET',
    target: '/a',
    fields: [
      ['X-Forwarded-For', '203.0.113.9'],
      ['X-Forwarded-Proto', 'https'],
      ['X-Forwarded-Host', 'shop.example'],
      ['X-Forwarded-Port', '443'],
      ['Forwarded', 'for=203.0.113.9'],
      ['X-Real-IP', '203.0.113.9'],
    ],
    response: OK,
  },
  {
    name: 'fields that name another path or method',
    method: 'POST',
    target: '/a',
    fields: [
      ['X-Original-URL', '/admin'],
      ['X-Rewrite-URL', '/admin'],
      ['X-HTTP-Method-Override', 'DELETE'],
    ],
    body: 'x',
    response: OK,
  },
  {
    name: 'fields by which servers say who is calling',
    method: 'GET',
    target: '/a',
    fields: [
      ['Proxy', 'http://evil.example'],
      ['Remote-User', 'root'],
      ['X-Client-Cert', 'MIIB'],
      ['X-SSL-Client-Verify', 'SUCCESS'],
    ],
    response: OK,
  },
  {
    name: 'a request id',
    method: 'GET',
    target: '/a',
    fields: [
      ['X-Request-Id', 'abc-1'],
      ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    ],
    response: OK,
  },
  { name: 'Via of another proxy', method: 'GET', target: '/a', fields: [['Via', '1.1 edge']], response: OK },
  { name: 'HTTP/1.0', method: 'GET', target: '/a', version: '1.0', response: OK },

  // Responses
  { name: '200 of nothing', method: 'GET', target: '/a', response: response('200 OK', []) },
  {
    name: '200 of every byte',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['Content-Type: application/octet-stream'], bytes(0, 255)),
  },
  {
    name: '200 in chunks',
    method: 'GET',
    target: '/a',
    response: chunked('200 OK', ['Content-Type: text/plain'], ['hello', ' ', 'world']),
  },
  { name: '200 in no chunk', method: 'GET', target: '/a', response: chunked('200 OK', [], []) },
  {
    name: '200 in chunks with trailers',
    method: 'GET',
    target: '/a',
    response:
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n',
  },
  {
    name: '200 to the end of the connection',
    method: 'GET',
    target: '/a',
    closes: true,
    response: 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nhello',
  },
  {
    name: '200 of HTTP/1.0',
    method: 'GET',
    target: '/a',
    closes: true,
    response: 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello',
  },
  {
    name: '200 compressed',
    method: 'GET',
    target: '/a',
    fields: [['Accept-Encoding', 'gzip']],
    response: response(
      '200 OK',
      ['Content-Encoding: gzip', 'Vary: Accept-Encoding'],
      '\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0',
    ),
  },
  {
    name: '200 of 100 kB',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['Content-Type: text/plain'], '0123456789'.repeat(10_000)),
  },
  {
    name: '200 of events',
    method: 'GET',
    target: '/a',
    response: chunked(
      '200 OK',
      ['Content-Type: text/event-stream', 'Cache-Control: no-cache'],
      ['data: 1\n\n', 'data: 2\n\n'],
    ),
  },
  { name: '200 without a reason', method: 'GET', target: '/a', response: response('200 ', []) },
  {
    name: '200 with a reason of its own',
    method: 'GET',
    target: '/a',
    response: response('200 Very Well', []),
  },
  {
    name: '201 with a location',
    method: 'POST',
    target: '/a',
    body: 'x',
    response: response('201 Created', ['Location: /a/1', 'ETag: "1"'], '{}'),
  },
  {
    name: '202',
    method: 'POST',
    target: '/a',
    body: 'x',
    response: response('202 Accepted', ['Retry-After: 5']),
  },
  {
    name: '204 with a length of 0',
    method: 'DELETE',
    target: '/a',
    response: 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-A: b\r\n\r\n',
  },
  { name: '205', method: 'POST', target: '/a', body: 'x', response: response('205 Reset Content', []) },
  { name: '299', method: 'GET', target: '/a', response: response('299 Odd', [], 'odd') },
  {
    name: '301 with a relative location',
    method: 'GET',
    target: '/a',
    response: response('301 Moved Permanently', ['Location: ../b?c=/d#e']),
  },
  {
    name: '302 with an absolute location',
    method: 'GET',
    target: '/a',
    response: response('302 Found', ['Location: https://other.example/b']),
  },
  {
    name: '303',
    method: 'POST',
    target: '/a',
    body: 'x',
    response: response('303 See Other', ['Location: /b']),
  },
  {
    name: '304 with a length',
    method: 'GET',
    target: '/a',
    fields: [['If-None-Match', '"x"']],
    response: 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n',
  },
  {
    name: '307',
    method: 'PUT',
    target: '/a',
    body: 'x',
    response: response('307 Temporary Redirect', ['Location: /b']),
  },
  {
    name: '308',
    method: 'GET',
    target: '/a',
    response: response('308 Permanent Redirect', ['Location: /b']),
  },
  {
    name: '400',
    method: 'GET',
    target: '/a',
    response: response('400 Bad Request', ['Content-Type: application/json'], '{"error":1}'),
  },
  {
    name: '401 with a challenge',
    method: 'GET',
    target: '/a',
    response: response('401 Unauthorized', ['WWW-Authenticate: Basic realm="a"', 'WWW-Authenticate: Bearer']),
  },
  {
    name: '404 of HTML',
    method: 'GET',
    target: '/a',
    response: response('404 Not Found', ['Content-Type: text/html; charset=utf-8'], '<h1>\xc3\xa9</h1>'),
  },
  {
    name: '407',
    method: 'GET',
    target: '/a',
    response: response('407 Proxy Authentication Required', ['Proxy-Authenticate: Basic realm="a"']),
  },
  { name: '409', method: 'PUT', target: '/a', body: 'x', response: response('409 Conflict', [], 'no') },
  { name: '418', method: 'GET', target: '/a', response: response("418 I'm a Teapot", [], 'short') },
  {
    name: '426',
    method: 'GET',
    target: '/a',
    response: response('426 Upgrade Required', ['Connection: Upgrade', 'Upgrade: TLS/1.2']),
  },
  {
    name: '429 of the upstream',
    method: 'GET',
    target: '/a',
    response: response('429 Too Many Requests', ['Retry-After: 7', 'RateLimit: "theirs";r=0;t=7'], 'later'),
  },
  {
    name: '500',
    method: 'GET',
    target: '/a',
    response: response('500 Internal Server Error', ['Content-Type: text/plain'], 'trace'),
  },
  {
    name: '503 to a POST',
    method: 'POST',
    target: '/a',
    body: 'x',
    response: response('503 Service Unavailable', ['Retry-After: 120'], 'busy'),
  },
  { name: '599', method: 'GET', target: '/a', response: response('599 Odd', [], 'odd') },
  {
    name: 'Set-Cookie twice',
    method: 'GET',
    target: '/a',
    response: response('200 OK', [
      'Set-Cookie: a=1; Path=/; HttpOnly',
      'set-cookie: b=2, 3; Expires=Mon, 01 Jan 2024 00:00:00 GMT',
    ]),
  },
  {
    name: 'a field of a response twice',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['X-A: 1', 'Vary: a', 'x-a: 2', 'Vary: b', 'Link: <a>', 'Link: <b>']),
  },
  {
    name: 'an empty field of a response',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['X-Empty: ', 'X-A: b']),
  },
  {
    name: 'UTF-8 in a field of a response',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['Content-Disposition: attachment; filename="\xc3\xa9.txt"']),
  },
  {
    name: 'Latin-1 in a field of a response',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['X-Name: Zo\xeb']),
  },
  {
    name: 'a large field of a response',
    method: 'GET',
    target: '/a',
    response: response('200 OK', [`X-Large: ${LONG}`, `Content-Security-Policy: ${LONG}`]),
  },
  {
    name: '60 fields of a response',
    method: 'GET',
    target: '/a',
    response: response(
      '200 OK',
      Array.from({ length: 60 }, (_, i) => `X-${i}: ${i}`),
    ),
  },
  {
    name: 'fields of the upstream’s connection',
    method: 'GET',
    target: '/a',
    response: response('200 OK', [
      'Connection: keep-alive, X-Hop',
      'X-Hop: 1',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'X-End: 1',
    ]),
  },
  {
    name: 'a response with Date, Server, Age',
    method: 'GET',
    target: '/a',
    response: response('200 OK', [
      'Date: Mon, 01 Jan 2024 00:00:00 GMT',
      'Server: x/1',
      'Age: 3',
      'Expires: 0',
    ]),
  },
  {
    name: 'Via and a request id of the upstream',
    method: 'GET',
    target: '/a',
    response: response('200 OK', ['Via: 1.1 inner', 'X-Request-Id: theirs']),
  },
  {
    name: '103 before 200',
    method: 'GET',
    target: '/a',
    response: `HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n${OK}`,
  },
  { name: '102 before 200', method: 'GET', target: '/a', response: `HTTP/1.1 102 Processing\r\n\r\n${OK}` },
]

const fields = (count: number) => Array.from({ length: count }, (_, i) => `X-${i}: y\r\n`).join('')

/** Responses, as bytes of an upstream, that are malformed or that two readers could understand differently. */
export const MALFORMED: Readonly<Record<string, string>> = {
  'Content-Length and Transfer-Encoding':
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'the same the other way round':
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n',
  'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
  'two equal lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello',
  'a list of lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello',
  'a length with a sign': 'HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello',
  'an empty length': 'HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello',
  'a length beyond all measure': `HTTP/1.1 200 OK\r\nContent-Length: ${2n ** 64n}\r\n\r\nhello`,
  'a folded field': 'HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n',
  'a bare LF after a field': 'HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 0\r\n\r\n',
  'a bare CR in a field': 'HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n',
  'a NUL in a field': 'HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n',
  'a space before the colon': 'HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 0\r\n\r\n',
  'a field without a name': 'HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n',
  'a line without a colon': 'HTTP/1.1 200 OK\r\nwhat\r\nContent-Length: 0\r\n\r\n',
  'a transfer coding that the gateway did not ask for':
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'a transfer coding without an end': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello',
  'chunked twice':
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'more than 16 KiB of header': `HTTP/1.1 200 OK\r\nX-A: ${'b'.repeat(17_000)}\r\nContent-Length: 0\r\n\r\n`,
  'more than 100 fields': `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${fields(100)}\r\n`,
  'an upgrade that nobody asked for':
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  'a status of two digits': 'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n',
  'a status below 100': 'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n',
  'a status above 599': 'HTTP/1.1 600 Odd\r\nContent-Length: 5\r\n\r\nhello',
  'the highest status of three digits': 'HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nhello',
  'another protocol': 'ICY 200 OK\r\nContent-Length: 0\r\n\r\n',
  'a version that there is not': 'HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n',
  'no header at all': 'hello',
}
